//! The broker's result codes.

use std::ffi::c_int;

use super::sys::{self, mosq_err_t};
use crate::plugin::{Decision, Refusal, Ruling};

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
    /// At a login, since 2.1: MQTT 5 clients are told "server unavailable", older ones "not authorised". At a topic check
    /// nothing is sent for it: the connection just ends. 2.1 has words for it in its log, 2.0 calls it unknown.
    const UNAVAILABLE: Self = Self(sys::MHA_ERR_SERVER_UNAVAILABLE.cast_signed());
    /// Since 2.1: MQTT 5 clients are told "server busy", older ones "not authorised".
    const BUSY: Self = Self(sys::MHA_ERR_SERVER_BUSY.cast_signed());
    /// At this, as at every code of a login that a broker does not know, it ends the connection without a CONNACK.
    const UNKNOWN: Self = Self(mosq_err_t::MOSQ_ERR_UNKNOWN);

    /// The answer to MOSQ_EVT_BASIC_AUTH. `Later` is only for brokers from 2.1 on.
    pub(super) fn of_login(decision: &Decision, speaks_mqtt_5: bool, is_2_1: bool) -> Self {
        match (decision.ruling, decision.refusal()) {
            (Ruling::Allow, _) => Self::SUCCESS,
            (Ruling::Defer, _) => Self::DEFER,
            (Ruling::Later, _) => Self::DELAYED,
            (Ruling::Deny | Ruling::Disconnect | Ruling::Unavailable, Refusal::NotAuthorised) => Self::AUTH,
            // There is no code for the others that would not tell the client that it is not authorised.
            _ if !(speaks_mqtt_5 && is_2_1) => Self::UNKNOWN,
            (_, Refusal::Unavailable) => Self::UNAVAILABLE,
            (_, Refusal::Busy) => Self::BUSY,
        }
    }

    /// The answer to MOSQ_EVT_ACL_CHECK. On a PUBLISH any other code than these three disconnects the client.
    pub(super) fn of_topic_check(ruling: Ruling) -> Self {
        match ruling {
            Ruling::Allow => Self::SUCCESS,
            Ruling::Defer => Self::DEFER,
            Ruling::Disconnect => Self::AUTH,
            Ruling::Unavailable => Self::UNAVAILABLE,
            // No broker lets a topic check wait.
            Ruling::Deny | Ruling::Later => Self::ACL_DENIED,
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
    use crate::plugin::By;
    use crate::question::{Grounds, NoAnswer};

    const BROKERS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

    #[test]
    fn nothing_but_an_allow_is_success() {
        let login = |ruling, by: By| {
            BROKERS.map(|(mqtt_5, is_2_1)| {
                Code::of_login(&Decision::new(ruling, by.clone()), mqtt_5, is_2_1) == Code::SUCCESS
            })
        };
        for by in
            [By::Bug, By::TooManyWait, By::NoAnswer(NoAnswer::BreakerOpen), By::LocalPassword, By::Parked]
        {
            for ruling in
                [Ruling::Deny, Ruling::Defer, Ruling::Later, Ruling::Disconnect, Ruling::Unavailable]
            {
                assert_eq!(login(ruling, by.clone()), [false; 4], "{ruling:?} by {by:?}");
                assert_ne!(Code::of_topic_check(ruling), Code::SUCCESS);
            }
            assert_eq!(login(Ruling::Allow, by), [true; 4]);
        }
        assert_eq!(Code::of_topic_check(Ruling::Allow), Code(0));
    }

    #[test]
    fn no_answer_is_told_apart_from_no() {
        let codes = |by: By| {
            let decision = Decision::deny(by);
            BROKERS.map(|(mqtt_5, is_2_1)| Code::of_login(&decision, mqtt_5, is_2_1).0)
        };
        assert_eq!(codes(By::Api { grounds: Grounds::Status(403) }), [11; 4]);
        assert_eq!(codes(By::NoAnswer(NoAnswer::Status(503))), [13, 13, 13, 0x88]);
        assert_eq!(codes(By::NoAnswer(NoAnswer::BudgetSpent)), [13, 13, 13, 0x89]);
        assert_eq!(codes(By::TooManyWait), [13, 13, 13, 0x89]);
    }

    #[test]
    fn codes_are_those_of_the_interface() {
        let codes = [Code::AUTH, Code::ACL_DENIED, Code::DEFER, Code::ALREADY_EXISTS].map(|code| code.0);
        assert_eq!(codes, [11, 12, 17, 31]);
    }
}
