//! The opaque cursor of `GET /ticks/{symbol}`: the place of the last tick of a page.
//!
//! A place, not a count: ticks that are added meanwhile move nothing.

use crate::store::Position;

/// 16 hexadecimal digits of event time, 16 of sequence.
pub(super) fn write(position: Position) -> String {
    format!("{:016x}{:016x}", position.ts_ns, position.seq)
}

/// Reads what [`write`] wrote.
pub(super) fn read(text: &str) -> Option<Position> {
    let is_hexadecimal = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let (ts_ns, seq) = is_hexadecimal.then(|| text.split_at(16))?;
    let number = |digits| u64::from_str_radix(digits, 16).ok().map(u64::cast_signed);
    Some(Position { ts_ns: number(ts_ns)?, seq: number(seq)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_nothing_else_does() {
        for (ts_ns, seq) in [(0, 0), (i64::MIN, i64::MAX), (-1, 7), (1_700_000_000_000_000_001, 9)]
        {
            let position = Position { ts_ns, seq };
            assert_eq!(read(&write(position)), Some(position));
        }
        for text in ["", "7", &"g".repeat(32), &"0".repeat(33), &"é".repeat(16)] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
