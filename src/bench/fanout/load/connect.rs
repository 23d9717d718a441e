//! Connecting and subscribing, one client after the other; a client is there when the server has
//! confirmed its subscription.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    LoadOptions, Protocol,
    client::Client,
    frame::{self, BINARY, TEXT},
};
use crate::bench::fanout::{
    publisher::core_subject,
    scenario::{Place, symbol_name},
};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn connect(options: &LoadOptions, number: u64) -> Result<Client> {
    let followed = options.scenario.followed_by(number);
    let mut socket = Handshake { stream: TcpStream::connect(&options.address)?, bytes: Vec::new() };
    socket.stream.set_nodelay(true)?;
    socket.stream.set_read_timeout(Some(PATIENCE))?;
    let path = match options.protocol {
        Protocol::Nats => "/".to_owned(),
        Protocol::Lizards | Protocol::Plain => {
            let names: Vec<_> = followed.iter().map(|symbol| symbol_name(*symbol)).collect();
            format!("/ws?symbols={}", names.join(","))
        }
    };
    socket.upgrade(&path, &options.address)?;
    match options.protocol {
        Protocol::Plain => {}
        Protocol::Lizards => socket.wait_for(TEXT, "\"subscribed\"")?,
        Protocol::Nats => {
            let mut text = "CONNECT {\"verbose\":false}\r\n".to_owned();
            for symbol in followed {
                text += &format!("SUB {} {symbol}\r\n", core_subject(symbol));
            }
            text += "PING\r\n";
            socket.stream.write_all(&frame::masked(BINARY, text.as_bytes()))?;
            socket.wait_for(BINARY, "PONG")?;
        }
    }
    let place = Place::new(options.scenario, number);
    Client::new(socket.stream, options.protocol, place, socket.bytes)
}

struct Handshake {
    stream: TcpStream,
    /// Read, and not looked at yet.
    bytes: Vec<u8>,
}

impl Handshake {
    fn upgrade(&mut self, path: &str, host: &str) -> Result<()> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes())?;
        loop {
            self.read()?;
            let end = self.bytes.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                let head = String::from_utf8_lossy(&self.bytes).into_owned();
                if !head.starts_with("HTTP/1.1 101") {
                    bail!("the server answers {head}");
                }
                self.bytes.drain(..end + 4);
                return Ok(());
            }
        }
    }

    /// Passes over messages until one of this kind has this text in it.
    fn wait_for(&mut self, opcode: u8, text: &str) -> Result<()> {
        loop {
            while let Some((frame, rest)) = frame::split(&self.bytes) {
                let payload = String::from_utf8_lossy(frame.payload).into_owned();
                let is_it = frame.opcode == opcode && payload.contains(text);
                let is_bad = payload.contains("-ERR") || payload.contains("\"error\"");
                let done = self.bytes.len() - rest.len();
                self.bytes.drain(..done);
                if is_it {
                    return Ok(());
                }
                if is_bad {
                    bail!("the server says {payload}");
                }
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<()> {
        let mut buffer = [0; 4_096];
        let count = self.stream.read(&mut buffer).context("no answer came in time")?;
        if count == 0 {
            bail!("the server closed the connection");
        }
        self.bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        Ok(())
    }
}
