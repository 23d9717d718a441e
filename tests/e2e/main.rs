//! The whole program against real servers.

// All of this is tests; Clippy's leave for tests ends at the functions that they share.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod access;
mod alerts;
mod archive;
mod bench;
mod broker_conformance;
mod brokers;
mod candles;
mod conformance;
mod defects;
mod deploy;
mod doctor;
mod door;
mod dry_run;
mod eventually;
mod faults;
mod files;
mod gate;
mod hosts;
mod jetstream;
mod live;
mod lizards;
mod outage;
mod pages;
mod pipeline;
mod poison;
mod push;
mod quota;
mod rabbitmq;
mod raw;
mod rejected;
mod scale;
mod servers;
mod sharing;
mod sources;
mod spool;
mod store;
mod stores;
mod storm;
mod subscriber;
mod symbols;
mod trades;
mod twice;
mod up;
