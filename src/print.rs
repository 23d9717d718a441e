//! Standard output, whose reader may go: `lizards config | head -1`. `println!` would panic then.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
};

use anyhow::{Context as _, Result};

/// Prints a text as it is; false where nobody reads any more.
pub(crate) fn print(text: impl Display) -> Result<bool> {
    print_bytes(text.to_string().as_bytes())
}

/// Prints bytes as they are; false where nobody reads any more.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<bool> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(fault) if fault.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("standard output cannot be written"),
    }
}

/// Says a line on standard error. Where that is closed, too, there is nobody to tell.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Columns as wide as what stands in them; the last has no end.
pub(crate) fn columns<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let lines: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let mut text = String::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate().take(N.saturating_sub(1)) {
            let width = lines.iter().filter_map(|line| line.get(column));
            let width = width.map(|cell| cell.chars().count()).max().unwrap_or_default();
            text += &format!("{cell:<width$}  ");
        }
        text += line.last().map_or("", String::as_str);
        text.push('\n');
    }
    text
}
