//! JetStream as the broker.
