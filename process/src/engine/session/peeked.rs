//! What a session says of its memory to whoever asks.

use super::{
    super::{
        partition,
        peek::{Excerpt, Question},
    },
    Session,
};

impl Session<'_> {
    /// Copies what concerns the symbols that are ours.
    pub(super) fn answer(&self, Question { subject, answer }: Question) {
        // Whoever asked while no session ran has given up.
        if answer.is_closed() {
            return;
        }
        let (elsewhere, ours): (Vec<_>, Vec<_>) = subject.symbols.iter().partition(|symbol| {
            self.share.as_ref().is_some_and(|share| {
                let (payload, count) = (subject.payload.as_ref(), share.partitions.count);
                share.progress.of(partition::of_tick(payload, symbol, count)).is_none()
            })
        });
        let excerpt = Excerpt {
            state: self.state.excerpt(ours.into_iter(), &subject.ids),
            sequence: self.seen + 1,
            elsewhere: elsewhere.into_iter().cloned().collect(),
        };
        // An error means that nobody waits any more.
        let _ = answer.send(excerpt);
    }
}
