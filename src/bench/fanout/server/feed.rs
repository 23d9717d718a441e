//! How ticks come in: two bytes of symbol, two bytes of length, the text of the update; and so on.

/// How much is read at a time: as much as a `BufReader` does, some 45 ticks. It bounds the batch
/// that the floor writes with one system call.
pub(super) const BUFFER: usize = 8 * 1024;

/// What was read and is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Feed {
    bytes: Vec<u8>,
}

/// One tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Update<'a> {
    pub(super) symbol: u16,
    pub(super) text: &'a [u8],
}

impl Feed {
    /// Takes in what was read, and hands on each tick that is whole.
    pub(super) fn take(&mut self, read: &[u8], mut each: impl FnMut(Update<'_>)) {
        self.bytes.extend_from_slice(read);
        let mut rest = self.bytes.as_slice();
        while let Some((update, behind)) = split(rest) {
            each(update);
            rest = behind;
        }
        let done = self.bytes.len() - rest.len();
        self.bytes.drain(..done);
    }
}

fn split(bytes: &[u8]) -> Option<(Update<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let [symbol_high, symbol_low, length_high, length_low] = *head;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let (text, rest) = rest.split_at_checked(length)?;
    Some((Update { symbol: u16::from_be_bytes([symbol_high, symbol_low]), text }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_however_they_are_cut() {
        let bytes = b"\0\x07\0\x02hi\0\x01\0\0\x01\0\0\x01!";
        for cut in 0..bytes.len() {
            let mut feed = Feed::default();
            let mut found = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                feed.take(part, |update| found.push((update.symbol, update.text.to_vec())));
            }
            assert_eq!(found, [(7, b"hi".to_vec()), (1, vec![]), (256, b"!".to_vec())], "{cut}");
        }
    }
}
