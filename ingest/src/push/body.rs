//! The body of a request: whole, inflated, and never larger than a payload may be.

use std::{io::Read, time::Duration};

use axum::{
    body::{self, Body, Bytes},
    http::{HeaderMap, header::CONTENT_ENCODING},
};
use flate2::read::MultiGzDecoder;
use tokio::time::timeout;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::refusal::Refusal;
use crate::outlet::MAX_PAYLOAD_BYTES;

/// How long a caller may take to send it.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// The logarithm of the largest window that a zstd frame may ask for: the 8 MiB that every decoder
/// should support (RFC 8878, 3.1.1.1.2). It bounds what inflating takes of our memory.
const MAX_WINDOW_LOG: u32 = 23;

/// The whole body, inflated as its `Content-Encoding` says.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    let encoding = Encoding::of(headers)?;
    let reading = body::to_bytes(body, MAX_PAYLOAD_BYTES);
    // What breaks off is not distinguished: nobody is there to be told.
    let sent = timeout(READ_WITHIN, reading).await.map_err(|_| Refusal::Slow)?;
    let inflated = encoding.inflate(sent.map_err(|_| Refusal::TooLarge)?)?;
    if inflated.iter().all(u8::is_ascii_whitespace) {
        return Err(Refusal::Unreadable("the body is empty".to_owned()));
    }
    if let Err(fault) = std::str::from_utf8(&inflated) {
        return Err(Refusal::Unreadable(format!("the body is not UTF-8: {fault}")));
    }
    Ok(inflated)
}

/// How a body is compressed.
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut given = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = given.next() else { return Ok(Self::Identity) };
        let name = value.to_str().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            _ if given.next().is_some() => Err(Refusal::Encoding),
            "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Refusal::Encoding),
        }
    }

    fn inflate(&self, sent: Bytes) -> Result<Bytes, Refusal> {
        let broken = |fault: std::io::Error| {
            Refusal::Unreadable(format!("the body cannot be inflated: {fault}"))
        };
        match self {
            Self::Identity => Ok(sent),
            Self::Gzip => bounded(MultiGzDecoder::new(&*sent)),
            Self::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(&*sent).map_err(broken)?;
                decoder.window_log_max(MAX_WINDOW_LOG).map_err(broken)?;
                bounded(decoder)
            }
        }
    }
}

/// What a decoder gives, up to as much as a payload may have.
fn bounded(decoder: impl Read) -> Result<Bytes, Refusal> {
    let mut inflated = Vec::new();
    let limit = MAX_PAYLOAD_BYTES as u64 + 1;
    decoder
        .take(limit)
        .read_to_end(&mut inflated)
        .map_err(|fault| Refusal::Unreadable(format!("the body cannot be inflated: {fault}")))?;
    if inflated.len() > MAX_PAYLOAD_BYTES { Err(Refusal::TooLarge) } else { Ok(inflated.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::http::HeaderValue;

    use super::*;

    async fn read_as(encoding: &'static str, body: impl Into<Body>) -> Result<Bytes, &'static str> {
        let headers =
            HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))]);
        read(&headers, body.into()).await.map_err(|refusal| refusal.as_str())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    #[tokio::test]
    async fn every_encoding_gives_the_same() {
        let text = b"symbol,price\nIBM,1\n";
        assert_eq!(read(&HeaderMap::new(), Body::from(&text[..])).await.unwrap(), &text[..]);
        assert_eq!(read_as("gzip", gzip(text)).await.unwrap(), &text[..]);
        assert_eq!(read_as("zstd", zstd(text)).await.unwrap(), &text[..]);
        assert_eq!(read_as("br", text.to_vec()).await, Err("media_type"));
    }

    #[tokio::test]
    async fn no_bomb_goes_off() {
        let large = vec![b'1'; 64 * 1024 * 1024];
        assert_eq!(read_as("gzip", gzip(&large)).await, Err("too_large"));
        assert_eq!(read_as("zstd", zstd(&large)).await, Err("too_large"));
        assert_eq!(
            read_as("identity", large[..MAX_PAYLOAD_BYTES + 1].to_vec()).await,
            Err("too_large")
        );
        read_as("identity", large[..MAX_PAYLOAD_BYTES].to_vec()).await.unwrap();
        // A frame that asks for a window of 128 MiB (RFC 8878, 3.1.1.1.2: exponent 17).
        let greedy = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
        assert_eq!(read_as("zstd", greedy.to_vec()).await, Err("unreadable"));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_told() {
        let cut = gzip(b"symbol,price\nIBM,1\n");
        assert_eq!(read_as("gzip", cut[..cut.len() - 4].to_vec()).await, Err("unreadable"));
        let cut = zstd(b"symbol,price\nIBM,1\n");
        assert_eq!(read_as("zstd", cut[..cut.len() - 1].to_vec()).await, Err("unreadable"));
        assert_eq!(read_as("identity", vec![0xff, 0xfe]).await, Err("unreadable"));
        assert_eq!(read_as("identity", " \n").await, Err("unreadable"));
    }
}
