//! Ports for servers that cannot choose one themselves.

use std::{collections::HashSet, net::TcpListener, sync::Mutex};

use rand::Rng;

/// A free port on 127.0.0.1, given once in this process.
///
/// It lies below the range from which systems take the ports of outgoing connections, so that none
/// of those gets it before the server does.
pub(crate) fn free() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().expect("nothing panics while it holds the ports");
    loop {
        let port = rand::rng().random_range(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok()
            && given.get_or_insert_default().insert(port)
        {
            return port;
        }
    }
}
