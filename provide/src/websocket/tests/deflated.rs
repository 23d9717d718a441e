//! Clients that can inflate: what comes together is one message, and short.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::*;
use crate::wire::{Compression, Decoder, Event};

/// A client that agreed to permessage-deflate, as no library of ours can be one.
struct Inflating {
    socket: BufReader<TcpStream>,
    decoder: Decoder,
    /// How many frames were compressed, and how many bytes came in all.
    compressed: usize,
    bytes: usize,
}

impl Inflating {
    async fn open(server: &Fixture, query: &str, offer: &str) -> (Self, Option<String>) {
        let mut socket = BufReader::new(TcpStream::connect(&server.address).await.unwrap());
        let request = format!(
            "GET /ws{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: {offer}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut agreed = None;
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).await.unwrap();
            let line = line.trim_end();
            if let Some(value) = line.strip_prefix("sec-websocket-extensions: ") {
                agreed = Some(value.to_owned());
            }
            if line.is_empty() {
                break;
            }
        }
        let compression = Compression::agree(agreed.as_deref());
        let decoder = Decoder::new(1 << 20, compression);
        (Self { socket, decoder, compressed: 0, bytes: 0 }, agreed)
    }

    /// The next message that is no control frame.
    async fn message(&mut self) -> ServerMessage {
        loop {
            let next = timeout(PATIENCE, self.frame()).await.expect("the server says something");
            if let Some(Event::Text(text)) = self.decoder.next(&mut &next[..]).unwrap() {
                return ServerMessage::from_json(&text).unwrap();
            }
        }
    }

    /// The next frame, masked with nothing, for the decoder reads what clients send.
    async fn frame(&mut self) -> Vec<u8> {
        let mut frame = vec![0; 2];
        self.socket.read_exact(&mut frame).await.unwrap();
        let more = match frame[1] {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        frame.resize(2 + more, 0);
        self.socket.read_exact(&mut frame[2..]).await.unwrap();
        let extended = frame[2..].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let length = if more > 0 { extended } else { usize::from(frame[1]) };
        let mut payload = vec![0; length];
        self.socket.read_exact(&mut payload).await.unwrap();
        self.compressed += usize::from(frame[0] & 0x40 != 0);
        self.bytes += frame.len() + length;
        frame[1] |= 0x80;
        [frame, vec![0; 4], payload].concat()
    }

    /// The sequences of so many prices.
    async fn sequences(&mut self, count: usize) -> Vec<u64> {
        let mut sequences = Vec::new();
        while sequences.len() < count {
            if let ServerMessage::PriceUpdate { data, .. } = self.message().await {
                let mut together: Vec<_> = data.values().map(|update| update.seq).collect();
                together.sort_unstable();
                sequences.extend(together);
            }
        }
        sequences
    }
}

const BROWSER: &str = "permessage-deflate; client_max_window_bits";

async fn with_symbols(count: usize) -> Fixture {
    let server = Fixture::start().await;
    for nth in 0..count {
        server.broker.publish(&format!("S{nth:03}"), "100.25");
    }
    server.until(|hub| hub.last_sequence() == count as u64).await;
    server
}

#[tokio::test]
async fn a_snapshot_is_a_few_short_messages() {
    let server = with_symbols(200).await;
    let (mut client, agreed) = Inflating::open(&server, "?symbols=*", BROWSER).await;
    let expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(agreed.as_deref(), Some(expected));
    assert_eq!(client.sequences(200).await, (1..=200).collect::<Vec<_>>());
    assert!(client.compressed >= 2 && client.bytes < 10_000, "{} bytes", client.bytes);
    let (mut plain, agreed) = Inflating::open(&server, "?symbols=*", "nothing-we-know").await;
    assert_eq!(agreed, None);
    plain.sequences(200).await;
    assert!(plain.compressed == 0 && plain.bytes > 25_000, "{} bytes", plain.bytes);
}

#[tokio::test]
async fn a_burst_is_shared_deflated_by_all_and_nothing_is_missing() {
    let server = with_symbols(30).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Inflating::open(&server, "?symbols=*", BROWSER).await.0;
        client.sequences(30).await;
        client.compressed = 0;
        clients.push(client);
    }
    let mut plain = server.client("?symbols=*").await;
    plain.subscribed().await;
    plain.sequences(30).await;
    for round in 0..50 {
        for nth in 0..30 {
            server.broker.publish(&format!("S{:03}", (nth * 7 + round) % 30), "100.26");
        }
        tokio::task::yield_now().await;
    }
    let expected: Vec<_> = (31..=1_530).collect();
    for client in &mut clients {
        assert!(client.sequences(1_500).await == expected);
        assert!(client.compressed > 0);
    }
    assert!(plain.sequences(1_500).await == expected);
}

#[tokio::test]
async fn what_a_client_deflates_is_inflated_within_the_bound() {
    let server = with_symbols(1).await;
    let (mut client, _) = Inflating::open(&server, "", BROWSER).await;
    let mut send = async |message: &[u8]| {
        let deflated = crate::wire::Deflater::default().squeeze(message);
        let frame = crate::wire::encode::compressed(crate::wire::Kind::Text, &deflated);
        let header = frame.len() - deflated.len();
        let masked = [&[frame[0], frame[1] | 0x80], &frame[2..header], &[0; 4], &frame[header..]];
        client.socket.write_all(&masked.concat()).await.unwrap();
        client.message().await
    };
    let answer = send(br#"{"type":"subscribe","symbols":["S000"]}"#).await;
    assert!(matches!(answer, ServerMessage::Subscribed(_)), "{answer:?}");
    let bomb = vec![b' '; 1 << 20];
    let _price = send(&bomb).await;
    let ServerMessage::Error(error) = client.message().await else { panic!("no error") };
    assert_eq!(error.code, ErrorCode::InvalidMessage);
    let close = client.frame().await;
    assert_eq!((close[0], &close[6..8]), (0x88, &1009_u16.to_be_bytes()[..]));
}
