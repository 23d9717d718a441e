//! WebSocket frames (RFC 6455) and their compression (RFC 7692), without any input or output: what
//! is read and written here are bytes in memory.
//!
//! - [`encode`]: what a server sends. Its frames are not masked, so one may be shared by all who
//!   receive it.
//! - [`decode`]: what clients send, as it comes from their sockets.
//! - [`deflate`]: whole messages made smaller, and inflated within a bound; [`negotiate`] agrees on
//!   it during the handshake.

pub mod decode;
pub mod deflate;
pub mod encode;
pub mod fault;
pub mod negotiate;
#[cfg(test)]
mod tests;

pub use decode::{Close, Decoder, Event};
pub use deflate::Deflater;
pub use encode::Kind;
pub use fault::Fault;
pub use negotiate::Compression;

/// The opcodes of RFC 6455, section 5.2.
mod opcode {
    pub(super) const CONTINUATION: u8 = 0x0;
    pub(super) const TEXT: u8 = 0x1;
    pub(super) const BINARY: u8 = 0x2;
    pub(super) const CLOSE: u8 = 0x8;
    pub(super) const PING: u8 = 0x9;
    pub(super) const PONG: u8 = 0xA;
}

/// The last frame of a message.
const FIN: u8 = 0x80;

/// The first bit of an extension; permessage-deflate marks a compressed message with it.
const RSV1: u8 = 0x40;

/// The payload is masked.
const MASK: u8 = 0x80;

/// The longest payload of a control frame, in bytes.
const MAX_CONTROL: usize = 125;
