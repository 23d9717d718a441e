//! What can go wrong with one request, done by servers that do it.

use std::io::Write;

use axum::{
    body::Body,
    http::StatusCode,
    response::{IntoResponse, Response as Answered},
};
use flate2::{Compression, write::GzEncoder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::sources::stub;

/// Short enough to be waited for.
const SHORT: Limits = Limits {
    connect: Duration::from_millis(300),
    stall: Duration::from_millis(300),
    total: Duration::from_millis(900),
};

fn client_within(limits: &Limits) -> Client {
    // What the program does at its start; a second time is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    build(limits, Policy::custom(follow)).unwrap()
}

async fn page(url: &str) -> Result<Page, FetchError> {
    match fetch(client_within(&LIMITS).get(url)).await? {
        Answer::Page(page) => Ok(page),
        Answer::NotModified => panic!("nothing was asked for on condition"),
    }
}

async fn failure(url: &str) -> FetchError {
    page(url).await.err().expect("a failure")
}

/// Serves each connection by `serve`, below HTTP.
async fn raw_server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address.to_string()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn with_gzip(body: Vec<u8>) -> Answered {
    ([("content-encoding", "gzip"), ("content-type", "application/json")], body).into_response()
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = "2015-10-21T07:27:00Z".parse().unwrap();
    let read = |value| retry_after(value, now);
    assert_eq!(read("120"), Some(Duration::from_secs(120)));
    assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(60)));
    assert_eq!(read("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(read("999999999999"), Some(LONGEST_RETRY_AFTER));
    assert_eq!(read("soon"), None);
    assert_eq!(read("-5"), None);
}

#[tokio::test]
async fn a_refusal_is_of_a_kind() {
    use ErrorKind::{NotAllowed, NotFound, Provider, RateLimited, Unauthorized};
    for (status, kind, retry_after) in [
        (400, NotFound, None),
        (401, Unauthorized, Some(REFUSED_FOR)),
        (403, NotAllowed, Some(REFUSED_FOR)),
        (404, NotFound, None),
        (410, NotFound, None),
        (418, Provider, None),
        (429, RateLimited, None),
        (500, Provider, None),
        (503, Provider, None),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let server = stub::serve(move |_, _| async move { status.into_response() }).await;
        let error = failure(&server.url("/?apikey=k3y")).await;
        assert_eq!((error.kind, error.retry_after), (kind, retry_after), "{status}");
        assert_eq!(error.message, format!("the provider answers {status}"));
    }
    let server = stub::serve(|_, _| async {
        (StatusCode::UNAUTHORIZED, [("retry-after", "7")]).into_response()
    })
    .await;
    assert_eq!(failure(&server.url("/")).await.retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn silence_is_a_timeout_at_every_step() {
    // Takes the connection and says nothing; begins an answer and does not go on; goes on for ever.
    let silent = raw_server(|stream| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let stalling = raw_server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await;
        std::future::pending().await
    })
    .await;
    let dripping = raw_server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let urls = [
        format!("http://{silent}/?apikey=k3y"),
        format!("http://{stalling}/?apikey=k3y"),
        format!("http://{dripping}/?apikey=k3y"),
        // The handshake of TLS is a part of connecting.
        format!("https://{silent}/?apikey=k3y"),
    ];
    for url in urls {
        let answer = fetch(client_within(&SHORT).get(&url)).await;
        let error = answer.err().expect("a failure");
        assert_eq!(error.kind, ErrorKind::Timeout, "{url}: {error}");
        assert!(!error.message.contains("k3y"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_a_fault_of_the_connection() {
    for url in ["http://127.0.0.1:1/?apikey=k3y", "http://no-such-host.invalid/?apikey=k3y"] {
        let error = failure(url).await;
        assert_eq!(error.kind, ErrorKind::Connection, "{url}: {error}");
        assert!(!error.message.contains("k3y"), "{error}");
    }
    let closing = raw_server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
    })
    .await;
    assert_eq!(failure(&format!("http://{closing}/")).await.kind, ErrorKind::Connection);
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is_is_a_fault_of_tls() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let self_signed = raw_server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let _ = acceptor.accept(stream).await;
        }
    })
    .await;
    let speaking_http = raw_server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    for server in [self_signed, speaking_http] {
        let url = format!("https://localhost:{}/?apikey=k3y", server.rsplit_once(':').unwrap().1);
        let error = failure(&url).await;
        assert_eq!(error.kind, ErrorKind::Tls, "{error}");
        assert!(!error.message.contains("k3y"), "{error}");
    }
}

#[tokio::test]
async fn what_ends_too_early_is_truncated() {
    let whole = gzipped(format!("{{\"a\":\"{}\"}}", "x".repeat(10_000)).as_bytes());
    let cut = whole[..whole.len() / 2].to_vec();
    let garbage = [&whole[..12], &[0xFF; 40]].concat();
    let server = stub::serve(move |n, _| {
        let body = if n == 0 { cut.clone() } else { garbage.clone() };
        async move { with_gzip(body) }
    })
    .await;
    for _ in 0..2 {
        assert_eq!(failure(&server.url("/")).await.kind, ErrorKind::Truncated);
    }
    let short = raw_server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}").await;
    })
    .await;
    assert_eq!(failure(&format!("http://{short}/")).await.kind, ErrorKind::Truncated);
}

#[tokio::test]
async fn a_body_is_cut_off_where_it_is_too_large_inflated_or_not() {
    // 100 MB as they come, and 100 MB in some 100 kB.
    let bomb = gzipped(&vec![b' '; 100_000_000]);
    assert!(bomb.len() < MAX_PAYLOAD_BYTES);
    let server = stub::serve(move |n, _| {
        let bomb = bomb.clone();
        async move {
            match n {
                0 => {
                    let piece = bytes::Bytes::from(vec![b' '; 100_000]);
                    let pieces = (0..1_000).map(move |_| Ok::<_, io::Error>(piece.clone()));
                    Body::from_stream(futures_util::stream::iter(pieces)).into_response()
                }
                _ => with_gzip(bomb),
            }
        }
    })
    .await;
    for _ in 0..2 {
        let error = failure(&server.url("/")).await;
        assert_eq!(error.kind, ErrorKind::TooLarge);
        assert_eq!(error.message, "the answer has more than 524288 bytes");
    }
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_only_and_not_for_ever() {
    let elsewhere = stub::serve(|_, request| async move {
        panic!("it was asked for {}", request.uri());
    })
    .await;
    let target = elsewhere.url("/stolen").replace("127.0.0.1", "localhost");
    let server = stub::serve(move |_, request| {
        let target = target.clone();
        async move {
            let to = match request.uri().path() {
                "/once" => "/data".to_owned(),
                "/loop" => "/loop".to_owned(),
                "/away" => target,
                _ => return "{}".into_response(),
            };
            (StatusCode::FOUND, [("location", to)]).into_response()
        }
    })
    .await;
    assert_eq!(page(&server.url("/once")).await.unwrap().body, "{}");
    for path in ["/loop?apikey=k3y", "/away?apikey=k3y"] {
        let error = failure(&server.url(path)).await;
        assert_eq!(error.kind, ErrorKind::Provider);
        assert!(
            error.message.contains("it redirects") && !error.message.contains("k3y"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_not_as_documented_is_malformed() {
    for (content_type, body, expected, fault) in [
        (
            "text/html; charset=utf-8",
            "{}",
            Expected::Json,
            "the answer is text/html, not application/json",
        ),
        ("image/png", "a,b", Expected::Csv, "the answer is image/png, not text/csv"),
        ("application/json", "<html>", Expected::Json, "the answer is not application/json"),
        ("application/json", "", Expected::Json, "the answer is not application/json"),
        ("text/csv", "<!DOCTYPE html>", Expected::Csv, "the answer is not text/csv"),
    ] {
        let server = stub::serve(move |_, _| async move {
            ([("content-type", content_type)], body).into_response()
        })
        .await;
        let error = page(&server.url("/")).await.unwrap().check(expected).unwrap_err();
        assert_eq!((error.kind, &*error.message), (ErrorKind::Malformed, fault));
    }
    let server = stub::serve(|_, _| async { b"{\"a\":\"\xFF\"}".to_vec().into_response() }).await;
    let error = page(&server.url("/")).await.unwrap().check(Expected::Json).unwrap_err();
    assert!(error.message.starts_with("the answer is not UTF-8"), "{error}");
    for (content_type, body, expected) in [
        ("application/json", "{}", Expected::Json),
        ("text/javascript", " [1]", Expected::Json),
        ("text/plain", "{}", Expected::Json),
        ("text/csv", "a,b", Expected::Csv),
    ] {
        let server = stub::serve(move |_, _| async move {
            ([("content-type", content_type)], body).into_response()
        })
        .await;
        assert_eq!(page(&server.url("/")).await.unwrap().check(expected), Ok(()), "{content_type}");
    }
}
