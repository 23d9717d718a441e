//! Whole messages, deflated and inflated (RFC 7692, section 7.2), each by itself: nothing of one is
//! needed for the next (`no_context_takeover`), so a compressed message can be shared by many.

use std::cell::RefCell;

use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress, Status};

use super::Fault;

/// What every deflated message ends in, and what is therefore not sent.
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// How long a message times its receivers has to be to be worth deflating, in bytes. It takes some
/// 15 µs, however short the message is: at 1 Gbit/s that is as long as 2 KB take. And it is worth
/// something: one price of 169 bytes becomes 142, but two in one message 56% of their length, ten
/// 27% and a hundred 18%, and a `subscribed` with 50 symbols 48%.
const WORTH: usize = 2_048;

/// The first buffer for what is inflated.
const FIRST_BYTES: usize = 1_024;

/// Deflates messages. It holds some 300 KiB: one serves many connections.
#[derive(Debug)]
pub struct Deflater {
    stream: Compress,
}

impl Default for Deflater {
    fn default() -> Self {
        Self { stream: Compress::new(Level::fast(), false) }
    }
}

impl Deflater {
    /// The payload of a compressed frame.
    pub fn squeeze(&mut self, message: &[u8]) -> Vec<u8> {
        self.stream.reset();
        // More than any message can become, so that one call does all of it.
        let mut deflated = Vec::with_capacity(message.len() + message.len() / 8 + 64);
        // It fails only where a stream was ended before, which these never are.
        let _ = self.stream.compress_vec(message, &mut deflated, FlushCompress::Sync);
        deflated.truncate(deflated.len().saturating_sub(TAIL.len()));
        deflated
    }
}

thread_local! {
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

/// A message that goes to so many receivers as the payload of a compressed frame; `None` where that
/// is not worth it, or does not become shorter. Each thread has one deflater for all.
pub fn deflate(message: &[u8], receivers: usize) -> Option<Vec<u8>> {
    if message.len().saturating_mul(receivers) < WORTH {
        return None;
    }
    let deflated = DEFLATER.with_borrow_mut(|deflater| deflater.squeeze(message));
    (deflated.len() < message.len()).then_some(deflated)
}

/// The message that a compressed one stands for, of at most `max` bytes.
pub(super) fn inflate(mut deflated: Vec<u8>, max: usize) -> Result<Vec<u8>, Fault> {
    deflated.extend_from_slice(&TAIL);
    let mut stream = Decompress::new(false);
    let mut input = &deflated[..];
    let mut message = Vec::new();
    loop {
        if message.len() == message.capacity() {
            // One byte more than allowed shows that there is too much.
            reserve(&mut message, FIRST_BYTES, max + 1);
        }
        let (read, written) = (stream.total_in(), message.len());
        let status = stream
            .decompress_vec(input, &mut message, FlushDecompress::Sync)
            .map_err(|_| Fault::NotDeflate)?;
        let taken = usize::try_from(stream.total_in() - read).unwrap_or(input.len());
        input = &input[taken..];
        if message.len() > max {
            return Err(Fault::TooLong(max));
        }
        let is_stuck = taken == 0 && message.len() == written;
        match status {
            // A last block ends a DEFLATE stream, not the message (RFC 7692, section 7.2.3.4).
            Status::StreamEnd if !input.is_empty() => stream.reset(false),
            Status::StreamEnd => return Ok(message),
            Status::Ok | Status::BufError
                if input.is_empty() && message.len() < message.capacity() =>
            {
                return Ok(message);
            }
            Status::Ok | Status::BufError if is_stuck => return Err(Fault::NotDeflate),
            Status::Ok | Status::BufError => {}
        }
    }
}

/// Makes room for `more` bytes: by doubling, as a vector does, but never for more than `max`.
pub(super) fn reserve(bytes: &mut Vec<u8>, more: usize, max: usize) {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        let target = needed.max(2 * bytes.capacity()).min(max.max(bytes.len()));
        bytes.reserve_exact(target - bytes.len());
    }
}
