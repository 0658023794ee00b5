//! A connection to one server, from the greeting to its end: RESP3, with what is published on the same connection.
//!
//! Protocol and parsing are those of redis-rs; sockets, TLS, timeouts and limits are not. Many run scripts at once, and
//! the server responds in order; whoever gets no response in time closes the connection for all where nothing else came
//! either, so that nobody else waits for a server that is gone.
//!
//! `ended` is written by the task that drives the connection and by whoever closes it, the first one wins; the task that
//! keeps the server connected waits for it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, Value,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::dial::{Dial, Dialed, STEP_TIMEOUT, dial};
use super::error::{Kind, StoreError};
use super::events::{Event, Queue};
use super::framing::{Checked, Traffic};
use super::script::{Arg, Script};
use bursar_base::secret::Secret;

/// A response that takes longer does not come any more.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a replica may take to confirm what was written. Other commands wait meanwhile.
const REPLICATION_MILLISECONDS: u64 = 100;
/// Scripts under way on one connection are no more: those beyond fail at once.
const MAX_IN_FLIGHT: usize = 4096;
/// Of those, as many wait for the connection to take their bytes.
const MAX_QUEUED: usize = 256;

/// Who logs in, and where.
#[derive(Debug, Clone, Default)]
pub(super) struct Login {
    pub(super) username: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) database: u16,
}

/// An open connection.
pub(super) struct Connection {
    redis: MultiplexedConnection,
    driver: AbortHandle,
    ended: watch::Sender<Option<Kind>>,
    traffic: Arc<Traffic>,
    in_flight: AtomicUsize,
    /// The scripts that the server has run, by their SHA-1.
    known: Mutex<HashSet<String>>,
}

impl Connection {
    /// Connects, greets and logs in. What is published goes to `events`; without them, RESP2 is spoken, which all
    /// Sentinels know.
    pub(super) async fn open(
        how: Dial<'_>,
        login: &Login,
        events: Option<Arc<Queue>>,
    ) -> Result<Self, StoreError> {
        let is_plain = how.tls.is_none();
        let Dialed {
            stream,
            lacks_certificate,
        } = dial(how).await?;
        let traffic = Arc::new(Traffic::new());
        let stream = Checked::new(stream, traffic.clone());
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(MAX_QUEUED);
        let greeting = greeting(login, events.is_some());
        if let Some(events) = events {
            config = config.set_push_sender(move |push: PushInfo| {
                if let Some(event) = published(push) {
                    events.add(event);
                }
                Ok::<(), ()>(())
            });
        }
        let greeted = MultiplexedConnection::new_with_config(&greeting, stream, config);
        let (redis, driver) = timeout(STEP_TIMEOUT, greeted)
            .await
            .map_err(|_elapsed| StoreError::timed_out("HELLO"))?
            .map_err(|error| {
                let error = StoreError::of(error);
                refused(error, &traffic, is_plain, lacks_certificate)
            })?;
        let ended = watch::Sender::new(None);
        let driver = tokio::spawn({
            let (ended, traffic) = (ended.clone(), traffic.clone());
            async move {
                driver.await;
                end(
                    &ended,
                    match traffic.is_violated() {
                        true => Kind::Protocol,
                        false => Kind::Disconnected,
                    },
                );
            }
        });
        Ok(Self {
            redis,
            driver: driver.abort_handle(),
            ended,
            traffic,
            in_flight: AtomicUsize::new(0),
            known: Mutex::default(),
        })
    }

    /// What is published must not be taken for a response: a proxy in between that says yes to RESP3, and goes on in
    /// RESP2, is of no use.
    pub(super) async fn check_resp3(&self) -> Result<(), StoreError> {
        match self.ask(&redis::cmd("HELLO")).await? {
            Value::Map(_) => Ok(()),
            _ => Err(StoreError::unsent(Kind::TooOld)),
        }
    }

    /// Subscribes, and waits until the server has confirmed that.
    pub(super) async fn subscribe(&self, channels: &[String]) -> Result<(), StoreError> {
        if channels.is_empty() {
            return Ok(());
        }
        let mut redis = self.redis.clone();
        let begun = Instant::now();
        let sent = timeout(RESPONSE_TIMEOUT, redis.subscribe(channels));
        self.responded(sent.await, begun)
    }

    /// Runs a script. One that the server has not run on this connection is sent whole.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[Arg<'_>],
    ) -> Result<Value, StoreError> {
        let _counted = self.counted()?;
        if self.knows(script) {
            match self.send(&script.evalsha(keys, args)).await? {
                Value::ServerError(error) if error.code() == "NOSCRIPT" => {}
                value => return self.checked(value),
            }
        }
        let value = self.send(&script.eval(keys, args)).await?;
        let value = self.checked(value)?;
        self.now_knows(script);
        Ok(value)
    }

    /// Runs a script whose keys another node is about to hand over to this one.
    pub(super) async fn run_asking(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[Arg<'_>],
    ) -> Result<Value, StoreError> {
        let _counted = self.counted()?;
        let mut both = redis::Pipeline::with_capacity(2);
        both.add_command(redis::cmd("ASKING"));
        both.add_command(script.eval(keys, args));
        let mut redis = self.redis.clone();
        let begun = Instant::now();
        let sent = timeout(RESPONSE_TIMEOUT, redis.send_packed_commands(&both, 0, 2));
        let mut values = self.responded(sent.await, begun)?;
        let value = values.pop().ok_or(StoreError::unknown(Kind::Protocol))?;
        self.checked(value)
    }

    /// Whether a replica has all that was written on this connection, within a moment.
    pub(super) async fn is_replicated(&self) -> bool {
        let mut command = redis::cmd("WAIT");
        command.arg(1).arg(REPLICATION_MILLISECONDS);
        matches!(self.ask(&command).await, Ok(Value::Int(replicas)) if replicas > 0)
    }

    /// Whether the user may ask how many replicas have a write (`WAIT`).
    pub(super) async fn may_wait(&self) -> Result<(), StoreError> {
        // As many replicas are there at once.
        self.ask(redis::cmd("WAIT").arg(0).arg(0)).await.map(drop)
    }

    /// Any other command.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, StoreError> {
        let value = self.send(command).await?;
        self.checked(value)
    }

    /// Whether anything has come since then.
    pub(super) fn is_silent_since(&self, then: Instant) -> bool {
        self.traffic.is_silent_since(then)
    }

    /// Ends it, for all that use it.
    pub(super) fn close(&self, why: Kind) {
        end(&self.ended, why);
        self.driver.abort();
    }

    /// Waits until it has ended, and says why.
    pub(super) async fn ended(&self) -> Kind {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(why) => why.unwrap_or(Kind::Disconnected),
            Err(_closed) => Kind::Disconnected,
        }
    }

    async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        let mut redis = self.redis.clone();
        let begun = Instant::now();
        let sent = timeout(RESPONSE_TIMEOUT, redis.send_packed_command(command));
        self.responded(sent.await, begun)
    }

    fn responded<T>(
        &self,
        sent: Result<redis::RedisResult<T>, tokio::time::error::Elapsed>,
        begun: Instant,
    ) -> Result<T, StoreError> {
        match sent {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let error = StoreError::of(error);
                // Why it was closed says more than that it was.
                let why = (*self.ended.borrow()).filter(|_| error.kind() == Kind::Disconnected);
                Err(why.map_or(error, StoreError::unknown))
            }
            Err(_elapsed) => {
                if self.traffic.is_silent_since(begun) {
                    self.close(Kind::TimedOut);
                }
                Err(StoreError::unknown(Kind::TimedOut))
            }
        }
    }

    /// The value, where it is no error. After some errors the connection is of no use.
    fn checked(&self, value: Value) -> Result<Value, StoreError> {
        let value = value.extract_error().map_err(StoreError::of);
        if let Err(error) = &value
            && matches!(error.kind(), Kind::ReadOnly | Kind::WrongPassword)
        {
            self.close(error.kind());
        }
        value
    }

    /// Counts a script that is to be run, where one may be run yet: the connection may have ended just now, before the
    /// task that keeps the server connected knows.
    fn counted(&self) -> Result<Counted<'_>, StoreError> {
        if self.ended.borrow().is_some() {
            return Err(StoreError::unsent(Kind::Down));
        }
        let counted = Counted(&self.in_flight);
        match self.in_flight.fetch_add(1, Ordering::Relaxed) {
            before if before < MAX_IN_FLIGHT => Ok(counted),
            _ => Err(StoreError::unsent(Kind::Busy)),
        }
    }

    fn knows(&self, script: &Script) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(script.sha1())
    }

    fn now_knows(&self, script: &Script) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(script.sha1()) {
            known.insert(script.sha1().to_owned());
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// One that is under way.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn end(ended: &watch::Sender<Option<Kind>>, why: Kind) {
    ended.send_if_modified(|ended| {
        let is_first = ended.is_none();
        ended.get_or_insert(why);
        is_first
    });
}

/// HELLO and AUTH in one, and SELECT where it is needed. Nothing else: a user may have no other permissions.
fn greeting(login: &Login, is_resp3: bool) -> RedisConnectionInfo {
    let mut greeting = RedisConnectionInfo::default()
        .set_skip_set_lib_name()
        .set_db(login.database.into())
        .set_protocol(match is_resp3 {
            true => ProtocolVersion::RESP3,
            false => ProtocolVersion::RESP2,
        });
    if let Some(username) = &login.username {
        greeting = greeting.set_username(username.expose());
    }
    if let Some(password) = &login.password {
        greeting = greeting.set_password(password.expose());
    }
    greeting
}

/// Why the greeting failed. Nothing else was sent.
fn refused(
    error: StoreError,
    traffic: &Traffic,
    is_plain: bool,
    lacks_certificate: bool,
) -> StoreError {
    let kind = match error.kind() {
        Kind::Disconnected if traffic.is_violated() => Kind::Protocol,
        Kind::Disconnected if lacks_certificate => Kind::ClientCertificate,
        Kind::Disconnected if is_plain => Kind::NotGreeted,
        kind => kind,
    };
    error.with_kind(kind)
}

fn published(push: PushInfo) -> Option<Event> {
    if push.kind != PushKind::Message {
        return None;
    }
    let mut parts = push.data.into_iter();
    match (parts.next(), parts.next()) {
        (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) => {
            Some(Event::Message {
                channel: String::from_utf8(channel).ok()?,
                payload: Bytes::from(payload),
            })
        }
        _ => None,
    }
}
