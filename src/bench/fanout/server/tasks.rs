//! The floor with a task for each client: one task reads the ticks, and hands finished frames to
//! those of the clients, which write all that has come with one system call.

use std::{
    io::IoSlice,
    sync::{Arc, Mutex},
};

use anyhow::Result;
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{
    ANY, Listening, Scenario,
    crowd::{Crowd, lock},
    feed::{BUFFER, Feed},
    handshake,
};

/// How many parts a task takes out of its channel at a time.
const BATCH: usize = 64;

type Clients = Crowd<UnboundedSender<Bytes>>;

/// Listens, and serves in the background.
pub(super) async fn start(scenario: Scenario) -> Result<()> {
    let (feed, clients) = (TcpListener::bind(ANY).await?, TcpListener::bind(ANY).await?);
    let addresses = Listening {
        feed: feed.local_addr()?.to_string(),
        clients: clients.local_addr()?.to_string(),
    };
    let crowd = Arc::new(Crowd::new(scenario));
    let joined = Arc::clone(&crowd);
    tokio::spawn(async move {
        while let Ok((socket, _)) = clients.accept().await {
            tokio::spawn(serve(Arc::clone(&joined), socket));
        }
    });
    tokio::spawn(hand_on(feed, crowd));
    addresses.say()
}

async fn serve(crowd: Arc<Mutex<Clients>>, mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut request = Vec::new();
    while !handshake::is_whole(&request) {
        request.push(socket.read_u8().await?);
    }
    let (symbols, answer) = handshake::answer(&request)?;
    let (sender, receiver) = unbounded_channel();
    lock(&crowd).join(sender, &symbols);
    socket.write_all(answer.as_bytes()).await?;
    write(socket, receiver).await?;
    Ok(())
}

async fn write(mut socket: TcpStream, mut frames: UnboundedReceiver<Bytes>) -> std::io::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    while frames.recv_many(&mut batch, BATCH).await > 0 {
        if let [whole] = batch.as_slice() {
            socket.write_all(whole).await?;
        } else {
            let slices: Vec<_> = batch.iter().map(|part| IoSlice::new(part)).collect();
            let mut written = socket.write_vectored(&slices).await?;
            // Seldom anything: a full socket.
            for part in &batch {
                let rest = part.get(written.min(part.len())..).unwrap_or_default();
                written = written.saturating_sub(part.len());
                socket.write_all(rest).await?;
            }
        }
        batch.clear();
    }
    Ok(())
}

async fn hand_on(listener: TcpListener, crowd: Arc<Mutex<Clients>>) -> Result<()> {
    let (mut stream, _) = listener.accept().await?;
    let (mut feed, mut buffer) = (Feed::default(), vec![0; BUFFER]);
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let (mut crowd, mut frames) = (lock(&crowd), Vec::new());
        feed.take(buffer.get(..count).unwrap_or_default(), |update| crowd.add(&mut frames, update));
        let frames = Bytes::from(frames);
        crowd.hand_out(|client, parts| {
            for part in parts {
                // A client that has gone is none of the benchmark's business any more.
                let _ = client.send(frames.slice(part.clone()));
            }
        });
    }
}
