//! Real servers for tests, private to the test process: on free ports, in directories of their
//! own, and gone when the process is, in whatever way it ends.
//!
//! A missing server fails a test; nothing is skipped. `make test` gets them all.

pub(crate) mod browser;
pub(crate) mod find;
pub(crate) mod guard;
pub(crate) mod mongodb;
pub(crate) mod nats;
mod port;
pub(crate) mod postgres;
pub(crate) mod rabbitmq;
mod tests;

pub(crate) use self::{
    browser::Browser,
    mongodb::mongodb,
    nats::{NatsServer, nats_server_program},
    postgres::postgres,
    rabbitmq::{VirtualHost, rabbitmq},
};

/// Chooses the cryptography of the process, as the program does at its start: an HTTP client
/// cannot be made without, even for plain HTTP.
pub(crate) fn install_crypto() {
    // An error means that another test was first, and chose the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
