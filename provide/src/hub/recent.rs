//! The newest ticks of all symbols, kept in memory: the bridge from a replay to the live stream.

use std::{collections::VecDeque, sync::Arc};

use super::{Frame, Position};

/// How many ticks are kept: some 6 MB of text. A client that reconnects within so many ticks is
/// served from here, without asking the broker.
const KEPT: usize = 16_384;

/// Every tick after `floor`, in order, up to the newest.
#[derive(Debug)]
pub(crate) struct Recent {
    floor: u64,
    frames: VecDeque<Arc<Frame>>,
}

impl Recent {
    /// Nothing yet; what follows `floor` will be pushed.
    pub(crate) fn after(floor: u64) -> Self {
        Self { floor, frames: VecDeque::new() }
    }

    /// The sequence after which every tick is here.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// Adds the newest tick; the oldest goes.
    pub(crate) fn push(&mut self, frame: Arc<Frame>) {
        if self.frames.len() == KEPT
            && let Some(oldest) = self.frames.pop_front()
        {
            self.floor = oldest.sequence;
        }
        self.frames.push_back(frame);
    }

    /// Everything from a position on; `None` where not all of it is here any more.
    pub(crate) fn from(&self, position: Position) -> Option<impl Iterator<Item = &Arc<Frame>>> {
        let first = match position {
            Position::After(sequence) => {
                if sequence < self.floor {
                    return None;
                }
                self.frames.partition_point(|frame| frame.sequence <= sequence)
            }
            Position::At(time) => {
                // Only a tick from before that time proves that none of those after it is missing.
                if self.frames.front().is_none_or(|oldest| oldest.stored_at >= time) {
                    return None;
                }
                self.frames.partition_point(|frame| frame.stored_at < time)
            }
        };
        Some(self.frames.range(first..))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::frame::{Encoder, tests::message},
        *,
    };

    #[test]
    fn it_knows_what_it_no_longer_has() {
        let mut recent = Recent::after(10);
        let mut encoder = Encoder::default();
        for sequence in (12..).step_by(2).take(KEPT + 3) {
            recent.push(encoder.encode(&message("A", "1", sequence)).unwrap());
        }
        assert_eq!(recent.floor(), 16);
        let from =
            |position| recent.from(position).map(|mut frames| frames.next().unwrap().sequence);
        assert_eq!(from(Position::After(15)), None);
        assert_eq!(from(Position::After(16)), Some(18));
        assert_eq!(from(Position::After(19)), Some(20));
        let stored_at = |sequence| message("A", "1", sequence).stored_at;
        assert_eq!(from(Position::At(stored_at(18))), None);
        assert_eq!(from(Position::At(stored_at(19))), Some(20));
        assert_eq!(from(Position::At(stored_at(20))), Some(20));
        assert_eq!(recent.from(Position::After(u64::MAX)).unwrap().count(), 0);
    }
}
