//! Finds, starts, watches and stops a private nats-server.
