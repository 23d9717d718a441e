use axum::{Router, response::Redirect, routing::get};
use tokio::net::TcpListener;

use super::*;

/// A server on 127.0.0.1 that redirects `/to/<n>` to the nth of these addresses; its port.
async fn serve(targets: fn(u16) -> Vec<String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut router = Router::new().route("/", get(async || "here"));
    for (n, target) in targets(port).into_iter().enumerate() {
        router = router.route(&format!("/to/{n}"), get(async move || Redirect::to(&target)));
    }
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    port
}

fn outbound(trusted: &[&str], redirects: usize) -> Outbound {
    // What the program does at its start; a second time is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let trusted = trusted.iter().map(|&host| host.to_owned());
    Outbound::new(Client::builder(), trusted, redirects).unwrap()
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[tokio::test]
async fn a_private_address_in_a_url_is_refused_however_it_is_written() {
    let outbound = outbound(&[], 5);
    for text in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
    ] {
        let refused = outbound.request(Method::GET, url(text));
        assert!(refused.is_err(), "{text}");
    }
    assert!(outbound.request(Method::GET, url("https://8.8.8.8/")).is_ok());
    assert_eq!(
        outbound.request(Method::GET, url("http://127.1/")).unwrap_err().to_string(),
        "127.0.0.1 is a private address, or none that anybody may be reached at"
    );
}

#[tokio::test]
async fn a_name_is_judged_by_what_it_means_when_it_is_used() {
    let port = serve(|_| Vec::new()).await;
    let here = url(&format!("http://localhost:{port}/"));
    let request = outbound(&[], 5).request(Method::GET, here.clone()).unwrap();
    let error = request.send().await.unwrap_err();
    assert!(PrivateAddress::is_cause_of(&error), "{error:?}");
    let request = outbound(&["localhost"], 5).request(Method::GET, here).unwrap();
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "here");
}

#[tokio::test]
async fn every_redirect_is_judged_and_one_too_many_is_the_answer() {
    let port = serve(|port| {
        vec![
            format!("http://127.0.0.1:{port}/"),
            format!("http://localhost:{port}/"),
            format!("http://127.0.0.2:{port}/"),
            format!("http://127.0.0.1:{port}/to/2"),
            format!("http://127.0.0.1:{port}/to/4"),
        ]
    })
    .await;
    let outbound = outbound(&["127.0.0.1"], 3);
    let get = async |n: usize| {
        let url = url(&format!("http://127.0.0.1:{port}/to/{n}"));
        outbound.request(Method::GET, url).unwrap().send().await
    };
    assert_eq!(get(0).await.unwrap().text().await.unwrap(), "here");
    for n in [1, 2, 3] {
        let error = get(n).await.unwrap_err();
        assert!(PrivateAddress::is_cause_of(&error), "{n}: {error:?}");
    }
    assert_eq!(get(4).await.unwrap().status(), 303);
}

#[tokio::test]
async fn another_failure_is_not_taken_for_it() {
    let request = outbound(&["127.0.0.1"], 0).request(Method::GET, url("http://127.0.0.1:1/"));
    let error = request.unwrap().send().await.unwrap_err();
    assert!(!PrivateAddress::is_cause_of(&error));
}
