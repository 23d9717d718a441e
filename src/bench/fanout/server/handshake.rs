//! The least of a WebSocket server by hand: the handshake, and the head of a frame.

use anyhow::{Context, Result};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The end of a request's head.
const END: &[u8] = b"\r\n\r\n";

/// Is the head of the request whole?
pub(super) fn is_whole(request: &[u8]) -> bool {
    request.ends_with(END)
}

/// The symbols that a request for `/ws?symbols=S0001,S0002` asks for, and what it is answered.
pub(super) fn answer(request: &[u8]) -> Result<(Vec<u16>, String)> {
    let request = std::str::from_utf8(request)?;
    let line = request.lines().next().unwrap_or_default();
    let path = line.split_whitespace().nth(1).context("no path is asked for")?;
    let (_, list) = path.split_once("symbols=").context("no symbols are asked for")?;
    let key = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("Sec-WebSocket-Key").then(|| value.trim())
    });
    let accept = derive_accept_key(key.context("no WebSocket key")?.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Ok((symbols(list)?, answer))
}

/// Reads a list such as `S0001,S0002`.
pub(super) fn symbols(list: &str) -> Result<Vec<u16>> {
    list.split(',')
        .map(|name| name.trim_start_matches('S').parse().with_context(|| name.to_owned()))
        .collect()
}

/// Appends a finished text frame (RFC 6455, 5.2): whole, not masked.
pub(super) fn append_frame(frames: &mut Vec<u8>, text: &[u8]) {
    const FINAL_TEXT: u8 = 0x81;
    match u8::try_from(text.len()) {
        Ok(length) if length < 126 => frames.extend([FINAL_TEXT, length]),
        _ => {
            // The feed carries no longer ones.
            let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
            frames.extend([FINAL_TEXT, 126]);
            frames.extend(length.to_be_bytes());
        }
    }
    frames.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard() {
        let request = b"GET /ws?symbols=S0001,S0999 HTTP/1.1\r\nHost: x\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        assert!(is_whole(request));
        let (symbols, answer) = answer(request).unwrap();
        assert_eq!(symbols, [1, 999]);
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    }

    #[test]
    fn short_and_long_frames() {
        let mut frames = Vec::new();
        append_frame(&mut frames, b"Hello");
        append_frame(&mut frames, &[b'x'; 150]);
        assert_eq!(frames[..11], *b"\x81\x05Hello\x81\x7e\0\x96");
        assert_eq!(frames.len(), 7 + 4 + 150);
    }
}
