//! What a server sends: finished frames, one a message, not masked.

use bytes::Bytes;

use super::{FIN, MAX_CONTROL, RSV1, opcode};

/// How a message is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}

impl Kind {
    fn opcode(self) -> u8 {
        match self {
            Self::Text => opcode::TEXT,
            Self::Binary => opcode::BINARY,
        }
    }
}

/// A message as one frame. The payload of a text must be UTF-8.
pub fn message(kind: Kind, payload: &[u8]) -> Bytes {
    frame(FIN | kind.opcode(), payload)
}

/// A message as one frame; the payload is what [`Deflater`](super::Deflater) made of it.
pub fn compressed(kind: Kind, deflated: &[u8]) -> Bytes {
    frame(FIN | RSV1 | kind.opcode(), deflated)
}

/// The payload of a whole frame of ours.
pub fn payload(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// A ping; of its payload the first 125 bytes are sent.
pub fn ping(payload: &[u8]) -> Bytes {
    control(opcode::PING, payload)
}

/// The answer to a ping with this payload; the first 125 bytes of it are sent.
pub fn pong(payload: &[u8]) -> Bytes {
    control(opcode::PONG, payload)
}

/// A close with a code of RFC 6455, section 7.4. Of the reason as much is sent as fits.
pub fn close(code: u16, reason: &str) -> Bytes {
    let mut end = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    control(opcode::CLOSE, &payload)
}

/// A close that says nothing, as answer to one that said nothing.
pub fn bare_close() -> Bytes {
    control(opcode::CLOSE, &[])
}

fn control(opcode: u8, payload: &[u8]) -> Bytes {
    frame(FIN | opcode, &payload[..payload.len().min(MAX_CONTROL)])
}

fn frame(first: u8, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(10 + payload.len());
    frame.push(first);
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => frame.push(short),
        (_, Ok(medium)) => {
            frame.push(126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 6455, section 5.7.
        assert_eq!(message(Kind::Text, b"Hello")[..], *b"\x81\x05Hello");
        assert_eq!(ping(b"Hello")[..], *b"\x89\x05Hello");
        assert_eq!(pong(b"Hello")[..], *b"\x8a\x05Hello");
        assert_eq!(message(Kind::Binary, &[7; 256])[..4], [0x82, 0x7E, 0x01, 0x00]);
        let long = message(Kind::Binary, &[7; 65_536]);
        assert_eq!(long[..10], [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(long.len(), 10 + 65_536);
    }

    #[test]
    fn the_length_takes_the_fewest_bytes() {
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = message(Kind::Binary, &vec![7; length]);
            assert_eq!(frame.len(), header + length);
            assert_eq!(payload(&frame), vec![7; length]);
        }
    }

    #[test]
    fn a_compressed_message_is_marked() {
        assert_eq!(compressed(Kind::Text, b"\xf2H\0\0")[..], *b"\xc1\x04\xf2H\0\0");
    }

    #[test]
    fn a_control_frame_is_cut_to_what_it_may_hold() {
        assert_eq!(ping(&[0; 200]).len(), 127);
        assert_eq!(bare_close()[..], [0x88, 0]);
        assert_eq!(close(1000, "bye")[..], *b"\x88\x05\x03\xe8bye");
        let cut = close(1008, &"é".repeat(100));
        assert_eq!(cut.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&cut[4..]).is_ok());
    }
}
