use serde_json::json;

use super::*;
use crate::{
    sources::feed::stub::{Peer, Stub},
    testing::{Running, bodies, start},
};

const CONNECTED: &str = r#"[{"T":"success","msg":"connected"}]"#;
const AUTHENTICATED: &str = r#"[{"T":"success","msg":"authenticated"}]"#;
const TRADES: &str = r#"[{"T":"t","i":96921,"S":"AAPL","x":"D","p":126.55,"s":1,"t":"2021-02-22T15:51:44.208Z","c":["@","I"],"z":"C"},{"T":"t","i":96922,"S":"MSFT","x":"V","p":234.1,"s":100,"t":"2021-02-22T15:51:44.209Z","c":["@"],"z":"C"}]"#;

fn config(url: String, symbols: &[&str]) -> AlpacaConfig {
    AlpacaConfig {
        url,
        key_id: "k3y".into(),
        secret_key: "s3cret".into(),
        symbols: symbols.iter().map(|&name| name.to_owned()).collect(),
        ..AlpacaConfig::default()
    }
}

fn subscribed(symbols: &[&str]) -> String {
    json!([{
        "T": "subscription", "trades": symbols, "quotes": [], "bars": [], "updatedBars": [],
        "dailyBars": [], "statuses": [], "lulds": [], "corrections": symbols,
        "cancelErrors": symbols,
    }])
    .to_string()
}

fn request(action: &str, symbols: &[&str]) -> Value {
    json!({ "action": action, "trades": symbols })
}

/// A stream that is asked to log in.
async fn connect(symbols: &[&str]) -> (Running, Peer) {
    let stub = Stub::start().await;
    let running = start(feed(&config(stub.url("/v2"), symbols)).unwrap(), None);
    let mut peer = stub.accept().await;
    assert_eq!(peer.path, "/v2/iex");
    peer.say(CONNECTED).await;
    peer.expect(json!({ "action": "auth", "key": "k3y", "secret": "s3cret" })).await;
    (running, peer)
}

async fn subscribe(symbols: &[&str]) -> (Running, Peer) {
    let (running, mut peer) = connect(symbols).await;
    peer.say(AUTHENTICATED).await;
    peer.expect(request("subscribe", symbols)).await;
    (running, peer)
}

#[tokio::test]
async fn a_message_of_many_trades_is_one_payload() {
    let (mut running, mut peer) = subscribe(&["AAPL", "MSFT"]).await;
    peer.say(subscribed(&["AAPL", "MSFT"])).await;
    peer.say(TRADES).await;
    let cancel = r#"[{"T":"x","S":"AAPL","i":96921,"x":"D","p":126.55,"s":1,"a":"C","t":"2021-02-22T15:51:45Z","z":"C"}]"#;
    peer.say(cancel).await;
    let ticks = [running.next().await, running.next().await];
    assert_eq!(bodies(&ticks), [TRADES, cancel]);
    assert_eq!(ticks[0].symbol, None);
    assert_eq!(ticks[1].symbol, Symbol::new("AAPL").ok());
    assert!(ticks[0].id.starts_with("alpaca:_:h") && ticks[1].id.starts_with("alpaca:AAPL:h"));
    assert_eq!(
        (ticks[0].format, &*ticks[0].content_type),
        (Format::AlpacaJson, "application/json")
    );
    assert_eq!(running.status.snapshot().last_error, None);
}

#[tokio::test]
async fn symbols_come_and_go_over_the_same_connection() {
    let (running, mut peer) = subscribe(&["AAPL"]).await;
    peer.say(subscribed(&["AAPL"])).await;
    running.follow(&["MSFT"]);
    peer.expect(request("unsubscribe", &["AAPL"])).await;
    peer.say(subscribed(&[])).await;
    peer.expect(request("subscribe", &["MSFT"])).await;
    peer.say(subscribed(&["MSFT"])).await;
}

#[tokio::test]
async fn messagepack_is_asked_for_and_spoken() {
    let stub = Stub::start().await;
    let asked =
        AlpacaConfig { encoding: AlpacaEncoding::Msgpack, ..config(stub.url("/v2"), &["AAPL"]) };
    let mut running = start(feed(&asked).unwrap(), None);
    let mut peer = stub.accept().await;
    assert_eq!(peer.headers["content-type"], "application/msgpack");
    let said =
        |json: &str| Message::binary(msgpack::from_json(serde_json::from_str(json).unwrap()));
    let heard = |message: Message| msgpack::to_json(&message.into_data()).unwrap();
    peer.send(said(CONNECTED)).await;
    let login = json!({ "action": "auth", "key": "k3y", "secret": "s3cret" });
    assert_eq!(heard(peer.hear().await), login);
    peer.send(said(AUTHENTICATED)).await;
    assert_eq!(heard(peer.hear().await), request("subscribe", &["AAPL"]));
    peer.send(said(&subscribed(&["AAPL"]))).await;
    peer.send(said(TRADES)).await;
    let tick = running.next().await;
    assert_eq!(tick.body, said(TRADES).into_data());
    assert_eq!((tick.format, &*tick.content_type), (Format::AlpacaMsgpack, "application/msgpack"));
}

#[tokio::test]
async fn every_error_of_the_login_is_told_by_its_kind_and_waited_out() {
    for (code, said, kind, wait) in [
        (402, "auth failed", ErrorKind::Unauthorized, Some(AFTER_REFUSAL)),
        (404, "auth timeout", ErrorKind::Unauthorized, Some(AFTER_REFUSAL)),
        (406, "connection limit exceeded", ErrorKind::RateLimited, Some(AFTER_REFUSAL)),
        (407, "slow client", ErrorKind::RateLimited, None),
        (409, "insufficient subscription", ErrorKind::NotAllowed, Some(AFTER_REFUSAL)),
        (500, "internal error", ErrorKind::Provider, None),
    ] {
        let (running, mut peer) = connect(&["AAPL"]).await;
        peer.say(json!([{ "T": "error", "code": code, "msg": said }]).to_string()).await;
        let (_, end) = running.rest().await;
        let end = end.unwrap_err();
        assert_eq!((end.kind, end.retry_after), (kind, wait), "{end}");
        assert_eq!(end.message, format!("the provider answers: {said} ({code})"));
    }
}

#[tokio::test]
async fn what_is_beyond_the_symbols_of_the_account_is_told_per_symbol() {
    let (running, mut peer) = subscribe(&["AAPL", "MSFT"]).await;
    let limit = r#"[{"T":"error","code":405,"msg":"symbol limit exceeded"}]"#;
    peer.say(limit).await;
    peer.expect(request("subscribe", &["AAPL"])).await;
    peer.say(subscribed(&["AAPL"])).await;
    peer.expect(request("subscribe", &["MSFT"])).await;
    peer.say(limit).await;
    assert_eq!(running.error().await, "MSFT is not followed: symbol limit exceeded (405)");
    running.follow(&["AAPL", "IBM"]);
    peer.expect(request("subscribe", &["IBM"])).await;
}

#[tokio::test]
async fn a_message_that_means_nothing_harms_no_other() {
    let (mut running, mut peer) = subscribe(&["AAPL"]).await;
    peer.say(subscribed(&["AAPL"])).await;
    for nonsense in ["nonsense", "{}", "[7]"] {
        peer.say(nonsense).await;
    }
    peer.send(Message::binary(vec![0x91, 0xc1])).await;
    peer.say(TRADES).await;
    assert_eq!(bodies(&[running.next().await]), [TRADES]);
    assert!(running.error().await.starts_with("a message that is none of the stream's"));
}

#[test]
fn the_configuration_must_have_a_key_and_shows_none() {
    let shown =
        crate::source::Source::url(&feed(&config("wss://example.com/v2/".into(), &["A"])).unwrap());
    assert_eq!(shown, "wss://example.com/v2/iex");
    let without =
        AlpacaConfig { secret_key: String::new(), ..config("wss://e.com".into(), &["A"]) };
    let fault = feed(&without).err().unwrap().to_string();
    assert_eq!(fault, "ingest.alpaca.secret_key: a key is needed; Alpaca gives one for free");
}
