//! The feeds: a connection that has asked for symbols gets trades of them, in turn, at the same pace,
//! and sometimes many at once.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Result;
use axum::{
    extract::{
        Path, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use jiff::Timestamp;
use tokio::{
    select,
    time::{interval, sleep_until},
};

use super::Stub;
use crate::{
    bench::ingest::{
        load::{STEP, due},
        provider::Feed,
        verdict::Sent,
    },
    print::complain,
};

pub(super) async fn upgrade(
    State(stub): State<Arc<Stub>>,
    Path(name): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(feed) = Feed::ALL.into_iter().find(|feed| feed.name() == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    upgrade.on_upgrade(move |socket| async move {
        stub.connections.fetch_add(1, Ordering::Relaxed);
        if let Err(fault) = serve(&stub, feed, socket).await {
            complain(format_args!("{name}: {fault:#}"));
        }
    })
}

struct Connection<'a> {
    stub: &'a Stub,
    feed: Feed,
    sink: SplitSink<WebSocket, Message>,
    /// What it follows, and the numbers of the newest trades.
    symbols: Vec<(String, u64)>,
    /// How many trades it would have had, had it followed from the start, and those it has had.
    due: u64,
}

async fn serve(stub: &Stub, feed: Feed, socket: WebSocket) -> Result<()> {
    let (sink, mut requests) = socket.split();
    let mut connection = Connection { stub, feed, sink, symbols: Vec::new(), due: 0 };
    let mut beats = interval(Duration::from_secs(1));
    let mut step = 0;
    loop {
        let next = stub.started + STEP * step;
        select! {
            request = requests.next() => match request {
                Some(Ok(Message::Text(text))) => connection.answer(&text).await?,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return Ok(()),
            },
            () = sleep_until(next) => {
                step += 1;
                connection.trade(due(step.into(), stub.load)).await?;
            }
            _ = beats.tick() => connection.beat().await?,
        }
    }
}

impl Connection<'_> {
    async fn answer(&mut self, request: &str) -> Result<()> {
        let request = serde_json::from_str(request)?;
        if self.symbols.is_empty() {
            self.stub.following.fetch_add(1, Ordering::Relaxed);
        }
        self.symbols.extend(self.feed.asked(&request).into_iter().map(|symbol| (symbol, 0)));
        let followed: Vec<_> = self.symbols.iter().map(|(symbol, _)| symbol.clone()).collect();
        for answer in self.feed.answers(&request, &followed) {
            self.sink.send(Message::text(answer.to_string())).await?;
        }
        Ok(())
    }

    /// Sends trades until as many are sent as were due.
    async fn trade(&mut self, due: u64) -> Result<()> {
        let missing = due - self.due;
        self.due = due;
        if self.symbols.is_empty() {
            return Ok(());
        }
        for turn in self.due - missing..self.due {
            let place = turn as usize % self.symbols.len();
            let Some((symbol, number)) = self.symbols.get_mut(place) else { continue };
            *number += 1;
            let text = self.feed.trade(symbol, *number, Timestamp::now());
            if self.stub.note(Sent::now(self.feed.name(), symbol, &text, true)) {
                self.sink.feed(Message::text(text)).await?;
            }
        }
        Ok(self.sink.flush().await?)
    }

    async fn beat(&mut self) -> Result<()> {
        for (symbol, number) in &self.symbols {
            if let Some(text) = self.feed.heartbeat(symbol, *number, Timestamp::now()) {
                self.sink.feed(Message::text(text)).await?;
            }
        }
        Ok(self.sink.flush().await?)
    }
}
