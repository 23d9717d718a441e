//! The write side of one connection: as few system calls as there can be, and never a wait.
//!
//! What is written is finished bytes: first the connection's own queue (answers, snapshots, what a
//! lane left to it), then the [`Lane`] it rides. A socket that takes no more is left alone until it
//! is writable again; that is waited for by the connection's task, and by nobody else.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf, Bytes};
use tokio::{net::TcpStream, sync::Notify};

use super::{
    Frame,
    frame::Format,
    lane::{Chunk, Lane, Sealed},
};
use crate::metrics;

/// How many pieces go into one system call.
const SLICES: usize = 64;

/// How many chunks a lagging client takes from its lane at a time.
const HELPING: usize = 8;

/// The write side of one connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Which flusher writes to it.
    pub(super) shard: usize,
    /// How its client wants its messages.
    pub(crate) format: Format,
    socket: Arc<TcpStream>,
    /// How many frames a client may lag behind its lane.
    capacity: u64,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What was begun or goes before the lane. Only its first piece may be half written.
    queue: VecDeque<Bytes>,
    queued: usize,
    ride: Option<Ride>,
    /// The socket took no more.
    is_blocked: bool,
    fault: Option<Fault>,
    has_spoken: bool,
}

#[derive(Debug)]
struct Ride {
    lane: Arc<Lane>,
    at: Riding,
    /// The sequence up to which everything was taken out of the lane.
    through: u64,
}

/// Where a rider stands in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Riding {
    /// The chunk that it takes next.
    pub(super) next: u64,
    /// How many frames were sealed before that.
    pub(super) frames: u64,
}

/// Why nothing more can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The socket is broken.
    Broken,
    /// The client lags too far behind: everything up to this sequence was taken out for it.
    TooSlow(u64),
}

impl Pipe {
    /// The write side of a socket, for a client that may lag `capacity` frames behind.
    pub(crate) fn new(
        socket: Arc<TcpStream>,
        shard: usize,
        format: Format,
        capacity: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            shard,
            format,
            socket,
            capacity: capacity as u64,
            state: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// Writes something of this connection's own, now or as soon as the socket takes it. The
    /// caller bounds how much, by [`Pipe::queued`].
    pub(crate) fn send(&self, piece: Bytes) {
        self.queue([piece]);
        self.write();
    }

    /// The same for prices.
    pub(crate) fn send_frames(&self, frames: &[Arc<Frame>]) {
        self.queue_frames(frames);
        self.write();
    }

    /// The same for prices of the past, marked as such.
    pub(crate) fn send_replayed(&self, frames: &[Arc<Frame>]) {
        self.queue(frames.iter().map(|frame| frame.replayed(self.format)));
        self.write();
        metrics::deliveries(frames.len() as u64);
    }

    /// The same for what does not count as having said something.
    pub(crate) fn send_aside(&self, piece: Bytes) {
        let mut state = self.lock();
        state.extend([piece]);
        self.write_all(&mut state);
    }

    /// Writes what was queued.
    pub(super) fn write(&self) {
        self.write_all(&mut self.lock());
    }

    /// Adds to what will be written.
    pub(super) fn queue(&self, pieces: impl IntoIterator<Item = Bytes>) {
        let mut state = self.lock();
        state.extend(pieces);
        state.has_spoken = true;
    }

    /// Adds prices to what will be written.
    pub(super) fn queue_frames(&self, frames: &[Arc<Frame>]) {
        if !frames.is_empty() {
            self.queue(frames.iter().map(|frame| frame.bytes(self.format).clone()));
            metrics::deliveries(frames.len() as u64);
        }
    }

    /// How many bytes wait in its own queue.
    pub(crate) fn queued(&self) -> usize {
        self.lock().queued
    }

    /// Was anything but heartbeats said since this was asked last?
    pub(crate) fn take_spoken(&self) -> bool {
        mem::take(&mut self.lock().has_spoken)
    }

    /// Why nothing more can be written, if so.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.lock().fault
    }

    /// Resolves when the socket has taken no more, or never will. Cancel safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Does something wait for the socket to take more?
    pub(crate) fn is_blocked(&self) -> bool {
        self.lock().is_blocked
    }

    /// The socket takes something again: writes what waits.
    pub(crate) fn resume(&self) {
        let mut state = self.lock();
        state.is_blocked = false;
        self.write_all(&mut state);
    }

    /// Rides a lane from here on; `through` is the sequence up to which it has everything.
    pub(super) fn board(self: &Arc<Self>, lane: Arc<Lane>, through: u64) {
        let mut state = self.lock();
        let at = lane.join(self);
        state.ride = Some(Ride { lane, at, through });
    }

    /// Leaves its lane, which is returned where nobody rides it any more. What was not written of
    /// it goes into the queue.
    pub(super) fn leave(&self) -> Option<Arc<Lane>> {
        let mut state = self.lock();
        let ride = state.ride.take()?;
        let (left, goes_on) = ride.lane.leave(self, ride.at.next);
        if state.fault.is_none() {
            state.extend(left.into_iter().map(|chunk| chunk.bytes));
        }
        (!goes_on).then_some(ride.lane)
    }

    /// Writes what its lane has sealed. Returns the chunk that it takes next, if it rides there.
    pub(super) fn follow(&self, lane: &Lane, sealed: &Sealed, delivered: &mut u64) -> Option<u64> {
        let mut state = self.lock();
        let ride = state.ride.as_ref().filter(|ride| std::ptr::eq(&*ride.lane, lane))?;
        let before = ride.at.frames;
        if !state.is_blocked {
            self.follow_on(&mut state, sealed);
        }
        let ride = state.ride.as_ref()?;
        *delivered += ride.at.frames - before;
        let (at, through) = (ride.at, ride.through);
        if sealed.end().frames.saturating_sub(at.frames) > self.capacity {
            self.give_up(&mut state, Fault::TooSlow(through));
            return None;
        }
        Some(at.next)
    }

    /// Takes what its lane has, chunk by chunk, as long as the socket does.
    fn follow_on(&self, state: &mut State, sealed: &Sealed) {
        loop {
            self.write_queue(state);
            if state.is_blocked || state.fault.is_some() {
                return;
            }
            let Some(ride) = &mut state.ride else { return };
            let mut due = sealed.from(ride.at.next);
            let Some(first) = due.next() else { return };
            ride.take(first);
            state.has_spoken = true;
            let mut others = due.take(HELPING - 1).peekable();
            if others.peek().is_some() {
                let mut pieces = vec![first.bytes.clone()];
                pieces.extend(others.map(|chunk| {
                    ride.take(chunk);
                    chunk.bytes.clone()
                }));
                state.extend(pieces);
            } else {
                // The usual case: nothing waits, and one piece goes out as it is.
                match self.socket.try_write(&first.bytes) {
                    Ok(written) if written == first.bytes.len() => {}
                    Ok(written) => state.extend([first.bytes.slice(written..)]),
                    Err(fault) => {
                        state.extend([first.bytes.clone()]);
                        self.failed(state, &fault);
                    }
                }
            }
        }
    }

    /// Writes its queue, and then what its lane has sealed.
    fn write_all(&self, state: &mut State) {
        loop {
            if state.is_blocked || state.fault == Some(Fault::Broken) {
                return;
            }
            self.write_queue(state);
            if state.is_blocked || !state.queue.is_empty() {
                return;
            }
            let Some(ride) = &mut state.ride else { return };
            let mut chunks = ride.lane.from(ride.at.next);
            chunks.truncate(HELPING);
            if chunks.is_empty() {
                return;
            }
            let before = ride.at.frames;
            chunks.iter().for_each(|chunk| ride.take(chunk));
            metrics::deliveries(ride.at.frames - before);
            state.extend(chunks.into_iter().map(|chunk| chunk.bytes));
        }
    }

    fn write_queue(&self, state: &mut State) {
        while !state.queue.is_empty() && !state.is_blocked && state.fault != Some(Fault::Broken) {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&state.queue) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            match self.socket.try_write_vectored(&slices[..count]) {
                Ok(written) => state.advance(written),
                Err(fault) => self.failed(state, &fault),
            }
        }
        if state.queue.is_empty() && state.queue.capacity() > SLICES {
            state.queue = VecDeque::new();
        }
    }

    fn failed(&self, state: &mut State, fault: &io::Error) {
        match fault.kind() {
            io::ErrorKind::WouldBlock => {
                state.is_blocked = true;
                self.wake.notify_one();
            }
            io::ErrorKind::Interrupted => {}
            _ => self.give_up(state, Fault::Broken),
        }
    }

    fn give_up(&self, state: &mut State, fault: Fault) {
        state.fault = Some(fault);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn extend(&mut self, pieces: impl IntoIterator<Item = Bytes>) {
        for piece in pieces {
            self.queued += piece.len();
            self.queue.push_back(piece);
        }
    }

    /// So many bytes were written.
    fn advance(&mut self, mut written: usize) {
        self.queued -= written;
        while let Some(piece) = self.queue.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.queue.pop_front();
        }
    }
}

impl Ride {
    fn take(&mut self, chunk: &Chunk) {
        self.at = Riding { next: self.at.next + 1, frames: chunk.frames };
        self.through = chunk.through;
    }
}
