//! Other systems have no io_uring.

use std::io;

/// Nothing that can be made.
#[derive(Debug)]
pub enum Ring {}

impl Ring {
    /// Always fails, with [`io::ErrorKind::Unsupported`].
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Cannot be called.
    pub fn send_all<S>(
        &mut self,
        _: &[(S, &[u8])],
        _: &mut Vec<io::Result<usize>>,
    ) -> io::Result<()> {
        match *self {}
    }
}
