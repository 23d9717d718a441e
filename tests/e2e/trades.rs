//! Trades to replay: a slice of a real day where it is at hand, otherwise trades of its shape.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;

/// The column names of the file.
pub(crate) const HEADER: &str = "ts_ms,symbol,price,size,exchange,conditions";

/// The opening of the New York session of 2013-10-07, in milliseconds since the epoch.
const OPEN_MS: u64 = 1_381_152_600_000;

/// The rows of a file, without line ends.
#[derive(Debug, Clone)]
pub(crate) struct Trades {
    pub(crate) rows: Vec<String>,
}

/// One row that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trade {
    pub(crate) symbol: String,
    pub(crate) price: String,
    pub(crate) size: String,
}

impl Trades {
    /// So many trades from the opening of the day on.
    pub(crate) fn from_the_open(count: usize) -> Self {
        let rows = real(count).unwrap_or_else(|| made(count));
        assert_eq!(rows.len(), count, "the file of trades is too short from the opening on");
        Self { rows }
    }

    /// Spoils every `nth` row in one of several ways, so that it must be rejected.
    pub(crate) fn spoil_every(mut self, nth: usize) -> Self {
        for (place, row) in
            self.rows.iter_mut().enumerate().filter(|(place, _)| place % nth == nth / 2)
        {
            let mut fields: Vec<_> = row.split(',').map(str::to_owned).collect();
            match place / nth % 5 {
                0 => fields[2] = "abc".to_owned(),
                1 => fields[2] = "-1.5".to_owned(),
                2 => fields[0] = "yesterday".to_owned(),
                3 => fields.truncate(3),
                _ => fields[3] = "-100".to_owned(),
            }
            *row = fields.join(",");
        }
        self
    }

    /// Writes the rows as a CSV file into the folder.
    pub(crate) fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("trades.csv");
        let mut text = format!("{HEADER}\n");
        for row in &self.rows {
            let _ = writeln!(text, "{row}");
        }
        std::fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// What a subscriber must see, in order: all rows that can be used, of one symbol.
    pub(crate) fn of(&self, symbol: &str) -> Vec<Trade> {
        self.rows.iter().filter_map(|row| usable(row)).filter(|t| t.symbol == symbol).collect()
    }

    /// How many rows can be used.
    pub(crate) fn usable(&self) -> usize {
        self.rows.len() - self.unusable().count()
    }

    /// The rows that must be rejected, with their places from 0 on.
    pub(crate) fn unusable(&self) -> impl Iterator<Item = (usize, &String)> {
        self.rows.iter().enumerate().filter(|(_, row)| usable(row).is_none())
    }
}

fn usable(row: &str) -> Option<Trade> {
    let fields: Vec<_> = row.split(',').collect();
    let [ts, symbol, price, size, _, _] = fields[..] else { return None };
    ts.parse::<u64>().ok()?;
    (price.parse::<f64>().ok()? > 0.0 && size.parse::<f64>().ok()? >= 0.0).then_some(())?;
    Some(Trade { symbol: symbol.into(), price: price.into(), size: size.into() })
}

fn real(count: usize) -> Option<Vec<String>> {
    let file =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/us-equity-trades-2013-10-07.csv.gz");
    let named = std::env::var("LIZARDS_TEST_TRADES").ok();
    let file = match std::fs::File::open(named.as_deref().unwrap_or(file)) {
        Ok(file) => file,
        Err(_) if named.is_none() => return None,
        Err(fault) => panic!("LIZARDS_TEST_TRADES: {fault}"),
    };
    let lines = BufReader::new(GzDecoder::new(file)).lines();
    let from_the_open = lines.map_while(Result::ok).skip(1).skip_while(|row| {
        row.split(',').next().and_then(|ts| ts.parse::<u64>().ok()).is_none_or(|ts| ts < OPEN_MS)
    });
    Some(from_the_open.take(count).collect())
}

/// Several in one millisecond, odd lots, equal prints: what real trades are like.
fn made(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| {
            let symbol = ["SPY", "BAC", "AIG", "IBM"][n * 7 % 11 % 4];
            let cents = 10_000 + (n * 37 % 101) + n / 50 % 200;
            let (whole, part) = (cents / 100, cents % 100);
            let ts = OPEN_MS + (n / 3 * 50) as u64;
            format!(
                "{ts},{symbol},{whole}.{part:02},{},{},0",
                n % 5 * 100 + 1,
                ["P", "Q", "D"][n % 3]
            )
        })
        .collect()
}
