//! A look into what a session remembers, for a dry run: it is handed a copy, so nothing that is done
//! with it changes what the session judges by.
//!
//! A session takes a question between two messages, so it needs no lock; where there is none, as on an
//! instance that stands by, nobody answers.

use std::{collections::BTreeSet, time::Duration};

use schemas::Symbol;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::validate::State;

/// How long a session may take to answer; it is busy for some milliseconds at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is asked about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    /// The symbol that the payload is published for; `None` where it is one of many.
    pub(crate) payload: Option<Symbol>,
    /// The symbols of its events.
    pub(crate) symbols: BTreeSet<Symbol>,
    /// The ids that its ticks would have.
    pub(crate) ids: Vec<String>,
}

/// What a session remembers of it.
pub(crate) struct Excerpt {
    /// What is judged by.
    pub(crate) state: State,
    /// The sequence of the payload after those that the session has seen.
    pub(crate) sequence: u64,
    /// The symbols of whose partitions another instance is the owner: of them it says nothing.
    pub(crate) elsewhere: BTreeSet<Symbol>,
}

/// A question to the session.
pub(crate) struct Question {
    pub(super) subject: Subject,
    pub(super) answer: oneshot::Sender<Excerpt>,
}

/// Asks the session, if there is one.
pub(crate) struct Peek(mpsc::Sender<Question>);

/// At most so many questions wait.
pub(crate) fn channel(bound: usize) -> (Peek, mpsc::Receiver<Question>) {
    let (sender, receiver) = mpsc::channel(bound);
    (Peek(sender), receiver)
}

impl Peek {
    /// What is remembered; `None` where nothing is processed here at present.
    pub(crate) async fn ask(&self, subject: Subject) -> Option<Excerpt> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Question { subject, answer }).ok()?;
        timeout(PATIENCE, answered).await.ok()?.ok()
    }
}

#[cfg(test)]
impl Question {
    /// Answers as a session would.
    pub(crate) fn answer(self, of: impl FnOnce(&Subject) -> Excerpt) {
        let _ = self.answer.send(of(&self.subject));
    }
}
