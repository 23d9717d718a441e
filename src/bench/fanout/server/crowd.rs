//! Who follows which symbol, and what each has to be written of a batch of frames.

use std::{
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Scenario, feed::Update, handshake};

/// The clients, each known by `C`.
#[derive(Debug)]
pub(super) struct Crowd<C> {
    members: Vec<Member<C>>,
    followers: Vec<Vec<usize>>,
    waiting: Vec<usize>,
}

#[derive(Debug)]
struct Member<C> {
    client: C,
    /// What it is to get of the batch: parts of its bytes.
    parts: Vec<Range<usize>>,
}

impl<C> Crowd<C> {
    pub(super) fn new(scenario: Scenario) -> Mutex<Self> {
        let followers = (0..scenario.symbols()).map(|_| Vec::new()).collect();
        Mutex::new(Self { members: Vec::new(), followers, waiting: Vec::new() })
    }

    pub(super) fn join(&mut self, client: C, symbols: &[u16]) {
        for symbol in symbols {
            if let Some(followers) = self.followers.get_mut(usize::from(*symbol)) {
                followers.push(self.members.len());
            }
        }
        self.members.push(Member { client, parts: Vec::new() });
    }

    /// Adds an update to a batch of frames, and notes who is to get it.
    pub(super) fn add(&mut self, frames: &mut Vec<u8>, update: Update<'_>) {
        let start = frames.len();
        handshake::append_frame(frames, update.text);
        for number in self.followers.get(usize::from(update.symbol)).into_iter().flatten() {
            let Some(member) = self.members.get_mut(*number) else { continue };
            if member.parts.is_empty() {
                self.waiting.push(*number);
            }
            add_part(&mut member.parts, start..frames.len());
        }
    }

    /// Hands each client that is to get anything its parts of the batch.
    pub(super) fn hand_out(&mut self, mut each: impl FnMut(&mut C, &[Range<usize>])) {
        for number in self.waiting.drain(..) {
            if let Some(member) = self.members.get_mut(number) {
                each(&mut member.client, &member.parts);
                member.parts.clear();
            }
        }
    }
}

/// Adds a part behind others; one that follows the last one immediately becomes one with it.
fn add_part(parts: &mut Vec<Range<usize>>, part: Range<usize>) {
    match parts.last_mut() {
        Some(last) if last.end == part.start => last.end = part.end,
        _ => parts.push(part),
    }
}

/// The lock of a crowd.
pub(super) fn lock<C>(crowd: &Mutex<Crowd<C>>) -> MutexGuard<'_, Crowd<C>> {
    crowd.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_its_own_and_neighbours_become_one() {
        let crowd = Crowd::new(Scenario::Many);
        let mut crowd = lock(&crowd);
        crowd.join("both", &[1, 2]);
        crowd.join("second", &[2]);
        let mut frames = Vec::new();
        for symbol in [1, 2, 3, 2] {
            crowd.add(&mut frames, Update { symbol, text: b"x" });
        }
        for expected in [2, 0] {
            let mut given = Vec::new();
            crowd.hand_out(|client, parts| given.push((*client, parts.to_vec())));
            assert_eq!(given.len(), expected);
            if expected == 2 {
                assert_eq!(given, [("both", vec![0..6, 9..12]), ("second", vec![3..6, 9..12])]);
            }
        }
    }
}
