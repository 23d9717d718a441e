//! `lizards raw get`.

use anyhow::{Context as _, Result};
use ingest::archive::{RawRecord, RawStore};
use schemas::{headers, rfc3339_nanos};

use super::line::Line;
use crate::print::{print, print_bytes};

pub(super) async fn run(store: &dyn RawStore, id: &str, body: bool, json: bool) -> Result<()> {
    let record = store.get(id).await?;
    let record = record.with_context(|| format!("the archive has no payload {id:?}"))?;
    if body {
        print_bytes(&record.body)?;
    } else if json {
        print(format_args!("{}\n", serde_json::to_string(&Line::of(&record))?))?;
    } else {
        print(shown(&record))?;
    }
    Ok(())
}

/// As `lizards rejected show` shows a message.
fn shown(record: &RawRecord) -> String {
    let RawRecord { id, source, received_at, content_type, format, columns, .. } = record;
    let RawRecord { retry_of, retry_event, .. } = record;
    let mut text = format!("{}  TICKS_RAW {}\n", record.subject, record.raw_seq);
    for (name, value) in [
        (headers::MESSAGE_ID, Some(id)),
        (headers::SOURCE, source.as_ref()),
        (headers::RECEIVED_AT, Some(&rfc3339_nanos(*received_at))),
        (headers::CONTENT_TYPE, content_type.as_ref()),
        (headers::FORMAT, format.as_ref()),
        (headers::COLUMNS, columns.as_ref()),
        (headers::RETRY_OF, retry_of.as_ref()),
        (headers::RETRY_EVENT, retry_event.as_ref()),
    ] {
        if let Some(value) = value {
            text += &format!("{name}: {value}\n");
        }
    }
    format!("{text}\n{}\n", String::from_utf8_lossy(&record.body))
}
