//! Sends the rounds of many lanes to all their riders, in as few system calls as there can be.

use std::{io, os::fd::AsFd, sync::Arc};

use tracing::{debug, warn};
use uring::Ring;

use super::{
    Pipe,
    lane::{Chunk, Round},
};

/// The sending of one thread.
#[derive(Debug)]
pub(super) struct Sender {
    /// Many sockets by one system call, where the kernel can.
    ring: Option<Ring>,
    results: Vec<io::Result<usize>>,
}

/// One chunk on its way to one client.
struct Sending<'a> {
    round: &'a Round,
    pipe: &'a Arc<Pipe>,
    chunk: &'a Chunk,
}

impl Sender {
    /// A sender; socket by socket unless it is to use io_uring and there is one.
    pub(super) fn new(use_io_uring: bool) -> Self {
        let ring = use_io_uring.then(Ring::new).and_then(|ring| {
            ring.inspect_err(|fault| debug!(%fault, "no io_uring; writing socket by socket")).ok()
        });
        Self { ring, results: Vec::new() }
    }

    /// Sends what each rider lacks and takes. Returns how many frames were taken out for them.
    pub(super) fn send(&mut self, rounds: &[Round]) -> u64 {
        let mut sendings = Vec::new();
        let mut delivered = 0;
        for round in rounds {
            for pipe in round.riders.iter() {
                sendings.extend(Sending::next(round, pipe));
                if sendings.len() == uring::BATCH {
                    delivered += self.send_batch(&mut sendings);
                }
            }
        }
        delivered + self.send_batch(&mut sendings)
    }

    fn send_batch(&mut self, sendings: &mut Vec<Sending<'_>>) -> u64 {
        let mut delivered = 0;
        while !sendings.is_empty() {
            delivered += sendings.iter().map(|sending| sending.chunk.count).sum::<u64>();
            self.transmit(sendings);
            let sent = sendings.drain(..).zip(self.results.drain(..));
            // Whoever took all of it may take more.
            let next: Vec<_> = sent
                .filter_map(|(Sending { round, pipe, chunk }, result)| {
                    pipe.sent(chunk, result).then(|| Sending::next(round, pipe)).flatten()
                })
                .collect();
            *sendings = next;
        }
        delivered
    }

    fn transmit(&mut self, sendings: &[Sending<'_>]) {
        // For one alone the usual way is the shorter.
        if let Some(ring) = self.ring.as_mut().filter(|_| sendings.len() > 1) {
            let sends: Vec<_> = sendings
                .iter()
                .map(|sending| (sending.pipe.socket().as_fd(), &*sending.chunk.bytes))
                .collect();
            match ring.send_all(&sends, &mut self.results) {
                Ok(()) => return,
                Err(fault) => {
                    warn!(%fault, "io_uring fails; from now on writing socket by socket");
                    // What has no result was not sent.
                    self.results.resize_with(sendings.len(), || Ok(0));
                    self.ring = None;
                    return;
                }
            }
        }
        self.results.clear();
        self.results.extend(sendings.iter().map(|sending| sending.pipe.try_send(sending.chunk)));
    }
}

impl<'a> Sending<'a> {
    fn next(round: &'a Round, pipe: &'a Arc<Pipe>) -> Option<Self> {
        pipe.take(&round.lane, &round.sealed).map(|chunk| Self { round, pipe, chunk })
    }
}
