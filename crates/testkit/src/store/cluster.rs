//! A cluster of primaries without replicas.

use super::{Launch, PORT, Server, Store};
use crate::eventually;

/// Of every cluster.
const SLOTS: usize = 16384;

/// Its nodes.
pub struct Cluster {
    pub nodes: Vec<Store>,
}

impl Cluster {
    /// Starts so many nodes, each with its share of the slots in order, and waits until all of them agree. `change` is
    /// done to all.
    pub async fn start(server: &Server, nodes: usize, change: impl Fn(Launch) -> Launch) -> Self {
        let mut started = Vec::new();
        for at in 0..nodes {
            let launch = server
                .launch()
                .line("cluster-enabled yes")
                .line("cluster-announce-ip IP")
                .line("cluster-node-timeout 2000");
            let node = change(launch).start().await;
            let mut connection = node.connect_as_operator().await;
            let [from, to] = [at, at + 1].map(|at| at * SLOTS / nodes);
            let (from, to) = (from.to_string(), (to - 1).to_string());
            connection
                .call(&["CLUSTER", "ADDSLOTSRANGE", &from, &to])
                .await;
            started.push(node);
        }
        for node in &started[1..] {
            let first = started[0].address.ip().to_string();
            let mut connection = node.connect_as_operator().await;
            connection
                .call(&["CLUSTER", "MEET", &first, &PORT.to_string()])
                .await;
        }
        let cluster = Self { nodes: started };
        cluster.agreed().await;
        cluster
    }

    async fn agreed(&self) {
        let count = format!("cluster_known_nodes:{}", self.nodes.len());
        eventually(|| async {
            for node in &self.nodes {
                let mut connection = node.connect_as_operator().await;
                let said = connection.call(&["CLUSTER", "INFO"]).await.text();
                if !said.contains("cluster_state:ok") || !said.contains(&count) {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// The nodes' URLs.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Store::url).collect()
    }

    /// Where a name is kept.
    ///
    /// # Panics
    /// Where no node knows.
    pub async fn node_of(&self, name: &str) -> &Store {
        let mut connection = self.nodes[0].connect_as_operator().await;
        let slot = connection.call(&["CLUSTER", "KEYSLOT", name]).await.text();
        let slot: usize = slot.parse().unwrap();
        let count = self.nodes.len();
        let owner = (0..count).find(|at| slot < (at + 1) * SLOTS / count);
        &self.nodes[owner.unwrap()]
    }
}
