//! The frames of RFC 6455 as a client sees them.

/// What a frame is.
pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

/// A whole frame of a server, which never masks them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) opcode: u8,
    pub(super) payload: &'a [u8],
}

/// The first frame, where it is whole, and what is behind it.
pub(super) fn split(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match second & 0x7F {
        126 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        short => (usize::from(short), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((Frame { opcode: first & 0x0F, payload }, rest))
}

/// A frame of a client: masked, as it must be, with the mask that changes nothing.
pub(super) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const FINAL: u8 = 0x80;
    const MASKED: u8 = 0x80;
    let mut frame = vec![FINAL | opcode];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(MASKED | length),
        _ => {
            frame.push(MASKED | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_when_it_is_whole() {
        let mut bytes = b"\x81\x05Hello\x82\x7e\x01\x00".to_vec();
        bytes.extend([7; 256]);
        let (hello, rest) = split(&bytes).unwrap();
        assert_eq!(hello, Frame { opcode: TEXT, payload: b"Hello" });
        assert_eq!(split(rest), Some((Frame { opcode: BINARY, payload: &[7; 256] }, &[][..])));
        for cut in 0..rest.len() {
            assert_eq!(split(&rest[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn what_a_client_sends_is_masked() {
        assert_eq!(masked(PONG, b"x"), b"\x8A\x81\0\0\0\0x");
        let long = masked(TEXT, &[b'x'; 300]);
        assert_eq!(long[..10], *b"\x81\xFF\0\0\0\0\0\0\x01\x2C");
        assert_eq!(long.len(), 10 + 4 + 300);
    }
}
