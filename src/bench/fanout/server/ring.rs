//! The floor by io_uring: the same one thread, and one system call for many clients.

use std::{
    borrow::Cow,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result};
use uring::Ring;

use super::{
    Scenario,
    crowd::{Crowd, lock},
    feed::{BUFFER, Feed},
    floor::start_with,
};

/// Listens, and serves in the background.
pub(super) fn start(scenario: Scenario) -> Result<()> {
    Ring::new().context("this system has no io_uring")?;
    start_with(scenario, serve)
}

fn serve(listener: &TcpListener, crowd: &Mutex<Crowd<Arc<TcpStream>>>) -> Result<()> {
    let mut ring = Ring::new()?;
    let (mut stream, _) = listener.accept()?;
    let (mut feed, mut buffer, mut frames) = (Feed::default(), vec![0; BUFFER], Vec::new());
    let mut results = Vec::new();
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut crowd = lock(crowd);
        frames.clear();
        feed.take(buffer.get(..count).unwrap_or_default(), |update| crowd.add(&mut frames, update));
        // Of what is not one piece, one is made.
        let mut batch: Vec<(Arc<TcpStream>, Cow<'_, [u8]>)> = Vec::new();
        crowd.hand_out(|socket, parts| {
            let mut parts = parts.iter().filter_map(|part| frames.get(part.clone()));
            let mut bytes = Cow::Borrowed(parts.next().unwrap_or_default());
            parts.for_each(|part| bytes.to_mut().extend_from_slice(part));
            batch.push((Arc::clone(socket), bytes));
        });
        let sends: Vec<_> =
            batch.iter().map(|(socket, bytes)| (socket.as_fd(), &**bytes)).collect();
        ring.send_all(&sends, &mut results)?;
        for ((socket, bytes), result) in batch.iter().zip(&results) {
            let sent = match result {
                Ok(sent) => *sent,
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => 0,
                // A client that has gone is none of the benchmark's business any more.
                Err(_) => continue,
            };
            // Seldom anything: a full socket.
            let _ = (&**socket).write_all(bytes.get(sent..).unwrap_or_default());
        }
    }
}
