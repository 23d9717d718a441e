//! Standard output, whose reader may go: `lizards config | head -1`. `println!` would panic then.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
};

use anyhow::{Context as _, Result};

/// Prints a text as it is; false where nobody reads any more.
pub(crate) fn print(text: impl Display) -> Result<bool> {
    let mut output = io::stdout().lock();
    match write!(output, "{text}").and_then(|()| output.flush()) {
        Err(fault) if fault.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("standard output cannot be written"),
    }
}

/// Says a line on standard error. Where that is closed, too, there is nobody to tell.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
