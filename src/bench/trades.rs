//! The payloads: rows of a file of trades.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use jiff::Timestamp;
use schemas::{Format, RawTick, Source, Symbol};

/// The column names.
pub(in crate::bench) const COLUMNS: &str = "ts_ms,symbol,price,size,exchange,conditions";

/// So many rows of the file, from its first on, or made-up ones.
pub(in crate::bench) fn read(file: Option<&Path>, count: usize) -> Result<Vec<String>> {
    let Some(path) = file else { return Ok(made(count, 4)) };
    let open = File::open(path).with_context(|| format!("--file {}", path.display()))?;
    let is_packed = path.extension().is_some_and(|extension| extension == "gz");
    let open: Box<dyn Read> =
        if is_packed { Box::new(GzDecoder::new(open)) } else { Box::new(open) };
    let mut lines = BufReader::new(open).lines();
    let header = lines.next().transpose()?.unwrap_or_default();
    ensure!(header == COLUMNS, "--file {}: its columns are not {COLUMNS}", path.display());
    let rows = lines.take(count).collect::<Result<Vec<_>, _>>()?;
    ensure!(rows.len() == count, "--file {}: it has only {} rows", path.display(), rows.len());
    Ok(rows)
}

/// Trades of the shape of real ones, of so many symbols in turn.
pub(in crate::bench) fn made(count: usize, symbols: usize) -> Vec<String> {
    /// The opening of the New York session of 2013-10-07.
    const OPEN_MS: usize = 1_381_152_600_000;
    let row = |n: usize| {
        let (ts, symbol) = (OPEN_MS + n / 3 * 50, n % symbols);
        let cents = 10_000 + symbol + n * 37 % 11;
        let (whole, part, size) = (cents / 100, cents % 100, n % 5 * 100 + 1);
        format!("{ts},S{symbol},{whole}.{part:02},{size},{},20000020", ["P", "Q", "D"][n % 3])
    };
    (0..count).map(row).collect()
}

/// A row as `ingest` publishes it.
pub(in crate::bench) fn payload(number: usize, row: &str) -> Result<RawTick> {
    let symbol = row.split(',').nth(1).context("a row has a symbol")?;
    Ok(RawTick {
        id: format!("bench:{number}"),
        source: Source::new("file")?,
        symbol: Some(Symbol::new(symbol)?),
        received_at: Timestamp::now(),
        content_type: "text/csv".to_owned(),
        format: Format::CsvRow,
        columns: Some(COLUMNS.to_owned()),
        body: row.to_owned().into(),
    })
}
