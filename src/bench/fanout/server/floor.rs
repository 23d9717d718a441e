//! The floor: one thread that writes finished frames to raw sockets, all that has come for a client
//! with one system call. Nobody who serves clients one by one can be cheaper.

use std::{
    io::{IoSlice, Read, Write},
    net::{TcpListener, TcpStream},
    ops::Range,
    sync::{Arc, Mutex},
    thread,
};

use anyhow::Result;

use super::{
    ANY, Listening, Scenario,
    crowd::{Crowd, lock},
    feed::{BUFFER, Feed},
    handshake,
};

/// Listens, and serves in the background.
pub(super) fn start(scenario: Scenario) -> Result<()> {
    start_with(scenario, serve)
}

/// Listens, lets clients join, and serves them by `serve`, both in the background.
pub(super) fn start_with<C: From<TcpStream> + Send + 'static>(
    scenario: Scenario,
    serve: fn(&TcpListener, &Mutex<Crowd<C>>) -> Result<()>,
) -> Result<()> {
    let (feed, clients) = (TcpListener::bind(ANY)?, TcpListener::bind(ANY)?);
    let addresses = Listening {
        feed: feed.local_addr()?.to_string(),
        clients: clients.local_addr()?.to_string(),
    };
    let crowd = Arc::new(Crowd::new(scenario));
    let joined = Arc::clone(&crowd);
    thread::spawn(move || accept(&clients, &joined));
    thread::spawn(move || serve(&feed, &crowd));
    addresses.say()
}

/// Lets clients join, one after the other.
fn accept<C: From<TcpStream>>(listener: &TcpListener, crowd: &Mutex<Crowd<C>>) {
    for socket in listener.incoming().flatten() {
        let _ = join(crowd, socket);
    }
}

fn join<C: From<TcpStream>>(crowd: &Mutex<Crowd<C>>, mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !handshake::is_whole(&request) {
        socket.read_exact(&mut byte)?;
        request.extend(byte);
    }
    let (symbols, answer) = handshake::answer(&request)?;
    let mut crowd = lock(crowd);
    socket.write_all(answer.as_bytes())?;
    crowd.join(socket.into(), &symbols);
    Ok(())
}

/// Reads what ticks there are, and writes them to all who follow them.
fn serve(listener: &TcpListener, crowd: &Mutex<Crowd<TcpStream>>) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    let (mut feed, mut buffer, mut frames) = (Feed::default(), vec![0; BUFFER], Vec::new());
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut crowd = lock(crowd);
        frames.clear();
        feed.take(buffer.get(..count).unwrap_or_default(), |update| crowd.add(&mut frames, update));
        crowd.hand_out(|socket, parts| {
            // A client that has gone is none of the benchmark's business any more.
            let _ = write(socket, &frames, parts);
        });
    }
}

fn write(socket: &mut TcpStream, frames: &[u8], parts: &[Range<usize>]) -> std::io::Result<()> {
    let parts: Vec<_> = parts.iter().filter_map(|part| frames.get(part.clone())).collect();
    if let [whole] = parts.as_slice() {
        return socket.write_all(whole);
    }
    let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut written = socket.write_vectored(&slices)?;
    // Seldom anything: more parts than one call takes, or a full socket.
    for part in parts {
        let rest = part.get(written.min(part.len())..).unwrap_or_default();
        written = written.saturating_sub(part.len());
        socket.write_all(rest)?;
    }
    Ok(())
}
