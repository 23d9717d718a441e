//! One client: what has come, and what must come next.

use std::io::{self, Read, Write};

use anyhow::{Result, bail};
use jiff::Timestamp;
use mio::net::TcpStream;

use super::{
    Protocol,
    frame::{self, BINARY, CLOSE, PING, PONG, TEXT},
};
use crate::bench::fanout::{payload, scenario::Place};

/// How an update begins, in our protocol beside other messages.
const UPDATE: &[u8] = b"{\"type\":\"price_update\"";

pub(super) struct Client {
    stream: TcpStream,
    protocol: Protocol,
    place: Place,
    /// The beginning of a frame that is not whole yet.
    partial: Vec<u8>,
    /// With NATS, the beginning of a message: its frames need not end where messages do.
    text: Vec<u8>,
}

impl Client {
    /// Subscribed; `partial` is what came behind the confirmation.
    pub(super) fn new(
        stream: std::net::TcpStream,
        protocol: Protocol,
        place: Place,
        partial: Vec<u8>,
    ) -> Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream);
        Ok(Self { stream, protocol, place, partial, text: Vec::new() })
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The earliest sequence that has not come.
    pub(super) fn next_seq(&self) -> u64 {
        self.place.next()
    }

    /// Reads all that has come. `look` is told of each update how many came before it, and can ask
    /// when it was published.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        mut look: impl FnMut(u64, &dyn Fn() -> Option<Timestamp>),
    ) -> Result<()> {
        loop {
            let kept = self.partial.len();
            if let Some(begin) = buffer.get_mut(..kept) {
                begin.copy_from_slice(&self.partial);
            }
            self.partial.clear();
            let room = buffer.get_mut(kept..).unwrap_or_default();
            let space = room.len();
            let count = match self.stream.read(room) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => count,
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => 0,
                Err(fault) => return Err(fault.into()),
            };
            let mut rest = buffer.get(..kept + count).unwrap_or_default();
            if count > 0 {
                while let Some((frame, behind)) = frame::split(rest) {
                    self.take(&frame, &mut look)?;
                    rest = behind;
                }
            }
            self.partial.extend_from_slice(rest);
            // What comes later is told anew.
            if count < space {
                return Ok(());
            }
        }
    }

    fn take(
        &mut self,
        frame: &frame::Frame<'_>,
        look: &mut impl FnMut(u64, &dyn Fn() -> Option<Timestamp>),
    ) -> Result<()> {
        match (frame.opcode, self.protocol) {
            (TEXT, Protocol::Plain) => self.update(frame.payload, look),
            (TEXT, Protocol::Lizards) if frame.payload.starts_with(UPDATE) => {
                self.update(frame.payload, look)
            }
            // A heartbeat.
            (TEXT, Protocol::Lizards) => Ok(()),
            (BINARY, Protocol::Nats) => {
                let mut text = std::mem::take(&mut self.text);
                text.extend_from_slice(frame.payload);
                let mut rest = text.as_slice();
                while let Some(message) = split_nats(rest)? {
                    if let Some(update) = message.payload {
                        self.update(update, look)?;
                    }
                    rest = message.behind;
                }
                let done = text.len() - rest.len();
                text.drain(..done);
                self.text = text;
                Ok(())
            }
            (PING, _) => {
                // So short an answer fits, or the connection is as good as gone.
                self.stream.write_all(&frame::masked(PONG, frame.payload))?;
                Ok(())
            }
            (CLOSE, _) => {
                bail!("the server closes: {}", String::from_utf8_lossy(frame.payload))
            }
            (opcode, _) => bail!("a frame of kind {opcode} is not expected"),
        }
    }

    fn update(
        &mut self,
        text: &[u8],
        look: &mut impl FnMut(u64, &dyn Fn() -> Option<Timestamp>),
    ) -> Result<()> {
        let received = self.place.received();
        if !payload::seq_of(text).is_some_and(|seq| self.place.advance(seq)) {
            bail!("this is not due: {}", String::from_utf8_lossy(text));
        }
        look(received, &|| payload::published_at(text));
        Ok(())
    }
}

/// A message of the NATS protocol, and what is behind it.
#[derive(Debug, PartialEq, Eq)]
struct NatsMessage<'a> {
    /// Of a `MSG`.
    payload: Option<&'a [u8]>,
    behind: &'a [u8],
}

/// The first message, where it is whole.
fn split_nats(bytes: &[u8]) -> Result<Option<NatsMessage<'_>>> {
    let Some(end) = bytes.windows(2).position(|end| end == b"\r\n") else { return Ok(None) };
    let (line, rest) = bytes.split_at(end);
    let rest = rest.get(2..).unwrap_or_default();
    if !line.starts_with(b"MSG ") {
        if line.starts_with(b"-ERR") {
            bail!("the nats-server says {}", String::from_utf8_lossy(line));
        }
        return Ok(Some(NatsMessage { payload: None, behind: rest }));
    }
    let digits = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let length: usize = std::str::from_utf8(digits)?.parse()?;
    let whole = rest.split_at_checked(length).and_then(|(payload, rest)| {
        Some(NatsMessage { payload: Some(payload), behind: rest.strip_prefix(b"\r\n")? })
    });
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::bench::fanout::scenario::Scenario;

    /// What a client makes of these updates, however they are cut.
    fn received(sequences: &[u64]) -> Result<u64> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut server = TcpStream::connect(listener.local_addr()?)?;
        let (socket, _) = listener.accept()?;
        let place = Place::new(Scenario::One, 0);
        let mut client = Client::new(socket, Protocol::Plain, place, Vec::new())?;
        let (mut buffer, mut bytes) = (vec![0; 1_000], Vec::new());
        for seq in sequences {
            let text = payload::price_update(Scenario::One, *seq, payload::now());
            bytes.extend([0x81, 126, 0, u8::try_from(text.len())?]);
            bytes.extend(text.as_bytes());
        }
        for part in bytes.chunks(77) {
            server.write_all(part)?;
            client.read(&mut buffer, |_, published_at| assert!(published_at().is_some()))?;
        }
        Ok(client.next_seq() - 1)
    }

    #[test]
    fn what_is_lost_doubled_or_swapped_is_a_fault() {
        assert_eq!(received(&[1, 2, 3]).unwrap(), 3);
        for bad in [&[2][..], &[1, 3], &[1, 1], &[1, 2, 4, 3]] {
            let fault = received(bad).unwrap_err().to_string();
            assert!(fault.contains("is not due"), "{bad:?}: {fault}");
        }
    }

    #[test]
    fn messages_of_nats_are_found_when_they_are_whole() {
        let bytes = b"PONG\r\nMSG ticks.norm.S0001 1 2\r\nhi\r\nMSG a 1 0\r\n\r\n";
        let mut found = Vec::new();
        let mut rest = &bytes[..];
        while let Some(message) = split_nats(rest).unwrap() {
            found.extend(message.payload);
            rest = message.behind;
        }
        assert_eq!((found, rest), (vec![&b"hi"[..], b""], &b""[..]));
        assert_eq!(split_nats(&bytes[6..35]).unwrap(), None);
        assert!(split_nats(b"-ERR 'Slow Consumer'\r\n").is_err());
    }
}
