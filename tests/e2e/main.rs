//! The whole program against real servers.

mod deploy;
mod servers;
