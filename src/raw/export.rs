//! `lizards raw export`: NDJSON in the order of time, to standard output or into a file.
//!
//! A file that was cut off in the middle of a line is gone on with behind its last whole line. What
//! the archive has got since with an earlier time of receipt is not in it then.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use ingest::archive::{Order, Place, RawStore, Selection};

use super::{
    line::{self, Line},
    pages::Pages,
};
use crate::print::print_bytes;

pub(super) async fn run(
    store: &dyn RawStore,
    selection: &Selection,
    output: Option<&Path>,
    resume: bool,
) -> Result<()> {
    let (mut file, after) = match output {
        None => (None, None),
        Some(path) => {
            let (file, after) = open(path, resume).with_context(|| path.display().to_string())?;
            (Some(BufWriter::new(file)), after)
        }
    };
    let mut pages = Pages { store, selection, order: Order::OldestFirst, after };
    loop {
        let page = pages.next(u32::MAX).await?;
        if page.is_empty() {
            break;
        }
        let mut lines = Vec::new();
        for record in &page {
            serde_json::to_writer(&mut lines, &Line::of(record))?;
            lines.push(b'\n');
        }
        match &mut file {
            None if !print_bytes(&lines)? => return Ok(()),
            None => {}
            Some(file) => file.write_all(&lines)?,
        }
    }
    if let Some(file) = file {
        file.into_inner()?.sync_all()?;
    }
    Ok(())
}

/// A new file; or the one that is there, cut behind its last whole line, and that line's place.
fn open(path: &Path, resume: bool) -> Result<(File, Option<Place>)> {
    if !resume {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        return Ok((file.context("it is not made anew (--resume goes on in it)")?, None));
    }
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let Some((start, end)) = last_line(&mut file)? else {
        file.set_len(0)?;
        file.rewind()?;
        return Ok((file, None));
    };
    let mut last = vec![0; usize::try_from(end - start)?];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut last)?;
    let Ok(place) = line::place(&last) else { bail!("its last line is none of an export") };
    file.set_len(end)?;
    file.seek(SeekFrom::End(0))?;
    Ok((file, Some(place)))
}

/// Where the last line that has its end begins and ends.
fn last_line(file: &mut File) -> Result<Option<(u64, u64)>> {
    let mut end = None;
    let mut block = [0; 64 * 1024];
    let mut upto = file.metadata()?.len();
    while upto > 0 {
        let from = upto.saturating_sub(block.len() as u64);
        // At most a block.
        let bytes = &mut block[..usize::try_from(upto - from)?];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(bytes)?;
        for (index, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let behind = from + index as u64 + 1;
            match end {
                None => end = Some(behind),
                Some(end) => return Ok(Some((behind, end))),
            }
        }
        upto = from;
    }
    Ok(end.map(|end| (0, end)))
}
