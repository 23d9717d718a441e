//! What happens when a source posts more than is taken at once.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::FakeBroker;

const KEY: &str = "a key of the tests";
const ROW: &str = "{\"symbol\":\"IBM\",\"price\":\"1.5\"}\n";

/// A request of which all but the body has been sent.
async fn begun(at: SocketAddr, name: &str) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let head = format!(
        "POST /ticks/push:{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: Bearer {KEY}\r\nContent-Type: application/x-ndjson\r\n\
         Content-Length: {}\r\n\r\n",
        ROW.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Sends the body, and reads the answer.
async fn ended(mut stream: TcpStream) -> String {
    stream.write_all(ROW.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_source_that_posts_too_much_at_once_is_told_to_come_again_and_others_go_on() {
    let source = |name: &str| PushConfig {
        name: name.to_owned(),
        key: KEY.to_owned(),
        format: PushFormat::Ndjson,
    };
    let (router, posts) = router(&[source("busy"), source("other")], &Roster::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let broker = FakeBroker::new([]);
    let publishing =
        tokio::spawn(run(posts, broker.shared(), CancellationToken::new(), Duration::ZERO));

    let mut held = Vec::new();
    for _ in 0..AT_ONCE {
        held.push(begun(at, "busy").await);
    }
    // It takes a moment until all of them have come; what passes before is stored.
    let mut passed = 0;
    let refused = loop {
        let answer = ended(begun(at, "busy").await).await;
        if !answer.starts_with("HTTP/1.1 202") {
            break answer;
        }
        passed += 1;
        assert!(passed < 1_000, "however many are under way, nothing is refused");
    };
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n"), "{refused}");
    assert!(refused.contains("more than 16 requests of this source at once"), "{refused}");

    let other = ended(begun(at, "other").await).await;
    assert!(other.starts_with("HTTP/1.1 202"), "{other}");
    for stream in held {
        let answer = ended(stream).await;
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }
    let again = ended(begun(at, "busy").await).await;
    assert!(again.starts_with("HTTP/1.1 202"), "{again}");
    assert_eq!(broker.ids().len(), passed + 1 + AT_ONCE + 1);
    serving.abort();
    publishing.abort();
}
