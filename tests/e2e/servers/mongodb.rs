//! MongoDB, one server for the test process and a database for each test.

use std::{env, process::Command, time::Duration};

use mongodb::{
    Client,
    bson::{doc, oid::ObjectId},
};
use tokio::sync::OnceCell;

use super::{find, guard, guard::Guard, port};

/// A fresh database.
pub(crate) struct MongoDatabase {
    /// The server.
    pub(crate) url: String,
    /// The name of the database, which does not exist yet.
    pub(crate) database: String,
    stand_in: Option<&'static StandIn>,
}

/// A program that speaks MongoDB's protocol: no package registry has the server itself. It answers
/// much as MongoDB does, not everything; see CONTRIBUTING.md.
struct StandIn {
    guard: Guard,
    url: String,
}

/// A fresh database on the server that `LIZARDS_TEST_MONGODB_URL` names, else on a stand-in.
pub(crate) async fn mongodb() -> MongoDatabase {
    static STAND_IN: OnceCell<StandIn> = OnceCell::const_new();
    let database = format!("lizards_{}", ObjectId::new().to_hex());
    if let Ok(url) = env::var("LIZARDS_TEST_MONGODB_URL") {
        return MongoDatabase { url, database, stand_in: None };
    }
    let stand_in = STAND_IN.get_or_init(StandIn::start).await;
    MongoDatabase { url: stand_in.url.clone(), database, stand_in: Some(stand_in) }
}

impl MongoDatabase {
    /// Whether it is not MongoDB itself that answers.
    pub(crate) fn is_stand_in(&self) -> bool {
        self.stand_in.is_some()
    }
}

impl Drop for MongoDatabase {
    fn drop(&mut self) {
        if let Some(stand_in) = self.stand_in {
            stand_in.guard.explain_failure();
        }
    }
}

impl StandIn {
    async fn start() -> Self {
        let program = find::program("LIZARDS_TEST_MONGODB", &[".tools/bin/nx-27017", "nx-27017"]);
        let directory = guard::directory("mongodb");
        let (port, home) = (port::free(), directory.path().to_owned());
        let mut server = Command::new(program);
        server.arg("--data-dir").arg(home.join("data")).args(["--port", &port.to_string()]);
        server.arg("--log-file").arg(home.join("log")).arg("--pid-file").arg(home.join("own.pid"));
        let guard = Guard::start("the stand-in for MongoDB", directory, "KILL", &server);
        let url = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
        guard.until(Duration::from_secs(30), async || ping(&url).await.ok()).await;
        Self { guard, url }
    }
}

async fn ping(url: &str) -> mongodb::error::Result<()> {
    // The driver retries by itself for long; a server that starts is better asked often.
    let client = Client::with_uri_str(format!("{url}&serverSelectionTimeoutMS=500")).await?;
    client.database("admin").run_command(doc! { "ping": 1 }).await?;
    Ok(())
}
