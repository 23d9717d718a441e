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
    Frame, Place,
    frame::Format,
    joined,
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
    pub(super) place: Place,
    /// How its client wants its messages.
    pub(crate) format: Format,
    /// Its client can inflate.
    pub(super) deflates: bool,
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
    /// The flusher is sending a chunk: nobody else writes.
    is_sending: bool,
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
        place: Place,
        format: Format,
        deflates: bool,
        capacity: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            place,
            format,
            deflates,
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
            if self.deflates {
                self.queue(joined::messages(frames, self.format, 1));
            } else {
                self.queue(frames.iter().map(|frame| frame.bytes(self.format).clone()));
            }
            metrics::deliveries(frames.len() as u64);
        }
    }

    /// How many bytes wait in its own queue.
    pub(crate) fn queued(&self) -> usize {
        self.lock().queued
    }

    /// Is all written that was queued or taken?
    pub(crate) fn is_clear(&self) -> bool {
        let state = self.lock();
        state.queue.is_empty() && !state.is_sending
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

    /// Takes the next chunk of its lane, to be sent by the flusher, which then says how that went
    /// ([`Pipe::sent`]). `None` where there is none, or the socket takes nothing now.
    pub(super) fn take<'a>(&self, lane: &Lane, sealed: &'a Sealed) -> Option<&'a Chunk> {
        let mut state = self.lock();
        if state.is_sending || state.is_blocked || state.fault.is_some() || !state.queue.is_empty()
        {
            return None;
        }
        let ride = state.ride.as_mut().filter(|ride| std::ptr::eq(&*ride.lane, lane))?;
        let chunk = sealed.from(ride.at.next).next()?;
        ride.take(chunk);
        state.is_sending = true;
        state.has_spoken = true;
        Some(chunk)
    }

    /// How the sending of a chunk went. True where all of it was taken.
    pub(super) fn sent(&self, chunk: &Chunk, result: io::Result<usize>) -> bool {
        let mut state = self.lock();
        state.is_sending = false;
        let written = result.unwrap_or_else(|fault| {
            self.failed(&mut state, &fault);
            0
        });
        if written < chunk.bytes.len() {
            let rest = chunk.bytes.slice(written..);
            state.queued += rest.len();
            state.queue.push_front(rest);
        }
        // What was said meanwhile has waited.
        self.write_queue(&mut state);
        state.queue.is_empty()
    }

    /// Sends a chunk as [`Pipe::take`] gave it.
    pub(super) fn try_send(&self, chunk: &Chunk) -> io::Result<usize> {
        self.socket.try_write(&chunk.bytes)
    }

    /// The socket.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The chunk of its lane that it takes next, if it rides there. A client that lags too far behind
    /// is given up.
    pub(super) fn place(&self, lane: &Lane, sealed: &Sealed) -> Option<u64> {
        let mut state = self.lock();
        let ride = state.ride.as_ref().filter(|ride| std::ptr::eq(&*ride.lane, lane))?;
        let (at, through) = (ride.at, ride.through);
        if state.fault.is_some() {
            return None;
        }
        if sealed.end().frames.saturating_sub(at.frames) > self.capacity {
            self.give_up(&mut state, Fault::TooSlow(through));
            return None;
        }
        Some(at.next)
    }

    /// Writes its queue, and then what its lane has sealed.
    fn write_all(&self, state: &mut State) {
        loop {
            self.write_queue(state);
            if state.is_sending || !state.queue.is_empty() || state.fault.is_some() {
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
        while state.may_write() {
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
    /// Is there something of its own to write, and may it be written?
    fn may_write(&self) -> bool {
        !(self.queue.is_empty()
            || self.is_sending
            || self.is_blocked
            || self.fault == Some(Fault::Broken))
    }

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
