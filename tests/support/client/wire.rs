//! Packets of MQTT, and the frames that carry them on a WebSocket.

use super::Protocol;

pub(super) const CONNECT: u8 = 1;
pub(super) const CONNACK: u8 = 2;
pub(super) const PUBLISH: u8 = 3;
pub(super) const PUBACK: u8 = 4;
pub(super) const SUBSCRIBE: u8 = 8;
pub(super) const SUBACK: u8 = 9;
pub(super) const UNSUBSCRIBE: u8 = 10;
pub(super) const UNSUBACK: u8 = 11;
pub(super) const PINGREQ: u8 = 12;
pub(super) const PINGRESP: u8 = 13;
pub(super) const DISCONNECT: u8 = 14;

#[derive(Debug)]
pub(super) struct Packet {
    pub(super) first_byte: u8,
    pub(super) body: Vec<u8>,
}

impl Packet {
    pub(super) fn kind(&self) -> u8 {
        self.first_byte >> 4
    }
}

pub(super) fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first_byte];
    let mut length = body.len();
    loop {
        let more = length > 0x7f;
        packet.push((length & 0x7f) as u8 | u8::from(more) << 7);
        length >>= 7;
        if !more {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// A WebSocket frame of a client with these bytes. Its mask is zero, which leaves them unchanged.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    const BINARY: u8 = 0x82;
    const MASKED: u8 = 0x80;
    let mut frame = vec![BINARY];
    match u16::try_from(payload.len()).expect("a packet of up to 65535 bytes") {
        length @ 0..126 => frame.push(MASKED | length as u8),
        length => {
            frame.push(MASKED | 126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The payload of the WebSocket frame at the start of `received` and the frame's length, once all of it has come. The
/// payload of a control frame counts as empty, since it is not MQTT.
pub(super) fn parse_frame(received: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (first_byte, length) = (*received.first()?, *received.get(1)?);
    let (start, length) = match length {
        126 => (4, usize::from(u16::from_be_bytes([*received.get(2)?, *received.get(3)?]))),
        127 => panic!("a frame of more than 65535 bytes"),
        length => (2, usize::from(length)),
    };
    let payload = received.get(start..start + length)?;
    let is_control = first_byte & 8 != 0;
    Some((if is_control { Vec::new() } else { payload.to_vec() }, start + length))
}

pub(super) fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(u16::try_from(bytes.len()).expect("a field of up to 65535 bytes").to_be_bytes());
    body.extend_from_slice(bytes);
}

pub(super) fn put_no_properties(body: &mut Vec<u8>, protocol: Protocol) {
    if protocol == Protocol::V5 {
        body.push(0);
    }
}

pub(super) fn take_bytes(body: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    body[2..].split_at(length)
}

/// A variable byte integer at the start of `bytes`, and how many bytes it takes.
pub(super) fn take_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, index + 1));
        }
    }
    None
}

/// The packet at the start of `received` and its length, once all of it has come.
pub(super) fn parse(received: &[u8]) -> Option<(Packet, usize)> {
    let (first_byte, rest) = received.split_first()?;
    let (length, size) = take_length(rest)?;
    let body = rest.get(size..size + length)?;
    Some((Packet { first_byte: *first_byte, body: body.to_vec() }, 1 + size + length))
}
