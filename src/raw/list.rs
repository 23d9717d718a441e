//! `lizards raw list`.

use anyhow::Result;
use ingest::archive::{Order, RawRecord, RawStore, Selection};

use super::{line::Summary, pages::Pages};
use crate::print::{columns, print};

const HEAD: [&str; 6] = ["RECEIVED AT", "SOURCE", "SYMBOL", "FORMAT", "BYTES", "ID"];

/// Reads backwards from the newest, and keeps of each only its row.
pub(super) async fn run(
    store: &dyn RawStore,
    selection: &Selection,
    limit: u32,
    json: bool,
) -> Result<()> {
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    let mut left = limit;
    let mut pages = Pages { store, selection, order: Order::NewestFirst, after: None };
    while left > 0 {
        let page = pages.next(left).await?;
        if page.is_empty() {
            break;
        }
        left = left.saturating_sub(u32::try_from(page.len())?);
        for record in &page {
            if json {
                lines.push(serde_json::to_string(&Summary::of(record))?);
            } else {
                rows.push(cells(record));
            }
        }
    }
    if json {
        for line in lines.iter().rev() {
            print(format_args!("{line}\n"))?;
        }
    } else {
        print(columns(HEAD, rows.into_iter().rev()))?;
    }
    Ok(())
}

fn cells(record: &RawRecord) -> [String; 6] {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    [
        format!("{:.3}", record.received_at),
        or_dash(&record.source),
        or_dash(&record.symbol),
        or_dash(&record.format),
        record.body.len().to_string(),
        record.id.clone(),
    ]
}
