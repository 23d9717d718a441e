//! How clients break the protocol, and the close codes for it.

/// How a client broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Clients must mask what they send.
    #[error("a frame is not masked")]
    Unmasked,
    /// A bit that no agreed extension gives a meaning.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// An opcode without a meaning.
    #[error("the opcode {0:#x} is reserved")]
    ReservedOpcode(u8),
    /// A control frame in several parts.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame of more than 125 bytes.
    #[error("a control frame is longer than 125 bytes")]
    LongControl,
    /// A continuation of nothing.
    #[error("a continuation without a message that it continues")]
    NothingToContinue,
    /// A new message within another.
    #[error("a message begins before the one before it has ended")]
    Interleaved,
    /// A length that is not written in the fewest bytes, or has its highest bit set.
    #[error("the length of a frame is not written as it must be")]
    Length,
    /// A close with half a code.
    #[error("a close frame of one byte")]
    CloseLength,
    /// A close code that must not be sent.
    #[error("the close code {0} must not be sent")]
    CloseCode(u16),
    /// Text that is no UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A compressed message that cannot be inflated.
    #[error("not a DEFLATE stream")]
    NotDeflate,
    /// A message longer than allowed.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// A message in more parts than allowed.
    #[error("in more than {0} fragments")]
    TooManyFragments(usize),
}

impl Fault {
    /// The close code for it (RFC 6455, section 7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Self::NotUtf8 | Self::NotDeflate => 1007,
            Self::TooManyFragments(_) => 1008,
            Self::TooLong(_) => 1009,
            _ => 1002,
        }
    }
}
