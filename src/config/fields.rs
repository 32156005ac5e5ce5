//! Further fields of a request (`auth_fields`, `acl_fields`).

use super::error::Wrong;
use crate::log::quoted;

/// What the API can be told beside the fields of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The client id; a question about a topic has it anyway.
    ClientId,
    /// The address of the peer, a proxy maybe.
    Address,
    /// `mqtt` or `websockets`.
    Protocol,
    /// `3.1`, `3.1.1` or `5`.
    ProtocolVersion,
    /// Whether the client starts without the session that it had before.
    CleanStart,
    /// The client's keep alive, in seconds.
    KeepAlive,
    /// The port of the listener (2.1).
    ListenerPort,
    /// The common name in the client's certificate.
    TlsCommonName,
    /// The subject of the client's certificate, as in RFC 4514.
    TlsSubject,
    /// The serial number of the client's certificate, in hexadecimal digits.
    TlsSerial,
    /// The SHA-256 of the client's certificate, in hexadecimal digits.
    TlsFingerprint,
    /// The quality of service of the message or subscription.
    Qos,
    /// Whether the message has the retain flag.
    Retain,
}

impl Field {
    /// All, in the order in which they stand in a request.
    pub const ALL: &'static [Self] = &[
        Self::ClientId,
        Self::Address,
        Self::Protocol,
        Self::ProtocolVersion,
        Self::CleanStart,
        Self::KeepAlive,
        Self::ListenerPort,
        Self::TlsCommonName,
        Self::TlsSubject,
        Self::TlsSerial,
        Self::TlsFingerprint,
        Self::Qos,
        Self::Retain,
    ];

    /// Its name, in options and in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientId => "clientid",
            Self::Address => "address",
            Self::Protocol => "protocol",
            Self::ProtocolVersion => "protocol_version",
            Self::CleanStart => "clean_start",
            Self::KeepAlive => "keepalive",
            Self::ListenerPort => "listener_port",
            Self::TlsCommonName => "tls_common_name",
            Self::TlsSubject => "tls_subject",
            Self::TlsSerial => "tls_serial",
            Self::TlsFingerprint => "tls_fingerprint",
            Self::Qos => "qos",
            Self::Retain => "retain",
        }
    }

    /// Whether it is read from the client's certificate.
    pub fn is_of_certificate(self) -> bool {
        matches!(self, Self::TlsCommonName | Self::TlsSubject | Self::TlsSerial | Self::TlsFingerprint)
    }
}

/// Parses the fields of a question about a login, separated by commas.
pub(super) fn auth_fields(text: &str) -> Result<Vec<Field>, Wrong> {
    fields(text, |field| match field {
        Field::Qos | Field::Retain => Some("only a question about a topic has it, see acl_fields"),
        _ => None,
    })
}

/// Parses the fields of a question about a topic.
pub(super) fn acl_fields(text: &str) -> Result<Vec<Field>, Wrong> {
    fields(text, |field| (field == Field::ClientId).then_some("each question about a topic has it already"))
}

/// Parses fields. The result has the order of [`Field::ALL`], without repetition.
fn fields(text: &str, why_not: impl Fn(Field) -> Option<&'static str>) -> Result<Vec<Field>, Wrong> {
    let field = |word: &str| {
        let field = Field::ALL.iter().copied().find(|field| field.name() == word).ok_or(Wrong::Value)?;
        match why_not(field) {
            Some(why) => Err(Wrong::Because(format!("found {}: {why}", quoted(word)))),
            None => Ok(field),
        }
    };
    let mut fields = text.split(',').map(|word| field(word.trim())).collect::<Result<Vec<_>, _>>()?;
    fields.sort_unstable();
    fields.dedup();
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_one_order_and_once() {
        let fields = auth_fields("tls_serial, address,clientid ,address").unwrap();
        assert_eq!(fields, [Field::ClientId, Field::Address, Field::TlsSerial]);
        assert!(Field::ALL.is_sorted());
        for text in ["", "clientid,", "ip", "clientid;address", "CLIENTID"] {
            assert!(matches!(auth_fields(text), Err(Wrong::Value)), "{text}");
        }
        assert!(matches!(auth_fields("qos"), Err(Wrong::Because(_))));
        assert!(matches!(acl_fields("qos,clientid"), Err(Wrong::Because(_))));
        assert_eq!(acl_fields("retain,qos").unwrap(), [Field::Qos, Field::Retain]);
    }
}
