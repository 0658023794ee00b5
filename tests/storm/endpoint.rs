//! The token endpoint, and what it knows of every token: whose it is, and how long it lives.
//!
//! Modelled on Doorkeeper (form, secret in the body, opaque tokens, `alpha`) and on Keycloak (refresh
//! tokens that may be used once, `beta`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_testkit::wire::{Head, Reader};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::plan::{ACCOUNTS, Account};
use crate::program::PATIENCE;
use crate::shared::Shared;

/// How long a token lives.
pub(crate) const LIFE: Duration = Duration::from_secs(3);

/// How late a request may be read on a busy machine after its token was good when it was sent.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// How soon instances agree once the store is back, doubled for a machine whose cores are all taken.
const AGREED: Duration = Duration::from_secs(4);

/// How long it may take until an instance that was given a token has told the others.
const TOLD: Duration = Duration::from_millis(1500);

/// What token calls meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Status 503.
    Down,
    /// Status 200 and no JSON.
    Garbage,
    Reset,
    Hang,
    /// Status 429, and when to come back.
    RateLimited,
}

pub(crate) const TROUBLES: [Trouble; 5] = [
    Trouble::Down,
    Trouble::Garbage,
    Trouble::Reset,
    Trouble::Hang,
    Trouble::RateLimited,
];

/// A token call: which start of Bursar made it, and when it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) run: String,
    pub(crate) provider: &'static str,
    pub(crate) at: Instant,
}

#[derive(Debug)]
struct Token {
    account: Account,
    ends: Instant,
    is_revoked: bool,
}

/// What a provider makes of a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TokenCheck {
    Good,
    Unauthorized,
    /// It must never have been sent.
    Violation(String),
}

/// From when until when.
type Span = (Instant, Instant);

#[derive(Debug)]
struct Refresh {
    account: Account,
    /// What its tokens are asked for with.
    key: String,
    /// Whether it has arrived.
    is_used: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Tokens {
    issued: HashMap<String, Token>,
    /// What each client may show.
    pub(crate) secrets: HashMap<String, Vec<String>>,
    refresh: HashMap<String, Refresh>,
    /// The last token of each key, and when it was issued.
    latest: HashMap<String, (String, Instant)>,
    /// Calls that came while the token before was good and new.
    early: Vec<(Span, String)>,
    /// When instances could not tell each other, or one could not tell what it had been told.
    silences: Vec<Span>,
    /// When each instance was ended.
    pub(crate) ends: Vec<Instant>,
    pub(crate) calls: Vec<Call>,
    /// How many requests came after their token's end, by less than that, and the latest of them.
    pub(crate) late: (usize, Duration),
}

/// The `client_id` of an account.
pub(crate) fn client(account: Account) -> String {
    format!("{}-{}", account.provider, account.account)
}

impl Tokens {
    pub(crate) fn check(&mut self, token: &str, wanted: Account, now: Instant) -> TokenCheck {
        let Some(known) = self.issued.get(token) else {
            return TokenCheck::Violation(format!("the token {token:?} was never issued"));
        };
        if known.account != wanted {
            let owner = known.account;
            return TokenCheck::Violation(format!("{wanted:?} was sent the token of {owner:?}"));
        }
        if now > known.ends {
            let late = now - known.ends;
            if late > GRACE {
                return TokenCheck::Violation(format!("a token was sent {late:?} after its end"));
            }
            self.late = (self.late.0 + 1, self.late.1.max(late));
            return TokenCheck::Unauthorized;
        }
        match known.is_revoked {
            true => TokenCheck::Unauthorized,
            false => TokenCheck::Good,
        }
    }

    /// Ends every token of an account.
    pub(crate) fn revoke(&mut self, account: Account) {
        for token in self.issued.values_mut() {
            token.is_revoked |= token.account == account;
        }
    }

    /// From then until now instances may have known less than the fleet.
    pub(crate) fn silent_since(&mut self, since: Instant) {
        self.silences.push((since, Instant::now() + AGREED));
    }

    /// Its last tokens may be known to nobody.
    pub(crate) fn instance_ended(&mut self) {
        let now = Instant::now();
        self.ends.push(now);
        self.silences.push((now - TOLD, now));
    }

    /// Token calls that a fleet had no need of: a good, new token was there, and nothing kept the others from
    /// hearing of it.
    pub(crate) fn needless(&self) -> Vec<String> {
        let is_silent = |(begin, end): &Span| {
            let overlaps = |(from, until): &Span| from <= end && begin <= until;
            self.silences.iter().any(overlaps)
        };
        let needless = self.early.iter().filter(|(span, _)| !is_silent(span));
        let shown = needless.map(|((begin, end), key)| format!("{key} after {:?}", *end - *begin));
        shown.collect()
    }

    fn note(&mut self, key: &str, token: &str) {
        let now = Instant::now();
        let latest = (token.to_owned(), now);
        let Some((before, at)) = self.latest.insert(key.to_owned(), latest) else {
            return;
        };
        let is_good = self
            .issued
            .get(&before)
            .is_some_and(|token| !token.is_revoked);
        // It is renewed after two thirds of its life, counted from a call that took a second at most.
        if is_good && now - at < LIFE / 3 {
            self.early.push(((at, now), key.to_owned()));
        }
    }

    fn issue(&mut self, account: Account, key: String) -> String {
        let number = self.issued.len();
        let token = format!("storm-token-{number}");
        self.note(&key, &token);
        let ends = Instant::now() + LIFE;
        let new = Token {
            account,
            ends,
            is_revoked: false,
        };
        self.issued.insert(token.clone(), new);
        let mut reply = serde_json::json!({
            "access_token": token, "token_type": "Bearer", "expires_in": LIFE.as_secs(),
        });
        if account.provider == "beta" {
            let refresh = format!("storm-refresh-{number}");
            let new = Refresh {
                account,
                key,
                is_used: false,
            };
            self.refresh.insert(refresh.clone(), new);
            reply["refresh_token"] = refresh.into();
            reply["refresh_expires_in"] = 60.into();
        }
        reply.to_string()
    }

    /// Status and body; an error where something must not have been sent.
    fn answer(&mut self, form: &HashMap<String, String>) -> Result<(u16, String), String> {
        let text = |key: &str| form.get(key).map_or("", String::as_str);
        let account = ACCOUNTS
            .iter()
            .find(|account| client(**account) == text("client_id"));
        let account = *account.ok_or(format!("nobody is {:?}", text("client_id")))?;
        let accepted = self.secrets.get(text("client_id"));
        let is_accepted = |secret: &String| secret == text("client_secret");
        if !accepted.is_some_and(|secrets| secrets.iter().any(is_accepted)) {
            return Ok((401, r#"{"error":"invalid_client"}"#.to_owned()));
        }
        match text("grant_type") {
            "client_credentials" => {
                let key = ["client_id", "scope", "client_secret"].map(text).join(" ");
                Ok((200, self.issue(account, key)))
            }
            "refresh_token" => {
                let known = self.refresh.get(text("refresh_token"));
                let known = known.ok_or("an unknown refresh token")?;
                if known.account != account {
                    return Err("a refresh token of another account".to_owned());
                }
                let key = known.key.clone();
                Ok((200, self.issue(account, key)))
            }
            other => Err(format!("grant {other:?}")),
        }
    }

    /// A refresh token has arrived: whatever becomes of that call may have used it up, except that a limit has
    /// not. Says whether it may be so.
    fn arrive(&mut self, form: &HashMap<String, String>, is_limited: bool) -> bool {
        let shown = form.get("refresh_token");
        let shown = shown.and_then(|token| self.refresh.get_mut(token));
        let Some(refresh) = shown else { return true };
        let was_used = refresh.is_used;
        refresh.is_used |= !is_limited;
        !was_used
    }
}

/// Serves both providers' token endpoints.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(shared.clone(), stream));
        }
    }
}

async fn connection(shared: Arc<Shared>, mut stream: TcpStream) {
    let is_open = {
        let (read, mut write) = stream.split();
        let mut reader = Reader::new(read, PATIENCE);
        loop {
            let Ok(head) = reader.head().await else {
                break true;
            };
            let Ok(body) = reader.whole(head.framing()).await else {
                break true;
            };
            let Some((status, body)) = call(&shared, &head, &body).await else {
                break false;
            };
            let answer = format!(
                "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if write.write_all(answer.as_bytes()).await.is_err() {
                break true;
            }
        }
    };
    if !is_open {
        drop(stream.set_zero_linger());
    }
}

/// None: the connection is reset.
async fn call(shared: &Shared, head: &Head, body: &[u8]) -> Option<(u16, String)> {
    let form: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
    let provider = match head.second() {
        "/alpha/token" => "alpha",
        "/beta/token" => "beta",
        other => {
            let what = format!("a token call to {other}");
            shared.history().violation(what);
            return None;
        }
    };
    shared.tokens().calls.push(Call {
        run: form.get("run").cloned().unwrap_or_default(),
        provider,
        at: Instant::now(),
    });
    let trouble = shared.trouble();
    let is_limited = trouble == Some(Trouble::RateLimited);
    if !shared.tokens().arrive(&form, is_limited) {
        let what = format!("token call to {provider}: a refresh token arrived twice, {trouble:?}");
        shared.history().violation(what);
        return Some((400, r#"{"error":"invalid_grant"}"#.to_owned()));
    }
    match trouble {
        None => {}
        Some(Trouble::Down) => return Some((503, "<html>down</html>".to_owned())),
        Some(Trouble::Garbage) => return Some((200, "<html>welcome</html>".to_owned())),
        Some(Trouble::RateLimited) => {
            let body = r#"{"error":"rate_limit_exceeded","retry_after":1}"#;
            return Some((429, body.to_owned()));
        }
        Some(trouble @ (Trouble::Reset | Trouble::Hang)) => {
            if trouble == Trouble::Hang {
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            return None;
        }
    }
    let answer = shared.tokens().answer(&form);
    match answer {
        Ok(answer) => Some(answer),
        Err(what) => {
            shared
                .history()
                .violation(format!("token call to {provider}: {what}"));
            Some((400, r#"{"error":"invalid_request"}"#.to_owned()))
        }
    }
}
