//! A receiver of webhooks, which checks signatures in its own way.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::digest;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

/// One that runs until it is dropped.
pub(super) struct Receiver {
    pub(super) url: String,
    state: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What it has seen, and how it answers next; after that, 200.
#[derive(Default)]
struct Seen {
    posts: Vec<Post>,
    redirected: usize,
    answers: VecDeque<&'static str>,
}

/// What came.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) id: String,
    pub(super) at: Instant,
    pub(super) body: Value,
    timestamp: String,
    signature: String,
    raw: Bytes,
}

impl Receiver {
    pub(super) async fn start(answers: &[&'static str]) -> Self {
        let answers = answers.iter().copied().collect();
        let state = Arc::new(Mutex::new(Seen { answers, ..Seen::default() }));
        let app = Router::new()
            .route("/", post(receive))
            .route("/elsewhere", get(elsewhere).post(elsewhere))
            .with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, state, task }
    }

    pub(super) fn posts(&self) -> Vec<Post> {
        self.state.lock().unwrap().posts.clone()
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.posts().into_iter().map(|post| post.id).collect()
    }

    pub(super) fn redirected(&self) -> usize {
        self.state.lock().unwrap().redirected
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(
    State(state): State<Arc<Mutex<Seen>>>,
    headers: HeaderMap,
    raw: Bytes,
) -> Response {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let answer = {
        let mut seen = state.lock().unwrap();
        seen.posts.push(Post {
            id: text("webhook-id"),
            at: Instant::now(),
            body: serde_json::from_slice(&raw).unwrap(),
            timestamp: text("webhook-timestamp"),
            signature: text("webhook-signature"),
            raw,
        });
        seen.answers.pop_front().unwrap_or("200")
    };
    match answer {
        "hang" => std::future::pending().await,
        "hang-a-little" => {
            tokio::time::sleep(Duration::from_millis(500)).await;
            StatusCode::OK.into_response()
        }
        "302" => (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response(),
        "429" => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response(),
        status => status.parse::<StatusCode>().unwrap().into_response(),
    }
}

async fn elsewhere(State(state): State<Arc<Mutex<Seen>>>) {
    state.lock().unwrap().redirected += 1;
}

impl Post {
    /// Checks the signature, by the definition of HMAC (RFC 2104) over SHA-256.
    pub(super) fn verify(&self, secret: &str) {
        let mut key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        key.resize(64, 0);
        let padded = |pad: u8| key.iter().map(|byte| byte ^ pad).collect::<Vec<_>>();
        let signed = format!("{}.{}.", self.id, self.timestamp);
        let inner = [&padded(0x36)[..], signed.as_bytes(), &self.raw].concat();
        let inner = digest::digest(&digest::SHA256, &inner);
        let outer = [&padded(0x5c)[..], inner.as_ref()].concat();
        let expected = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, &outer));
        assert_eq!(self.signature, format!("v1,{expected}"));
        let age = jiff::Timestamp::now().as_second() - self.timestamp.parse::<i64>().unwrap();
        assert!((0..600).contains(&age), "{age}");
    }
}
