//! The callers: each sends one request after the other, and reads every byte that comes back.
//!
//! They find Bursar again after it was ended, and count what they got. What they send is in the plan.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bursar_testkit::wire::{Head, Reader, framed, framing_field};
use fastrand::Rng;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::history::Seen;
use crate::plan::{Id, Manner, Plan, Reception};
use crate::program::PATIENCE;
use crate::shared::{Moment, Shared};

/// What a caller of that name shows.
pub(crate) fn password(caller: &str) -> String {
    format!("storm-pass-{caller}")
}

/// A connection to Bursar.
struct Line {
    reader: Reader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// Which Bursar it was made to.
    epoch: u64,
    /// Inside of a tunnel, where the caller is known already.
    is_tunnel: bool,
}

/// Sends requests until it is told to end; says how many those were.
pub(crate) async fn run(shared: Arc<Shared>, caller: u32) -> u32 {
    let mut rng = Rng::with_seed(shared.seed ^ u64::from(caller) << 32);
    let mut line = None;
    let mut number = 0;
    let over = shared.is_over.subscribe();
    while !*over.borrow() {
        let id = Id { caller, number };
        let plan = Plan::of(shared.seed, id);
        let connected = match line.take() {
            Some(line) => Some(line),
            None => connect(&shared, &plan, &mut rng).await,
        };
        let Some(mut connected) = connected else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        number += 1;
        shared.history().begin(id, connected.epoch);
        let (seen, keeps) = connected.exchange(&shared, &plan).await;
        // Whoever is told to wait waits.
        let is_refused = matches!(seen, Seen::Refused(..));
        if plan.kind.moves_money() && matches!(seen, Seen::Answered(_)) {
            shared.at(Moment::Answer, caller);
        }
        let epoch = shared.instance_of(caller).epoch();
        shared.history().end(id, epoch, seen);
        if keeps {
            line = Some(connected);
        } else if rng.u32(..4) == 0 {
            connected.reset();
        }
        let most = if is_refused { 200 } else { 30 };
        tokio::time::sleep(Duration::from_millis(rng.u64(..most))).await;
    }
    if let Some(line) = line {
        line.finish(&shared, caller).await;
    }
    number
}

/// None: there is no Bursar at the moment, or it wants no tunnel.
async fn connect(shared: &Shared, plan: &Plan, rng: &mut Rng) -> Option<Line> {
    let instance = shared.instance_of(plan.id.caller);
    let epoch = instance.epoch();
    let mut address = instance.address.subscribe();
    let waiting = address.wait_for(Option::is_some);
    let address = tokio::time::timeout(Duration::from_secs(1), waiting).await;
    let address: SocketAddr = (*address.ok()?.ok()?)?;
    let stream = TcpStream::connect(address).await.ok()?;
    // Else it may be one that is about to end.
    if instance.epoch() != epoch {
        return None;
    }
    drop(stream.set_nodelay(true));
    let (read, write) = stream.into_split();
    let mut line = Line {
        reader: Reader::new(read, PATIENCE),
        write,
        epoch,
        is_tunnel: false,
    };
    // Whoever asks several providers cannot have one tunnel for all.
    if plan.id.caller % 4 != 2 && rng.u32(..8) == 0 {
        line.tunnel(plan).await.ok()?;
    }
    Some(line)
}

impl Line {
    async fn tunnel(&mut self, plan: &Plan) -> io::Result<()> {
        let host = format!("{}.test:80", plan.target.provider);
        let credentials = credentials("Proxy-Authorization", plan);
        let head = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{credentials}\r\n");
        self.write.write_all(head.as_bytes()).await?;
        let answer = self.reader.head().await?;
        if answer.second() != "200" {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.is_tunnel = true;
        Ok(())
    }

    fn reset(self) {
        let stream: &TcpStream = self.write.as_ref();
        drop(stream.set_zero_linger());
    }

    /// After the last answer nothing comes but the end.
    async fn finish(mut self, shared: &Shared, caller: u32) {
        drop(self.write.shutdown().await);
        let rest = tokio::time::timeout(Duration::from_secs(30), self.reader.begins()).await;
        if rest != Ok(false) {
            let what = format!("caller {caller}: not the end after the last answer: {rest:?}");
            shared.history().violation(what);
        }
    }

    /// What came of a request, and whether the connection can carry another one.
    async fn exchange(&mut self, shared: &Shared, plan: &Plan) -> (Seen, bool) {
        let head = self.head(plan);
        let Self { reader, write, .. } = self;
        if !reader.ahead.is_empty() {
            let what = format!("{}: bytes before the request", plan.id);
            shared.history().violation(what);
        }
        let mut is_written = false;
        let (seen, keeps) = {
            let writing = async {
                match send(write, plan, shared.seed, &head).await {
                    Ok(Sent::Left) => {}
                    Ok(Sent::All) => {
                        is_written = true;
                        std::future::pending::<()>().await;
                    }
                    // The answer may be there all the same.
                    Ok(Sent::Stalled) | Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                outcome = receive(reader, shared, plan) => outcome,
                () = writing => (Seen::Left, false),
            }
        };
        let may_keep = plan.keeps && matches!(plan.manner, Manner::Patient | Manner::Slow);
        (seen, keeps && may_keep && is_written)
    }

    fn head(&self, plan: &Plan) -> String {
        let host = format!("{}.test", plan.target.provider);
        let path = plan.path();
        let target = match plan.is_absolute && !self.is_tunnel {
            true => format!("http://{host}{path}"),
            false => path,
        };
        let method = plan.kind.method();
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        if !self.is_tunnel {
            let field = match plan.is_absolute {
                true => "Proxy-Authorization",
                false => "Authorization",
            };
            head.push_str(&credentials(field, plan));
        }
        if plan.caller() == "both" && plan.target.provider == "alpha" {
            head.push_str(&format!("Bursar-Account: {}\r\n", plan.target.account));
        }
        if plan.kind.has_key() {
            head.push_str(&format!("Idempotency-Key: key-{}\r\n", plan.id));
        }
        if method != "GET" {
            head.push_str(&framing_field(plan.body_size, plan.is_chunked));
        }
        head.push_str("\r\n");
        head
    }
}

fn credentials(field: &str, plan: &Plan) -> String {
    let caller = plan.caller();
    let pair = STANDARD.encode(format!("{caller}:{}", password(caller)));
    format!("{field}: Basic {pair}\r\n")
}

enum Sent {
    All,
    /// It goes away now.
    Left,
    /// It stays, and sends no more.
    Stalled,
}

async fn send(write: &mut OwnedWriteHalf, plan: &Plan, seed: u64, head: &str) -> io::Result<Sent> {
    let body = plan.body(seed);
    let mut pieces = match plan.kind.method() {
        "GET" => Vec::new(),
        _ => framed(&body, plan.is_chunked, plan.piece),
    };
    let half = match plan.manner {
        Manner::Stall => Some(Sent::Stalled),
        Manner::LeaveInBody => Some(Sent::Left),
        _ => None,
    };
    write.write_all(head.as_bytes()).await?;
    if half.is_some() {
        // At least the last byte is missing.
        pieces.truncate(pieces.len() / 2 + 1);
        if let Some(last) = pieces.last_mut() {
            last.pop();
        }
    }
    for piece in pieces {
        if plan.manner == Manner::Slow {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        write.write_all(&piece).await?;
    }
    if let Some(half) = half {
        return Ok(half);
    }
    match plan.manner {
        Manner::LeaveBeforeAnswer => return Ok(Sent::Left),
        Manner::HalfClose => write.shutdown().await?,
        _ => {}
    }
    Ok(Sent::All)
}

/// What came, and whether more may come on this connection.
async fn receive(reader: &mut Reader<OwnedReadHalf>, shared: &Shared, plan: &Plan) -> (Seen, bool) {
    let id = plan.id;
    let violation = |what: String| shared.history().violation(format!("{id}: {what}"));
    let broken = |error: &io::Error, has_head| {
        if error.kind() == io::ErrorKind::TimedOut {
            shared.history().violation(format!("{id}: no answer"));
        }
        if error.kind() == io::ErrorKind::InvalidData {
            shared
                .history()
                .violation(format!("{id}: no HTTP: {error}"));
        }
        (Seen::Broken { has_head }, false)
    };
    let head = match reader.head().await {
        Ok(head) => head,
        Err(error) => return broken(&error, false),
    };
    let mut framing = head.framing();
    if plan.manner == Manner::LeaveInAnswer {
        drop(reader.piece(&mut framing).await);
        return (Seen::Left, false);
    }
    let body = match reader.whole(framing).await {
        Ok(body) => body,
        Err(error) => return broken(&error, true),
    };
    let is_last = head
        .get("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let status = head.second().parse().unwrap_or(0);
    if let Some(text) = head.get("proxy-status") {
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text_of = |key: &str| problem[key].as_str().unwrap_or("?").to_owned();
        if !text.starts_with("bursar") || problem["status"] != status {
            violation(format!("no refusal: {text} {status} {problem}"));
        }
        return (
            Seen::Refused(text_of("reason"), text_of("request_sent")),
            !is_last,
        );
    }
    if let Err(what) = check(shared, plan, &head, status, &body) {
        violation(what);
    }
    (Seen::Answered(status), !is_last)
}

/// Whether that is the provider's answer to this request, every byte of it.
fn check(
    shared: &Shared,
    plan: &Plan,
    head: &Head,
    status: u16,
    body: &[u8],
) -> Result<(), String> {
    let id = plan.id;
    if head.get("x-storm-id") != Some(id.to_string().as_str()) {
        return Err(format!("the answer of somebody else: {head:?}"));
    }
    if status == 401 {
        let is_whole = body == b"unauthorized";
        return is_whole.then_some(()).ok_or("a 401 was changed".to_owned());
    }
    let arrival = head
        .get("x-storm-arrival")
        .and_then(|number| number.parse().ok());
    let arrival: usize = arrival.ok_or("no number of an arrival")?;
    let reception = Reception::of(shared.seed, id, arrival);
    if status != reception.status || body != reception.answer(shared.seed, id, arrival) {
        return Err(format!(
            "the answer was changed: {} bytes, {head:?}",
            body.len()
        ));
    }
    Ok(())
}
