//! A payload as it is on disk: its length and checksum, then its envelope as JSON, then its body.
//!
//! ```text
//! u32 length of what follows the checksum │ u32 CRC-32 of it │ u32 length of the envelope │ envelope │ body
//! ```
//!
//! Integers are little-endian. The checksum is that of gzip ([RFC 1952]).
//!
//! [RFC 1952]: https://www.rfc-editor.org/rfc/rfc1952

use std::io::{self, Error, ErrorKind, Read};

use bytes::{Buf, Bytes};
use flate2::Crc;
use schemas::{RawTick, Symbol};
use serde::{Deserialize, Serialize};

use crate::outlet::MAX_PAYLOAD_BYTES;

/// More than a body and any envelope have: a longer one is no record.
const MAX_BYTES: usize = MAX_PAYLOAD_BYTES + 256 * 1024;

/// All of a payload but its body; the headers are those that it is published with.
#[derive(Serialize, Deserialize)]
struct Envelope {
    symbol: Option<Symbol>,
    headers: Vec<(String, String)>,
}

/// A payload that was read, and how many bytes it has on disk.
pub(super) struct Record {
    pub(super) payload: RawTick,
    pub(super) bytes: u64,
}

/// Adds a payload.
pub(super) fn write(payload: &RawTick, to: &mut Vec<u8>) -> io::Result<()> {
    let headers = payload.headers().into_iter().map(|(name, value)| (name.to_owned(), value));
    let envelope = Envelope { symbol: payload.symbol.clone(), headers: headers.collect() };
    let envelope = serde_json::to_vec(&envelope)?;
    let too_long = |_| Error::other("a payload of more than 4 GiB");
    let length = u32::try_from(envelope.len()).map_err(too_long)?.to_le_bytes();
    let mut sum = Crc::new();
    [&length[..], &envelope, &payload.body].into_iter().for_each(|part| sum.update(part));
    let all =
        u32::try_from(length.len() + envelope.len() + payload.body.len()).map_err(too_long)?;
    for part in
        [&all.to_le_bytes()[..], &sum.sum().to_le_bytes(), &length, &envelope, &payload.body]
    {
        to.extend_from_slice(part);
    }
    Ok(())
}

/// Reads the next payload; nothing at the end. A record that is not whole is an error.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Record>> {
    let mut head = [0; 8];
    match from.read(&mut head[..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut head[1..])?,
    }
    let mut head = &head[..];
    let (length, sum) = (head.get_u32_le() as usize, head.get_u32_le());
    if length > MAX_BYTES {
        return Err(invalid("its length"));
    }
    let mut content = vec![0; length];
    from.read_exact(&mut content)?;
    let mut found = Crc::new();
    found.update(&content);
    if found.sum() != sum {
        return Err(invalid("its checksum"));
    }
    let payload = payload(content.into()).ok_or_else(|| invalid("its envelope"))?;
    Ok(Some(Record { payload, bytes: 8 + length as u64 }))
}

fn payload(mut content: Bytes) -> Option<RawTick> {
    let length = content.try_get_u32_le().ok()? as usize;
    if length > content.len() {
        return None;
    }
    let envelope: Envelope = serde_json::from_slice(&content.split_to(length)).ok()?;
    let header = |name: &str| {
        envelope.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    };
    RawTick::from_message(header, envelope.symbol.clone(), content).ok()
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("a record of the spool is damaged: {what}"))
}
