//! RabbitMQ, one server for the test process and a virtual host for each test.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::sync::OnceCell;

use super::{find, guard, guard::Guard, port};

struct Server {
    guard: Guard,
    port: u16,
    management: String,
}

/// A fresh virtual host.
pub(crate) struct VirtualHost {
    /// Where clients connect, with the virtual host as its path.
    pub(crate) url: String,
    server: &'static Server,
}

/// The name service of Erlang nodes, ours alone (it would otherwise become a daemon that stays),
/// then the server itself. Both are in the guard's process group.
const RUN: &str = r#"epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 & exec "$1""#;

/// A fresh virtual host on the server of this test process. The first one takes 6 s and more.
pub(crate) async fn rabbitmq() -> VirtualHost {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.get_or_init(Server::start).await;
    let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
    server.put(&format!("vhosts/{name}"), "{}").await;
    let all = r#"{"configure":".*","write":".*","read":".*"}"#;
    server.put(&format!("permissions/{name}/guest"), all).await;
    VirtualHost { url: format!("amqp://guest:guest@127.0.0.1:{}/{name}", server.port), server }
}

impl Drop for VirtualHost {
    fn drop(&mut self) {
        self.server.guard.explain_failure();
    }
}

impl Server {
    async fn start() -> Self {
        // Not the wrapper in /usr/sbin, which would run it as the system's service does.
        let places = [
            "/usr/lib/rabbitmq/bin/rabbitmq-server",
            "/usr/local/sbin/rabbitmq-server",
            "/opt/homebrew/sbin/rabbitmq-server",
            "rabbitmq-server",
        ];
        let program = find::program("LIZARDS_TEST_RABBITMQ", &places);
        let directory = guard::directory("rabbitmq");
        let (port, management) = (port::free(), port::free());
        let home = directory.path().to_owned();
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\n\
             management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
             log.console = true\nlog.file = false\n"
        );
        std::fs::write(home.join("rabbitmq.conf"), config).expect("the directory is ours");
        std::fs::write(home.join("plugins"), "[rabbitmq_management].").expect("it is ours");

        let mut server = Command::new("sh");
        server.args(["-c", RUN, "rabbitmq"]).arg(program);
        server.env("HOME", &home);
        server.env("RABBITMQ_NODENAME", format!("test{port}@localhost"));
        server.env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq"));
        server.env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("plugins"));
        server.env("RABBITMQ_MNESIA_BASE", home.join("mnesia"));
        server.env("RABBITMQ_LOG_BASE", home.join("logs"));
        server.env("RABBITMQ_PID_FILE", home.join("own.pid"));
        server.env("RABBITMQ_DIST_PORT", port::free().to_string());
        server.env("ERL_EPMD_ADDRESS", "127.0.0.1");
        server.env("ERL_EPMD_PORT", port::free().to_string());
        let guard = Guard::start("RabbitMQ", directory, "KILL", &server);
        let started = async || guard.log().contains("Server startup complete").then_some(());
        guard.until(Duration::from_secs(90), started).await;
        Self { guard, port, management: format!("http://127.0.0.1:{management}/api") }
    }

    /// Asks its management interface for something to exist.
    async fn put(&self, path: &str, body: &'static str) {
        super::install_crypto();
        let request = reqwest::Client::new()
            .put(format!("{}/{path}", self.management))
            .basic_auth("guest", Some("guest"))
            .header("content-type", "application/json")
            .body(body);
        let answer = request.send().await.expect("RabbitMQ has started");
        assert!(answer.status().is_success(), "RabbitMQ refuses {path}: {}", answer.status());
    }
}
