//! The broker's result codes.

use std::ffi::c_int;

use super::sys::{self, mosq_err_t};
use crate::plugin::Ruling;

/// A result as the broker's functions and callbacks return it (`mosq_err_t` in `mosquitto.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(pub(super) c_int);

impl Code {
    pub(super) const SUCCESS: Self = Self(mosq_err_t::MOSQ_ERR_SUCCESS);
    pub(super) const INVALID: Self = Self(mosq_err_t::MOSQ_ERR_INVAL);
    pub(super) const NOT_SUPPORTED: Self = Self(mosq_err_t::MOSQ_ERR_NOT_SUPPORTED);
    pub(super) const AUTH: Self = Self(mosq_err_t::MOSQ_ERR_AUTH);
    pub(super) const ACL_DENIED: Self = Self(mosq_err_t::MOSQ_ERR_ACL_DENIED);
    pub(super) const DEFER: Self = Self(mosq_err_t::MOSQ_ERR_PLUGIN_DEFER);
    pub(super) const ALREADY_EXISTS: Self = Self(mosq_err_t::MOSQ_ERR_ALREADY_EXISTS);

    /// Since 2.1: the client waits until its login is completed.
    const DELAYED: Self = Self(sys::MHA_ERR_AUTH_DELAYED);
    /// Since 2.1: MQTT 5 clients are told "server busy", older ones "not authorised".
    const BUSY: Self = Self(sys::MHA_ERR_SERVER_BUSY.cast_signed());

    /// The answer to MOSQ_EVT_BASIC_AUTH. `Later` and `Busy` are only for brokers from 2.1 on, which know their codes.
    pub(super) fn of_login(ruling: Ruling) -> Self {
        match ruling {
            Ruling::Allow => Self::SUCCESS,
            Ruling::Deny | Ruling::Disconnect => Self::AUTH,
            Ruling::Defer => Self::DEFER,
            Ruling::Later => Self::DELAYED,
            Ruling::Busy => Self::BUSY,
        }
    }

    /// The answer to MOSQ_EVT_ACL_CHECK. On a PUBLISH any other code than these three disconnects the client.
    pub(super) fn of_topic_check(ruling: Ruling) -> Self {
        match ruling {
            Ruling::Allow => Self::SUCCESS,
            Ruling::Defer => Self::DEFER,
            Ruling::Disconnect => Self::AUTH,
            // No broker lets a topic check wait.
            Ruling::Deny | Ruling::Later | Ruling::Busy => Self::ACL_DENIED,
        }
    }

    /// The answer to MOSQ_EVT_RELOAD, also where the reload failed. Anything but success ends a 2.1 broker, and
    /// anything but "defer" keeps a 2.0 broker from reloading the plugins behind this one.
    pub(super) fn of_reload(is_2_1: bool) -> Self {
        if is_2_1 { Self::SUCCESS } else { Self::DEFER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_an_allow_is_success() {
        for ruling in [Ruling::Deny, Ruling::Defer, Ruling::Later, Ruling::Busy, Ruling::Disconnect] {
            assert_ne!(Code::of_login(ruling), Code::SUCCESS);
            assert_ne!(Code::of_topic_check(ruling), Code::SUCCESS);
        }
        assert_eq!(Code::of_login(Ruling::Allow), Code(0));
        assert_eq!(Code::of_topic_check(Ruling::Allow), Code(0));
    }

    #[test]
    fn codes_are_those_of_the_interface() {
        let codes = [Code::AUTH, Code::ACL_DENIED, Code::DEFER, Code::ALREADY_EXISTS].map(|code| code.0);
        assert_eq!(codes, [11, 12, 17, 31]);
    }
}
