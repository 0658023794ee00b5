//! A primary with a replica, and Sentinels that make a primary of the replica where the primary is gone.

use std::net::SocketAddr;
use std::time::Duration;

use super::resp::{Connection, Value};
use super::{Launch, PORT, Server, Store};
use crate::{becomes_true, eventually};

/// The name by which the Sentinels know the servers.
pub const MASTER: &str = "test-master";

/// A failover takes seconds, more where every core is taken.
const FAILOVER: Duration = Duration::from_secs(120);

/// Two servers, and Sentinels.
pub struct Watched {
    /// The one that began as the primary, and the one that began as its replica.
    pub servers: [Store; 2],
    pub sentinels: Vec<Store>,
}

impl Watched {
    /// Starts them, and waits until the Sentinels know of each other and of both servers. `change` is done to both
    /// servers.
    pub async fn start(
        server: &Server,
        sentinels: usize,
        change: impl Fn(Launch) -> Launch,
    ) -> Self {
        let launch = || change(server.launch().line("replica-announce-ip IP"));
        let primary = launch().start().await;
        let at = primary.address.ip();
        let replica = launch().line(format!("replicaof {at} {PORT}"));
        let login = primary.user.as_ref().map(|user| {
            let name = user
                .name
                .as_ref()
                .map(|name| format!("masteruser {name}\n"));
            format!("{}masterauth {}", name.unwrap_or_default(), user.password)
        });
        let replica = match &login {
            Some(login) => replica.line(login),
            None => replica,
        };
        let replica = replica.start().await;
        if let Some(login) = &login {
            // It is a replica later.
            let mut connection = primary.connect_as_operator().await;
            for line in login.lines() {
                let (key, value) = line.split_once(' ').unwrap();
                connection.call(&["CONFIG", "SET", key, value]).await;
            }
        }
        let mut started = Vec::new();
        for _ in 0..sentinels {
            let launch = sentinel(server, &primary, sentinels / 2 + 1);
            started.push(launch.start().await);
        }
        let watched = Self {
            servers: [primary, replica],
            sentinels: started,
        };
        watched.complete().await;
        watched
    }

    async fn complete(&self) {
        eventually(|| async {
            for sentinel in &self.sentinels {
                let mut connection = sentinel.connect().await;
                let said = connection.call(&["SENTINEL", "MASTER", MASTER]).await;
                let fields: Vec<String> = said.parts().iter().map(Value::text).collect();
                let field = |name: &str| {
                    let at = fields.iter().position(|field| field == name);
                    at.map(|at| fields[at + 1].clone())
                };
                let others = (self.sentinels.len() - 1).to_string();
                let is_complete = field("num-slaves").as_deref() == Some("1")
                    && field("num-other-sentinels") == Some(others)
                    && field("flags").as_deref() == Some("master");
                if !is_complete {
                    return false;
                }
            }
            // A replica that has not the whole of the data cannot become the primary.
            let mut replica = self.servers[1].connect_as_operator().await;
            let said = replica.call(&["INFO", "replication"]).await.text();
            said.contains("master_link_status:up")
        })
        .await;
    }

    /// The Sentinels' URLs.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Store::url).collect()
    }

    /// What the first Sentinel says is the primary.
    ///
    /// # Panics
    /// Where it says nothing.
    pub async fn primary(&self) -> SocketAddr {
        let mut connection: Connection = self.sentinels[0].connect().await;
        let said = connection
            .call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER])
            .await;
        let [host, port] = said.parts() else {
            panic!("{said:?}");
        };
        format!("{}:{}", host.text(), port.text()).parse().unwrap()
    }

    /// Kills the primary, and waits until the replica is the primary, which the first Sentinel knows.
    ///
    /// # Panics
    /// Where that does not happen.
    pub async fn fail_over(&mut self) {
        self.servers[0].kill().await;
        let next = self.servers[1].address;
        let is_done = becomes_true(FAILOVER, async || self.primary().await == next);
        assert!(is_done.await, "{}", self.sentinels[0].log());
    }
}

fn sentinel(server: &Server, primary: &Store, quorum: usize) -> Launch {
    let at = primary.address.ip();
    let mut launch = server
        .launch()
        .line("sentinel announce-ip IP")
        .line(format!("sentinel monitor {MASTER} {at} {PORT} {quorum}"))
        .line(format!("sentinel down-after-milliseconds {MASTER} 500"))
        .line(format!("sentinel failover-timeout {MASTER} 3000"));
    launch.is_sentinel = true;
    if let Some(user) = &primary.user {
        if let Some(name) = &user.name {
            launch = launch.line(format!("sentinel auth-user {MASTER} {name}"));
        }
        launch = launch.line(format!("sentinel auth-pass {MASTER} {}", user.password));
    }
    launch
}
