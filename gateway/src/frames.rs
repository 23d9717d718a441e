//! Where WebSocket frames end in a stream of bytes (RFC 6455, section 5.2), without looking at
//! what is in them: a frame of our own may only go between two others.

use bytes::{BufMut, Bytes, BytesMut};

/// Follows the frames that a server sends.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; 14],
    header_read: usize,
    payload_left: u64,
    inside_message: bool,
    closed: bool,
}

impl Frames {
    /// Whether a frame may begin here.
    pub(crate) fn at_boundary(&self) -> bool {
        self.header_read == 0 && self.payload_left == 0
    }

    /// Whether a message may begin here: not between its fragments, and not after a close.
    pub(crate) fn between_messages(&self) -> bool {
        self.at_boundary() && !self.inside_message && !self.closed
    }

    /// Whether a close frame has passed.
    pub(crate) fn closed(&self) -> bool {
        self.closed
    }

    /// Follows all these bytes.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = self.step(bytes);
        }
    }

    /// Follows these bytes to the first end of a frame, and says how many that are: all of them
    /// where none ends.
    pub(crate) fn follow_to_boundary(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && !self.at_boundary() {
            rest = self.step(rest);
        }
        bytes.len() - rest.len()
    }

    /// Follows one byte of a header, or as much of a payload as there is. `bytes` is not empty.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.payload_left > 0 {
            let here = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
            self.payload_left -= here as u64;
            return &bytes[here..];
        }
        // A header is at most 14 bytes, and begins anew once it is complete.
        self.header[self.header_read] = bytes[0];
        self.header_read += 1;
        if self.header_read >= 2 && self.header_read == self.header_length() {
            self.begin_payload();
        }
        &bytes[1..]
    }

    fn header_length(&self) -> usize {
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + mask
    }

    fn begin_payload(&mut self) {
        let [first, second, a, b, c, d, e, f, g, h, ..] = self.header;
        self.payload_left = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        };
        self.header_read = 0;
        match (first & 0x80 != 0, first & 0x0f) {
            (_, 0x8) => self.closed = true,
            (_, 0x9..) => {}
            (is_final, _) => self.inside_message = !is_final,
        }
    }
}

/// A text message of a server in one frame. Of a text above 125 bytes nothing is sent.
pub(crate) fn text(text: &str) -> Bytes {
    short_frame(0x81, text.as_bytes())
}

/// A binary message of a server in one frame. Of one above 125 bytes nothing is sent.
pub(crate) fn binary(payload: &[u8]) -> Bytes {
    short_frame(0x82, payload)
}

/// A close frame of a server (RFC 6455, section 5.5.1). Of a reason above 123 bytes nothing is
/// sent.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    short_frame(0x88, &payload)
}

fn short_frame(first: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(2 + payload.len());
    if let Some(length) = u8::try_from(payload.len()).ok().filter(|length| *length <= 125) {
        frame.put_u8(first);
        frame.put_u8(length);
        frame.put_slice(payload);
    }
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(length as u8),
            126..=0xffff => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + length, 0x81);
        frame
    }

    #[test]
    fn boundaries_are_found_however_the_bytes_are_cut() {
        let frames = [0, 1, 125, 126, 300, 65_535, 65_536].map(|length| frame(0x82, length));
        let stream = frames.concat();
        for cut in [1, 2, 3, 7, 1_000, stream.len()] {
            let mut followed = Frames::default();
            for bytes in stream.chunks(cut) {
                followed.follow(bytes);
            }
            assert!(followed.between_messages(), "cut by {cut}");
        }
        let mut half = Frames::default();
        half.follow(&frames[4][..100]);
        assert!(!half.at_boundary());
        assert_eq!(half.follow_to_boundary(&[&frames[4][100..], &frames[0]].concat()), 204);
        assert!(half.at_boundary());
    }

    #[test]
    fn a_control_frame_may_go_between_fragments_and_a_message_may_not() {
        let mut frames = Frames::default();
        frames.follow(&frame(0x01, 10));
        assert!(frames.at_boundary() && !frames.between_messages());
        frames.follow(&frame(0x89, 3));
        assert!(!frames.between_messages());
        frames.follow(&frame(0x80, 5));
        assert!(frames.between_messages());
        frames.follow(&close(1_000, ""));
        assert!(frames.closed() && !frames.between_messages());
    }

    #[test]
    fn our_own_frames_are_frames() {
        assert_eq!(&close(1_001, "bye")[..], b"\x88\x05\x03\xe9bye");
        assert_eq!(&text("{}")[..], b"\x81\x02{}");
    }
}
