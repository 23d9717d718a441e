//! Session tokens, from the gateway's `POST /session` to prices in each of their forms.

use std::time::Duration;

use futures_util::StreamExt;
use schemas::{ServerMessage, http::Session, msgpack};
use serde_json::Value;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::{
    lizards::Installation,
    servers::{Browser, install_crypto},
    up::printed,
};

const API_KEY: &str = "correct-horse-battery";
const PAGE_KEY: &str = "staple-of-every-page";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_passes_the_gateway_and_opens_what_it_names() {
    install_crypto();
    let mut installation = Installation::private();
    installation.set("provide.websocket.token_key", "0123456789abcdef0123456789abcdef");
    let keys = serde_json::json!([
        {"name": "desk", "key": API_KEY, "symbols": ["AAPL"]},
        {"name": "page", "key": PAGE_KEY, "symbols": ["*"]},
    ]);
    installation.set("provide.websocket.api_keys", keys);
    let up = installation.start("up", &["up"]);
    let websocket = printed(&up, "WebSocket").await;
    let door = websocket.replacen("ws://", "http://", 1).replace("/ws", "");
    assert!(!up.log().contains(API_KEY));

    let refused = connect_async(&websocket).await.expect_err("no token");
    let Error::Http(response) = refused else { panic!("{refused}") };
    assert_eq!(response.status(), 401);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let refused = client.post(format!("{door}/session")).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");

    let session = client.post(format!("{door}/session")).bearer_auth(API_KEY).send().await.unwrap();
    assert_eq!(session.headers()["cache-control"], "no-store");
    let session: Session = session.json().await.unwrap();
    assert!(session.websocket_url.starts_with(&format!("{websocket}?token=")), "{session:?}");

    // MessagePack, by the address.
    let address = format!("{}&symbols=AAPL,MSFT", session.websocket_url);
    let mut request = address.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", msgpack::PROTOCOL.parse().unwrap());
    let (mut socket, _) = connect_async(request).await.expect("the token is valid");
    let mut next = async || loop {
        let message = tokio::time::timeout(Duration::from_secs(30), socket.next()).await.unwrap();
        if let Message::Binary(bytes) = message.unwrap().unwrap() {
            return msgpack::to_json(&bytes).unwrap();
        }
    };
    let error = next().await;
    assert_eq!((&error["code"], &error["symbols"]), (&"forbidden".into(), &vec!["MSFT"].into()));
    assert_eq!(next().await["symbols"], Value::from(vec!["AAPL"]));
    assert!(next().await["data"]["AAPL"]["price"].is_string());

    // Server-Sent Events, by the header; what comes back with the last id goes on after it.
    let token = session.token.unwrap();
    let mut last = None;
    for _ in 0..3 {
        let mut request = client.get(format!("{door}/events?symbols=AAPL")).bearer_auth(&token);
        if let Some(id) = last {
            request = request.header("last-event-id", id);
        }
        let mut response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut text = String::new();
        let (id, update) = loop {
            text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
            if let Some(found) = text.split_inclusive("\n\n").find_map(price) {
                break found;
            }
        };
        assert_eq!(update.seq, id);
        if let Some(last) = last {
            assert_eq!(update.prev, last);
        }
        last = Some(id);
    }
    let mut browser = Browser::start().await;
    let mut page = browser.open(&format!("{door}/#key={PAGE_KEY}")).await;
    page.until(r#"document.querySelector('tr[data-symbol="AAPL"] [data-field="price"]')"#).await;

    let forbidden = client.get(format!("{door}/events?symbols=MSFT")).bearer_auth(&token);
    assert_eq!(forbidden.send().await.unwrap().status(), 403);
}

/// The id and the price of a whole event that is one.
fn price(event: &str) -> Option<(u64, schemas::Update)> {
    let (id, data) = event.strip_suffix("\n\n")?.strip_prefix("id: ")?.split_once("\ndata: ")?;
    match ServerMessage::from_json(data).ok()? {
        ServerMessage::PriceUpdate { data, .. } => {
            Some((id.parse().ok()?, data.into_values().next()?))
        }
        _ => None,
    }
}
