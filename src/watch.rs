//! `lizards watch`: prices in the terminal, as any WebSocket client gets them.

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use schemas::{ClientMessage, ServerMessage, Subscribe};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{
    config::Config,
    print::{complain, print},
    roles,
};

/// Prints updates until the server closes or the person does.
pub(crate) async fn run(config: &Config, symbols: &[String]) -> Result<()> {
    let listen = config.gateway.listen.parse().context("gateway.listen")?;
    let url = format!("ws://{}/ws", roles::reachable(listen));
    let mut request = url.as_str().into_client_request()?;
    if let Some(token) = provide::own_token(&config.provide.websocket) {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    let (mut socket, _) = connect_async(request)
        .await
        .map_err(|fault| anyhow!("no gateway answers at {url}: {fault}"))?;
    let subscribe =
        ClientMessage::Subscribe(Subscribe { symbols: symbols.to_vec(), ..Subscribe::default() });
    socket.send(Message::text(serde_json::to_string(&subscribe)?)).await?;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        match ServerMessage::from_json(&text)? {
            ServerMessage::PriceUpdate { data, .. } => {
                for (symbol, update) in data {
                    let price = update.price.get();
                    let (time, source) = (update.timestamp, update.source);
                    if !print(format_args!("{time}  {symbol:<12} {price:>14}  {source}\n"))? {
                        return Ok(());
                    }
                }
            }
            ServerMessage::Error(error) => complain(error.message),
            ServerMessage::Closing(closing) => {
                bail!("the server closes: come back in {} ms", closing.retry_after_ms)
            }
            ServerMessage::Subscribed(_)
            | ServerMessage::Heartbeat { .. }
            | ServerMessage::Candle { .. }
            | ServerMessage::Alert { .. } => {}
        }
    }
    Ok(())
}
