//! Reads MQTT packets from bytes that the broker has not taken yet. The bytes may be anything: the middle of a packet,
//! another protocol, an attack. Reading ends at the first that is not MQTT 3.1, 3.1.1 or 5.
use crate::topic;

/// A packet that raises a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A CONNECT. It can only be a client's first packet: at a second one the broker ends the connection.
    Connect {
        /// The protocol level: 3, 4 or 5. The format of the client's other packets depends on it.
        level: u8,
        /// Whether it starts without the session that it had before.
        starts_clean: bool,
        /// The keep alive in seconds.
        keepalive: u16,
        /// The client id. If it is empty, the broker makes one up.
        client_id: &'a str,
        /// The username, if it has one.
        username: Option<&'a str>,
        /// The password, if it has one: any bytes.
        password: Option<&'a [u8]>,
    },
    /// A SUBSCRIBE, with its filters.
    Subscribe(Vec<&'a str>),
    /// A PUBLISH to this topic.
    Publish(&'a str),
}

/// Reads packets from the first byte on, up to a packet that is incomplete or at which the broker stops reading.
/// `level` is the protocol level of the connection, if it is known; a CONNECT sets it.
pub fn packets(bytes: &[u8], mut level: Option<u8>) -> Vec<Packet<'_>> {
    let mut packets = Vec::new();
    let mut rest = Reader(bytes);
    while let Some((first, body)) = rest.packet() {
        let packet = match (first >> 4, first & 0x0F, level) {
            (1, 0, _) if packets.is_empty() => connect(body),
            (8, 2, Some(level)) => subscribe(body, level),
            (3, flags, Some(_)) => publish(body, flags),
            // The other packets that a client may send raise no question. (A DISCONNECT, 14, ends the reading.)
            (4..=7 | 10 | 12 | 15, _, Some(_)) => continue,
            _ => None,
        };
        let Some(packet) = packet else { break };
        if let Packet::Connect { level: its, .. } = packet {
            level = Some(its);
        }
        packets.push(packet);
    }
    packets
}

/// How long the CONNECT is with which these bytes begin, if that has this username and password. A password may have been
/// cut at its first NUL.
pub fn length_of_connect(bytes: &[u8], username: &str, password: Option<&[u8]>) -> Option<usize> {
    let mut rest = Reader(bytes);
    let (first, body) = rest.packet()?;
    let Packet::Connect { username: its_name, password: its_password, .. } = connect(body)? else {
        return None;
    };
    let is_its = first == 1 << 4
        && its_name == Some(username)
        && its_password.unwrap_or_default().starts_with(password.unwrap_or_default());
    is_its.then(|| bytes.len() - rest.0.len())
}

fn connect(mut body: Reader<'_>) -> Option<Packet<'_>> {
    let level = match (body.text()?, body.byte()?) {
        ("MQIsdp", 3) => 3,
        ("MQTT", level @ (4 | 5)) => level,
        _ => return None,
    };
    let flags = body.byte()?;
    let (has_username, has_password, has_will) = (flags & 0x80 != 0, flags & 0x40 != 0, flags & 0x04 != 0);
    // The lowest bit is reserved.
    if flags & 1 != 0 {
        return None;
    }
    let keepalive = body.take(2)?.try_into().map(u16::from_be_bytes).ok()?;
    if level == 5 && body.properties()?.has_authentication_method()? {
        // Extended authentication is decided by other plugins.
        return None;
    }
    let client_id = body.text()?;
    if has_will {
        if level == 5 {
            body.properties()?;
        }
        body.text()?;
        body.binary()?;
    }
    let username = if has_username { Some(body.text()?) } else { None };
    let password = if has_password { Some(body.binary()?) } else { None };
    body.0.is_empty().then_some(Packet::Connect {
        level,
        starts_clean: flags & 0x02 != 0,
        keepalive,
        client_id,
        username,
        password,
    })
}

fn subscribe(body: Reader<'_>, level: u8) -> Option<Packet<'_>> {
    let filters = filters(body.0, level);
    let is_whole = filters.last().is_some_and(|(_, end)| *end == body.0.len());
    is_whole.then(|| Packet::Subscribe(filters.into_iter().map(|(filter, _)| filter).collect()))
}

/// The filters of a SUBSCRIBE whose body these bytes begin with, as far as they read as such, and where each of them
/// ends, with its options.
pub fn filters(body: &[u8], level: u8) -> Vec<(&str, usize)> {
    let mut rest = Reader(body);
    let head = rest.take(2).and_then(|_| if level == 5 { rest.properties().map(drop) } else { Some(()) });
    let mut next = move || {
        let filter = rest.text().filter(|filter| topic::is_valid_filter(filter))?;
        rest.byte()?;
        Some((filter, body.len() - rest.0.len()))
    };
    head.map_or_else(Vec::new, |()| std::iter::from_fn(&mut next).collect())
}

fn publish(mut body: Reader<'_>, flags: u8) -> Option<Packet<'_>> {
    if flags & 0x06 == 0x06 {
        return None;
    }
    // An empty topic is not valid here: in MQTT 5 it stands for an alias, which only the broker knows.
    let is_valid = |topic: &&str| topic::is_valid_filter(topic) && !topic.contains(topic::WILDCARDS);
    let topic = body.text().filter(is_valid)?;
    Some(Packet::Publish(topic))
}

/// The bytes that are still to be read. Each method takes a value from the front, or returns `None` if the bytes do not
/// begin with one.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The first byte and the body of the next packet, if it is whole.
    fn packet(&mut self) -> Option<(u8, Reader<'a>)> {
        let first = self.byte()?;
        let length = self.variable_length()?;
        Some((first, Reader(self.take(length)?)))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// A number of one to four bytes with seven bits each (MQTT 5.0, section 1.5.5).
    fn variable_length(&mut self) -> Option<usize> {
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(length);
            }
        }
        None
    }

    /// Bytes behind their length of two bytes.
    fn binary(&mut self) -> Option<&'a [u8]> {
        let length = self.take(2)?;
        self.take(usize::from(u16::from_be_bytes([length[0], length[1]])))
    }

    /// UTF-8 text behind its length of two bytes, without a null character (MQTT 5.0, section 1.5.4).
    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.binary()?).ok().filter(|text| !text.contains('\0'))
    }

    /// The properties of an MQTT 5 packet, behind their length.
    fn properties(&mut self) -> Option<Reader<'a>> {
        let length = self.variable_length()?;
        self.take(length).map(Reader)
    }

    /// Whether one of these properties of a CONNECT names a method of extended authentication (MQTT 5.0, section
    /// 3.1.2.11).
    fn has_authentication_method(mut self) -> Option<bool> {
        while !self.0.is_empty() {
            match self.byte()? {
                0x15 => return Some(true),
                0x17 | 0x19 => self.take(1).map(drop)?,
                0x21 | 0x22 => self.take(2).map(drop)?,
                0x11 | 0x27 => self.take(4).map(drop)?,
                0x16 => self.binary().map(drop)?,
                0x26 => self.binary().and(self.binary()).map(drop)?,
                _ => return None,
            }
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONNECT_3: &[u8] = b"\x10\x12\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x04abcd";
    const CONNECT_4: &[u8] = b"\x10\x18\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02id\x00\x03joe\x00\x03\xff\x00p";
    const CONNECT_5: &[u8] =
        b"\x10\x26\x00\x04MQTT\x05\xc6\x00\x3c\x05\x11\x00\x00\x00\x0a\x00\x02id\x00\x00\x01w\x00\x02hi\x00\x03joe\x00\x03pwd";
    const SUBSCRIBE_4: &[u8] = b"\x82\x0e\x00\x01\x00\x03a/#\x00\x00\x03b/+\x01";
    const SUBSCRIBE_5: &[u8] = b"\x82\x0b\x00\x01\x02\x0b\x01\x00\x03a/#\x00";
    const PUBLISH: &[u8] = b"\x32\x0a\x00\x03a/b\x00\x07xyz";

    #[test]
    fn the_end_of_a_connect_is_found() {
        const CONNECT: &[u8] = b"\x10\x18\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02id\x00\x03joe\x00\x03pw\x00";
        let behind = [CONNECT, b"\xe0\x00\x00"].concat();
        for password in [&b"pw\0"[..], b"pw", b""] {
            assert_eq!(length_of_connect(&behind, "joe", Some(password)), Some(CONNECT.len()));
        }
        assert_eq!(length_of_connect(&behind, "joe", None), Some(CONNECT.len()));
        assert_eq!(length_of_connect(CONNECT, "joe", Some(b"pw")), Some(CONNECT.len()));
        assert_eq!(length_of_connect(&behind, "joe", Some(b"other")), None);
        assert_eq!(length_of_connect(&behind, "jo", Some(b"pw")), None);
        assert_eq!(length_of_connect(&CONNECT[..20], "joe", Some(b"pw")), None, "not whole");
        assert_eq!(length_of_connect(&behind[26..], "joe", Some(b"pw")), None);
    }

    #[test]
    fn packets_of_every_version_are_read() {
        let Packet::Connect { level, client_id, username, password, .. } = &packets(CONNECT_4, None)[0]
        else {
            panic!("no CONNECT")
        };
        assert_eq!((*level, *client_id, *username), (4, "id", Some("joe")));
        assert_eq!(*password, Some(b"\xff\0p".as_slice()));
        assert!(matches!(
            packets(CONNECT_3, None)[..],
            [Packet::Connect { level: 3, client_id: "abcd", .. }]
        ));
        assert!(matches!(
            packets(CONNECT_5, None)[..],
            [Packet::Connect { level: 5, username: Some("joe"), password: Some(b"pwd"), .. }]
        ));
        assert_eq!(packets(SUBSCRIBE_4, Some(4)), [Packet::Subscribe(vec!["a/#", "b/+"])]);
        assert_eq!(packets(SUBSCRIBE_5, Some(5)), [Packet::Subscribe(vec!["a/#"])]);
        assert_eq!(packets(PUBLISH, Some(4)), [Packet::Publish("a/b")]);
    }

    #[test]
    fn packets_behind_each_other_are_read_up_to_the_one_that_is_not_whole() {
        let ping = b"\xc0\x00";
        let bytes = [CONNECT_4, SUBSCRIBE_4, ping, PUBLISH, &PUBLISH[..5]].concat();
        assert_eq!(packets(&bytes, None).len(), 3);
    }

    #[test]
    fn nothing_is_read_behind_what_ends_a_connection() {
        let disconnect = b"\xe0\x00".as_slice();
        let bad_filter = b"\x82\x08\x00\x01\x00\x03a#b\x00".as_slice();
        let from_a_broker = b"\xd0\x00".as_slice();
        for end in [disconnect, CONNECT_4, CONNECT_5, bad_filter, from_a_broker] {
            let bytes = [CONNECT_4, PUBLISH, end, PUBLISH].concat();
            assert_eq!(packets(&bytes, None).len(), 2, "{end:?}");
            assert_eq!(packets(&[PUBLISH, end, PUBLISH].concat(), Some(4)).len(), 1, "{end:?}");
        }
    }

    #[test]
    fn extended_authentication_is_left_to_others() {
        let connect = |properties: &[u8]| {
            let length = u8::try_from(properties.len()).expect("few");
            let body =
                [b"\x00\x04MQTT\x05\xc2\x00\x3c", &[length][..], properties, b"\x00\x02id\x00\x01u\x00\x01p"];
            let body = body.concat();
            [&[0x10, u8::try_from(body.len()).expect("short")][..], &body, PUBLISH].concat()
        };
        let others = b"\x11\x00\x00\x00\x0a\x21\x00\x05\x27\x00\x01\x00\x00\x22\x00\x05\x19\x01\x17\x01\x26\x00\x01k\x00\x01v";
        assert_eq!(packets(&connect(others), None).len(), 2);
        let method = [others.as_slice(), b"\x15\x00\x05SCRAM\x16\x00\x01x"].concat();
        assert_eq!(packets(&connect(&method), None), []);
        assert_eq!(packets(&connect(b"\x7f"), None), []);
    }

    #[test]
    fn what_is_no_mqtt_is_not_read() {
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".as_slice(),
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n",
            b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a",
            b"",
        ] {
            assert_eq!(packets(bytes, None), [], "{bytes:?}");
        }
        // Without a CONNECT it is not known how they read.
        assert_eq!(packets(SUBSCRIBE_4, None), []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300), level in prop::option::of(0..9u8)) {
            packets(&bytes, level);
        }

        #[test]
        fn damaged_packets_are_taken(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = [CONNECT_5, SUBSCRIBE_5, PUBLISH].concat();
            for (index, byte) in damage {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            packets(&bytes[..cut.index(bytes.len())], None);
        }
    }
}
