//! Further fields of a request (`auth_fields`, `acl_fields`), which stand as JSON behind those of the contract.

mod certificate;

use serde::Serialize;

use crate::broker::Details;
use crate::config::Field;
pub use certificate::Certificates;

/// What is known when a question comes up.
pub struct FieldSource<'a> {
    /// The client id.
    pub client_id: &'a str,
    /// The peer's address, if it has one.
    pub address: Option<&'a str>,
    /// What else the broker tells of the client.
    pub details: &'a dyn Details,
    /// Of a message or subscription, its quality of service and whether it has the retain flag.
    pub message: Option<(u8, bool)>,
}

/// The fields as JSON, each with a comma in front; `null` where something is not known. Empty for no fields.
/// `certificates` reads certificates; without it there is none.
pub fn json(fields: &[Field], known: &FieldSource<'_>, certificates: Option<&Certificates>) -> String {
    let mut text = String::new();
    if fields.is_empty() {
        return text;
    }
    let certificates = certificates.filter(|_| fields.iter().any(|field| field.is_of_certificate()));
    let certificate = certificates.and_then(|certificates| certificates.of(known.details));
    let certificate = certificate.as_deref();
    for field in fields {
        let name = field.name();
        match field {
            Field::ClientId => push(&mut text, name, known.client_id),
            Field::Address => push(&mut text, name, known.address),
            Field::Protocol => {
                let uses_websockets = known.details.uses_websockets();
                push(&mut text, name, if uses_websockets { "websockets" } else { "mqtt" });
            }
            Field::ProtocolVersion => push(&mut text, name, version(known.details.level())),
            Field::CleanStart => push(&mut text, name, known.details.starts_clean()),
            Field::KeepAlive => push(&mut text, name, known.details.keepalive()),
            Field::ListenerPort => push(&mut text, name, known.details.listener_port()),
            Field::TlsCommonName => {
                push(&mut text, name, certificate.and_then(|it| it.common_name.as_deref()));
            }
            Field::TlsSubject => push(&mut text, name, certificate.map(|it| &*it.subject)),
            Field::TlsSerial => push(&mut text, name, certificate.map(|it| &*it.serial)),
            Field::TlsFingerprint => push(&mut text, name, certificate.map(|it| &*it.fingerprint)),
            Field::Qos => push(&mut text, name, known.message.map(|(qos, _)| qos)),
            Field::Retain => push(&mut text, name, known.message.map(|(_, retain)| retain)),
        }
    }
    text
}

/// The version of MQTT by the level in its CONNECT.
fn version(level: u8) -> Option<&'static str> {
    match level {
        3 => Some("3.1"),
        4 => Some("3.1.1"),
        5 => Some("5"),
        _ => None,
    }
}

/// Adds a field. Texts, numbers and flags can always be written; if one ever cannot, it is `null`, which no API takes for
/// something else.
fn push(text: &mut String, name: &str, value: impl Serialize) {
    let value = serde_json::to_string(&value).unwrap_or_else(|_| "null".to_owned());
    text.reserve(name.len() + value.len() + 4);
    text.push_str(",\"");
    text.push_str(name);
    text.push_str("\":");
    text.push_str(&value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Field;

    #[derive(Debug)]
    struct Sensor;

    impl Details for Sensor {
        fn uses_websockets(&self) -> bool {
            true
        }
        fn level(&self) -> u8 {
            4
        }
        fn starts_clean(&self) -> bool {
            false
        }
        fn keepalive(&self) -> Option<u16> {
            Some(60)
        }
        fn listener_port(&self) -> Option<u16> {
            Some(8883)
        }
    }

    fn more(details: &dyn Details, address: Option<&str>, fields: &[Field]) -> String {
        let known = FieldSource { client_id: "a\"b\u{1}", address, details, message: Some((1, true)) };
        json(fields, &known, None)
    }

    #[test]
    fn the_fields_have_their_types_and_are_null_where_nothing_is_known() {
        assert_eq!(more(&Sensor, Some("10.0.0.1"), &[]), "");
        let text = more(&Sensor, Some("10.0.0.1"), Field::ALL);
        let all: serde_json::Value = serde_json::from_str(&format!("{{{}}}", &text[1..])).unwrap();
        let expected = serde_json::json!({
            "clientid": "a\"b\u{1}", "address": "10.0.0.1", "protocol": "websockets", "protocol_version": "3.1.1",
            "clean_start": false, "keepalive": 60, "listener_port": 8883, "tls_common_name": null, "tls_subject": null,
            "tls_serial": null, "tls_fingerprint": null, "qos": 1, "retain": true,
        });
        assert_eq!(all, expected);
        assert!(
            text.starts_with(r#","clientid":"a\"b\u0001","address":"10.0.0.1","protocol":"websockets","#)
        );
        let unknown = more(&(), None, &[Field::Address, Field::ProtocolVersion, Field::ListenerPort]);
        assert_eq!(unknown, r#","address":null,"protocol_version":null,"listener_port":null"#);
    }
}
