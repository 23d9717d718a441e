//! What a client sends, put together from the bytes of its socket.

use bytes::Bytes;

use super::{Compression, FIN, Fault, Kind, MASK, MAX_CONTROL, RSV1, deflate, opcode};

/// Something a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Bytes),
    /// It wants a pong with this payload.
    Ping(Bytes),
    /// It is there.
    Pong,
    /// It will say nothing more. `None` where it gave no reason.
    Close(Option<Close>),
}

/// Why a client closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// A code of RFC 6455, section 7.4.
    pub code: u16,
    /// For people.
    pub reason: String,
}

/// Puts the messages of one client together.
///
/// It holds the payload of the message that is not complete yet, never more than the longest
/// message allowed, and that of a control frame within it, and nothing between messages. A message
/// that would be longer is refused when its frame announces it. A compressed message is inflated
/// when it is complete: for that moment it is held twice.
///
/// A message may have a fragment for every 64 bytes that the longest one may have, and 64 of them
/// in any case: nobody can send empty ones for ever.
///
/// What follows a close is ignored (RFC 6455, section 5.5.1). After a fault there is nothing
/// more to be read: every further call returns it again.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    max_fragments: usize,
    is_compression_agreed: bool,
    state: State,
    message: Option<Message>,
    /// The payload of a control frame.
    control: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// Between frames, or within the header of one.
    Header(Partial),
    Payload(Frame),
    Closed,
    Failed(Fault),
}

/// As much of a header as is there.
#[derive(Debug, Default)]
struct Partial {
    bytes: [u8; 14],
    length: usize,
}

/// A frame whose payload is coming.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    is_final: bool,
    mask: [u8; 4],
    /// How many bytes of the payload are still to come.
    left: usize,
}

/// A message that is not complete.
#[derive(Debug)]
struct Message {
    kind: Kind,
    is_compressed: bool,
    payload: Vec<u8>,
    /// So much of a text is known to be UTF-8; behind it at most a part of a character.
    checked: usize,
    fragments: usize,
}

impl Decoder {
    /// For messages of at most `max_message` bytes, compressed and inflated alike.
    pub fn new(max_message: usize, compression: Option<Compression>) -> Self {
        Self {
            max_message,
            max_fragments: (max_message / 64).max(64),
            is_compression_agreed: compression.is_some(),
            state: State::Header(Partial::default()),
            message: None,
            control: Vec::new(),
        }
    }

    /// Takes bytes from the front of `input` until something is complete; `None` when all of them
    /// are taken and nothing is.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Fault> {
        let advanced = self.advance(input);
        match &advanced {
            Ok(Some(Event::Close(_))) => self.end(State::Closed),
            Ok(_) => {}
            Err(fault) => self.end(State::Failed(*fault)),
        }
        advanced
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |message| message.payload.capacity());
        message + self.control.capacity()
    }

    fn end(&mut self, state: State) {
        self.state = state;
        self.message = None;
        self.control = Vec::new();
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Fault> {
        loop {
            match &mut self.state {
                State::Failed(fault) => return Err(*fault),
                State::Closed => {
                    *input = &[];
                    return Ok(None);
                }
                State::Header(partial) => {
                    let Some(header) = partial.fill(input) else { return Ok(None) };
                    let frame = self.begin(header?)?;
                    self.state = State::Payload(frame);
                }
                State::Payload(frame) => {
                    if frame.left > 0 && input.is_empty() {
                        return Ok(None);
                    }
                    let (payload, rest) = input.split_at(frame.left.min(input.len()));
                    *input = rest;
                    let before = *frame;
                    frame.left -= payload.len();
                    frame.mask.rotate_left(payload.len() % 4);
                    let is_complete = frame.left == 0;
                    if is_complete {
                        self.state = State::Header(Partial::default());
                    }
                    self.take(before, payload)?;
                    if is_complete && let Some(event) = self.complete(before)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// Is this frame allowed here?
    fn begin(&mut self, header: Header) -> Result<Frame, Fault> {
        let Header { first, length, mask } = header;
        let (opcode, is_final) = (first & 0x0F, first & FIN != 0);
        let is_compressed = first & RSV1 != 0;
        let may_be_compressed =
            self.is_compression_agreed && matches!(opcode, opcode::TEXT | opcode::BINARY);
        if first & 0x30 != 0 || (is_compressed && !may_be_compressed) {
            return Err(Fault::ReservedBit);
        }
        match opcode {
            opcode::CLOSE | opcode::PING | opcode::PONG => {
                if !is_final {
                    return Err(Fault::FragmentedControl);
                }
                if length > MAX_CONTROL as u64 {
                    return Err(Fault::LongControl);
                }
            }
            opcode::CONTINUATION => {
                let message = self.message.as_mut().ok_or(Fault::NothingToContinue)?;
                message.fragments += 1;
                if message.fragments > self.max_fragments {
                    return Err(Fault::TooManyFragments(self.max_fragments));
                }
            }
            opcode::TEXT | opcode::BINARY => {
                let kind = if opcode == opcode::TEXT { Kind::Text } else { Kind::Binary };
                if self.message.replace(Message::new(kind, is_compressed)).is_some() {
                    return Err(Fault::Interleaved);
                }
            }
            other => return Err(Fault::ReservedOpcode(other)),
        }
        let room = match (&self.message, opcode) {
            (_, opcode::CLOSE..) => MAX_CONTROL,
            (Some(message), opcode::CONTINUATION) => self.max_message - message.payload.len(),
            _ => self.max_message,
        };
        let left = usize::try_from(length).ok().filter(|left| *left <= room);
        let left = left.ok_or(Fault::TooLong(self.max_message))?;
        Ok(Frame { opcode, is_final, mask, left })
    }

    /// Keeps a part of a frame's payload.
    fn take(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Fault> {
        let Some(message) = self.message.as_mut().filter(|_| frame.opcode < opcode::CLOSE) else {
            let at = self.control.len();
            self.control.extend_from_slice(payload);
            unmask(&mut self.control[at..], frame.mask);
            return Ok(());
        };
        let at = message.payload.len();
        deflate::reserve(&mut message.payload, payload.len(), self.max_message);
        message.payload.extend_from_slice(payload);
        unmask(&mut message.payload[at..], frame.mask);
        message.check()
    }

    /// A frame has ended: what is complete with it?
    fn complete(&mut self, frame: Frame) -> Result<Option<Event>, Fault> {
        Ok(match frame.opcode {
            opcode::PING => Some(Event::Ping(std::mem::take(&mut self.control).into())),
            opcode::PONG => {
                self.control = Vec::new();
                Some(Event::Pong)
            }
            opcode::CLOSE => Some(Event::Close(close(&std::mem::take(&mut self.control))?)),
            _ if frame.is_final => match self.message.take() {
                Some(message) => Some(message.read(self.max_message)?),
                None => None,
            },
            _ => None,
        })
    }
}

impl Message {
    fn new(kind: Kind, is_compressed: bool) -> Self {
        Self { kind, is_compressed, payload: Vec::new(), checked: 0, fragments: 1 }
    }

    /// Fails as soon as a text cannot become UTF-8 any more.
    fn check(&mut self) -> Result<(), Fault> {
        if self.kind == Kind::Binary || self.is_compressed {
            return Ok(());
        }
        match std::str::from_utf8(&self.payload[self.checked..]) {
            Ok(_) => self.checked = self.payload.len(),
            Err(fault) if fault.error_len().is_some() => return Err(Fault::NotUtf8),
            // A character that is not complete yet.
            Err(fault) => self.checked += fault.valid_up_to(),
        }
        Ok(())
    }

    fn read(self, max_message: usize) -> Result<Event, Fault> {
        let payload = if self.is_compressed {
            deflate::inflate(self.payload, max_message)?
        } else {
            self.payload
        };
        match self.kind {
            Kind::Text => String::from_utf8(payload).map(Event::Text).map_err(|_| Fault::NotUtf8),
            Kind::Binary => Ok(Event::Binary(payload.into())),
        }
    }
}

/// A complete header.
struct Header {
    first: u8,
    length: u64,
    mask: [u8; 4],
}

impl Partial {
    /// Takes bytes until the header is complete; `None` where the input ends before.
    fn fill(&mut self, input: &mut &[u8]) -> Option<Result<Header, Fault>> {
        loop {
            let needed = self.needed();
            let (taken, rest) = input.split_at((needed - self.length).min(input.len()));
            self.bytes[self.length..self.length + taken.len()].copy_from_slice(taken);
            self.length += taken.len();
            *input = rest;
            if self.length < needed {
                return None;
            }
            if self.bytes[1] & MASK == 0 {
                return Some(Err(Fault::Unmasked));
            }
            if self.length == self.needed() {
                return Some(self.read());
            }
        }
    }

    /// How long it is, as far as that is known.
    fn needed(&self) -> usize {
        match (self.length, self.bytes[1] & !MASK) {
            (..2, _) => 2,
            (_, 127) => 14,
            (_, 126) => 8,
            _ => 6,
        }
    }

    fn read(&self) -> Result<Header, Fault> {
        let bytes = &self.bytes;
        let mask = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let (length, mask, least, most) = match bytes[1] & !MASK {
            126 => (u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), mask(4), 126, u64::MAX),
            127 => {
                let [_, _, length @ .., _, _, _, _] = *bytes;
                (u64::from_be_bytes(length), mask(10), 1 << 16, i64::MAX as u64)
            }
            short => (u64::from(short), mask(2), 0, 125),
        };
        if !(least..=most).contains(&length) {
            return Err(Fault::Length);
        }
        Ok(Header { first: bytes[0], length, mask })
    }
}

/// Reads the payload of a close frame.
fn close(payload: &[u8]) -> Result<Option<Close>, Fault> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Fault::CloseLength),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    // RFC 6455, section 7.4, and what IANA has registered since.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Fault::CloseCode(code));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Fault::NotUtf8)?.to_owned();
    Ok(Some(Close { code, reason }))
}

/// Takes the mask off (RFC 6455, section 5.3), eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}
