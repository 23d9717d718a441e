//! The whole program against real servers.

mod servers;
