//! Setup: the configuration of Bursar, and the files around it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::caller::password;
use crate::disk::Disk;
use crate::endpoint::client;
use crate::plan::{ACCOUNTS, Account};

/// What alpha's token endpoint may be asked in a minute.
pub(crate) const ALPHA_BUDGET: u32 = 180;
/// What beta's may be.
pub(crate) const BETA_BUDGET: u32 = 60;

/// What token calls of a fleet say in place of the number of a start.
pub(crate) const FLEET: &str = "fleet";

/// 32 bytes.
const FLEET_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// The same for both providers.
const ROUTES: &str = "[{methods: [POST], path: /pay/**, scopes: [pay], idempotency_header: Idempotency-Key}, \
    {methods: [POST], path: /keyed/**, scopes: [pay], replay: if_keyed, idempotency_header: Idempotency-Key}, \
    {methods: [POST], path: /once/**, scopes: [pay], replay: never}, \
    {methods: [POST], path: /note/**, moves_money: false}, \
    {methods: [GET], path: /refund/**, moves_money: true}]";

/// Where everything is.
pub(crate) struct Setup {
    directory: TempDir,
    pub(crate) disk: Disk,
    token_endpoint: SocketAddr,
    alpha: SocketAddr,
    beta: SocketAddr,
    /// The URL of the fleet's store. None: it is alone.
    store: Option<String>,
    /// Of the caller that is known by a hash.
    hash: String,
    /// Counts the starts, so that the token endpoint can tell them apart.
    runs: u32,
    /// How many requests `shop` may have under way; what a reload changes.
    pub(crate) in_flight: u32,
}

impl Setup {
    pub(crate) fn new(addresses: [SocketAddr; 3], store: Option<String>) -> Self {
        let [token_endpoint, alpha, beta] = addresses;
        Self {
            directory: tempfile::tempdir().unwrap(),
            disk: Disk::new(),
            token_endpoint,
            alpha,
            beta,
            store,
            hash: bcrypt::hash(password("both"), 4).unwrap(),
            runs: 0,
            in_flight: 19,
        }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("proxy.yaml")
    }

    /// Gives an account another secret.
    pub(crate) fn write_secret(&self, account: Account, secret: &str) {
        replace(&self.secret_file(account), secret);
    }

    fn secret_file(&self, account: Account) -> PathBuf {
        self.directory.path().join(client(account))
    }

    /// Writes the configuration for another start.
    pub(crate) fn prepare_start(&mut self) {
        self.runs += 1;
        self.write_config();
    }

    /// Writes the configuration.
    pub(crate) fn write_config(&self) {
        replace(&self.config(), &self.yaml());
    }

    /// Writes one that cannot be used.
    pub(crate) fn write_broken_config(&self) {
        replace(&self.config(), &format!("surprise: 1\n{}", self.yaml()));
    }

    fn yaml(&self) -> String {
        let journal = self.disk.journal();
        let mut yaml = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\ndrain_timeout: 2s\nreplay_memory: 4MiB\n\
             journal: {{path: {}, max_size: 32MiB}}\ncallers:\n",
            journal.display()
        );
        yaml.push_str(&self.callers());
        if let Some(store) = &self.store {
            yaml.push_str(&format!(
                "fleet: {{url: '{store}', keys: ['{FLEET_KEY}']}}\n"
            ));
        }
        yaml.push_str("providers:\n");
        let [shop, outlet, default] = ACCOUNTS.map(|account| self.account(account));
        let accounts = format!("accounts: {{shop: {{{shop}}}, outlet: {{{outlet}}}}}");
        yaml.push_str(&self.provider("alpha", self.alpha, &accounts, ALPHA_BUDGET));
        yaml.push_str(&self.provider("beta", self.beta, &default, BETA_BUDGET));
        yaml
    }

    /// One of each kind: a password, several, a hash; bound to an account, and free to choose.
    fn callers(&self) -> String {
        let Self {
            hash, in_flight, ..
        } = self;
        let [shop, outlet, beta] = ["shop", "outlet", "beta"].map(password);
        format!(
            "  shop: {{password: {shop}, limits: {{in_flight: {in_flight}}}, allow: [{{provider: alpha, account: shop}}]}}\n  \
             outlet: {{passwords: [another, {outlet}], allow: [{{provider: alpha, account: outlet}}]}}\n  \
             both: {{password: \"{hash}\", allow: [{{provider: alpha, accounts: [shop, outlet]}}, beta]}}\n  \
             beta: {{password: {beta}, allow: [beta]}}\n"
        )
    }

    fn account(&self, account: Account) -> String {
        let (client, file) = (client(account), self.secret_file(account));
        format!(
            "client_id: {client}, client_secret: \"${{file:{}}}\"",
            file.display()
        )
    }

    fn provider(&self, name: &str, api: SocketAddr, accounts: &str, budget: u32) -> String {
        let Self {
            token_endpoint,
            runs,
            ..
        } = self;
        // A fleet's instances have one token for what they ask for alike.
        let run = match self.store {
            Some(_) => FLEET.to_owned(),
            None => runs.to_string(),
        };
        let refresh = if name == "beta" { "grant" } else { "none" };
        format!(
            "  {name}:\n    {{hosts: [{name}.test], upstream: \"http://{api}\", {accounts}, \
             token: {{url: \"http://{token_endpoint}/{name}/token\", calls_per_minute: {budget}, refresh: {refresh}, \
             scopes: [read], timeout: 1s, wait: 2s, params: {{run: \"{run}\"}}}}, replay_buffer: 64KiB, \
             timeouts: {{connect: 2s, head: 1s, idle: 1s, pool_idle: 3s}}, routes: {ROUTES}}}\n"
        )
    }
}

/// Whoever reads the file sees the old one or the new one.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}
