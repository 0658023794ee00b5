//! The providers' APIs. They write down every request that they read the head of, and treat each as its
//! plan says: answer, break, hang.
//!
//! Modelled on what the four providers document: bearer tokens, 401 for one that ended or was revoked, JSON
//! or not, any status. It speaks HTTP/1.1 in clear, so that every byte can be seen.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bursar_testkit::wire::{Framing, Head, Reader, framed, framing_field};
use fastrand::Rng;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::endpoint::TokenCheck;
use crate::history::{Arrival, Reply};
use crate::plan::{Id, Plan, Reception, Treatment};
use crate::program::PATIENCE;
use crate::shared::{Moment, Shared};

/// Longer than any time limit of the configuration.
const LONG: Duration = Duration::from_secs(4);

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Keep,
    Close,
    Reset,
}

pub(crate) async fn serve(shared: Arc<Shared>, provider: &'static str, listener: TcpListener) {
    let mut rng = Rng::with_seed(shared.seed);
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let rng = rng.fork();
            tokio::spawn(connection(shared.clone(), provider, stream, rng));
        }
    }
}

async fn connection(shared: Arc<Shared>, provider: &str, mut stream: TcpStream, mut rng: Rng) {
    drop(stream.set_nodelay(true));
    let next = match shared.is_api_down() || rng.u32(..1000) < 8 {
        true => {
            shared.history().fault("provider: reset before the request");
            Next::Reset
        }
        false => {
            let (read, write) = stream.split();
            let mut side = Side {
                shared: &shared,
                provider,
                reader: Reader::new(read, PATIENCE),
                write,
            };
            side.serve(&mut rng).await
        }
    };
    if next == Next::Reset {
        drop(stream.set_zero_linger());
    }
}

/// A connection.
struct Side<'a> {
    shared: &'a Shared,
    provider: &'a str,
    reader: Reader<ReadHalf<'a>>,
    write: WriteHalf<'a>,
}

/// An arrival on it.
struct Visit {
    plan: Plan,
    number: usize,
    framing: Framing,
    expected: Vec<u8>,
    read: usize,
}

impl Side<'_> {
    async fn serve(&mut self, rng: &mut Rng) -> Next {
        loop {
            if !self.reader.begins().await {
                return Next::Close;
            }
            if rng.u32(..1000) < 4 {
                self.shared.history().fault("provider: reset in the head");
                return Next::Reset;
            }
            let Ok(head) = self.reader.head().await else {
                return Next::Close;
            };
            let next = self.visit(&head).await;
            match next {
                Ok(Next::Keep) => {}
                Ok(next) => return next,
                Err(_broken) => return Next::Close,
            }
        }
    }

    async fn visit(&mut self, head: &Head) -> io::Result<Next> {
        let mut parts = head.second().rsplit('/');
        let Some(Ok(id)) = parts.next().map(str::parse::<Id>) else {
            let what = format!("{:?} is no request of ours", head.start);
            self.shared.history().violation(what);
            return Ok(Next::Reset);
        };
        let plan = Plan::of(self.shared.seed, id);
        let (token, rest) = without_token(head);
        let number = self.shared.history().arrive(id, &token, rest);
        let reception = Reception::of(self.shared.seed, id, number);
        let mut visit = Visit {
            expected: plan.body(self.shared.seed),
            plan,
            number,
            framing: head.framing(),
            read: 0,
        };
        let target = visit.plan.target;
        let expected = format!(
            "{} {} HTTP/1.1",
            visit.plan.kind.method(),
            visit.plan.path()
        );
        if head.start != expected || target.provider != self.provider {
            let what = format!("{id}: came to {} as {:?}", self.provider, head.start);
            self.shared.history().violation(what);
        }
        if reception.revokes {
            self.shared.history().fault("provider: tokens revoked");
            self.shared.tokens().revoke(target);
        }
        if visit.plan.kind.moves_money() {
            self.shared.at(Moment::Arrival, id.caller);
        }
        let check = self.shared.tokens().check(&token, target, Instant::now());
        match check {
            TokenCheck::Good => {
                let treatment = reception.treatment;
                self.update(&visit, |arrival| arrival.treatment = Some(treatment));
                if treatment != Treatment::Answer {
                    let fault = format!("provider: {treatment:?}");
                    self.shared.history().fault(&fault);
                }
                self.treat(&mut visit, &reception).await
            }
            TokenCheck::Unauthorized => self.refuse(&mut visit, &reception).await,
            TokenCheck::Violation(what) => {
                self.shared.history().violation(format!("{id}: {what}"));
                self.refuse(&mut visit, &reception).await
            }
        }
    }

    fn update(&self, visit: &Visit, change: impl FnOnce(&mut Arrival)) {
        let mut history = self.shared.history();
        history.update(visit.plan.id, visit.number, change);
    }

    /// Reads so many bytes of the body, or all.
    async fn read(&mut self, visit: &mut Visit, most: usize, pause: Duration) -> io::Result<()> {
        while visit.read < most || most == usize::MAX {
            let piece = self.reader.piece(&mut visit.framing).await;
            let Some(piece) = piece? else {
                let is_all = visit.read == visit.expected.len();
                self.update(visit, |arrival| {
                    arrival.is_whole = true;
                    arrival.is_same &= is_all;
                });
                if visit.plan.kind.moves_money() {
                    self.shared.at(Moment::Body, visit.plan.id.caller);
                }
                return Ok(());
            };
            let wanted = visit.expected.get(visit.read..visit.read + piece.len());
            let is_same = wanted == Some(piece.as_slice());
            visit.read += piece.len();
            let read = visit.read;
            self.update(visit, |arrival| {
                arrival.read = read;
                arrival.is_same &= is_same;
            });
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    async fn read_all(&mut self, visit: &mut Visit) -> io::Result<()> {
        self.read(visit, usize::MAX, Duration::ZERO).await
    }

    async fn refuse(&mut self, visit: &mut Visit, reception: &Reception) -> io::Result<Next> {
        let id = visit.plan.id;
        if !reception.refuses_early {
            self.read_all(visit).await?;
        }
        let answer = format!(
            "HTTP/1.1 401 x\r\nX-Storm-Id: {id}\r\nX-Storm-Arrival: {}\r\nWWW-Authenticate: Bearer error=\"invalid_token\"\r\nContent-Length: 12\r\n\r\nunauthorized",
            visit.number
        );
        self.update(visit, |arrival| arrival.reply = Reply::Partly);
        self.write.write_all(answer.as_bytes()).await?;
        self.update(visit, |arrival| arrival.reply = Reply::Unauthorized);
        self.read_all(visit).await?;
        Ok(Next::Keep)
    }

    async fn treat(&mut self, visit: &mut Visit, reception: &Reception) -> io::Result<Next> {
        let half = visit.expected.len() / 2;
        let reads = match reception.treatment {
            Treatment::ResetInBody | Treatment::HangInBody => half,
            Treatment::AnswerEarly => 0,
            _ => usize::MAX,
        };
        let pause = match reception.treatment {
            Treatment::AnswerSlowly => Duration::from_millis(15),
            _ => Duration::ZERO,
        };
        self.read(visit, reads, pause).await?;
        match reception.treatment {
            Treatment::ResetInBody | Treatment::ResetAfterBody => Ok(Next::Reset),
            Treatment::CloseAfterBody => Ok(Next::Close),
            Treatment::HangInBody => {
                tokio::time::sleep(LONG).await;
                Ok(Next::Reset)
            }
            Treatment::Hang => {
                self.wait_for_the_end(visit.plan.id).await;
                Ok(Next::Close)
            }
            Treatment::BreakInHead => {
                self.update(visit, |arrival| arrival.reply = Reply::Partly);
                self.write.write_all(b"HTTP/1.1 200 OK\r\nConte").await?;
                Ok(Next::Close)
            }
            Treatment::BreakInAnswer { reset } => {
                self.answer(visit, reception, pause, true).await?;
                Ok(if reset { Next::Reset } else { Next::Close })
            }
            Treatment::HangInAnswer => {
                self.answer(visit, reception, pause, true).await?;
                self.wait_for_the_end(visit.plan.id).await;
                Ok(Next::Close)
            }
            Treatment::Answer | Treatment::AnswerSlowly | Treatment::AnswerEarly => {
                self.answer(visit, reception, pause, false).await?;
                self.read_all(visit).await?;
                Ok(Next::Keep)
            }
            Treatment::AnswerAndClose => {
                self.answer(visit, reception, pause, false).await?;
                Ok(Next::Close)
            }
            Treatment::AnswerAndHalfClose => {
                self.answer(visit, reception, pause, false).await?;
                self.write.shutdown().await?;
                self.read_on().await;
                Ok(Next::Close)
            }
        }
    }

    /// The answer, or its first half.
    async fn answer(
        &mut self,
        visit: &Visit,
        reception: &Reception,
        pause: Duration,
        is_cut: bool,
    ) -> io::Result<()> {
        let (id, number) = (visit.plan.id, visit.number);
        let body = reception.answer(self.shared.seed, id, number);
        let head = format!(
            "HTTP/1.1 {} x\r\nX-Storm-Id: {id}\r\nX-Storm-Arrival: {number}\r\n{}\r\n",
            reception.status,
            framing_field(body.len(), reception.is_chunked)
        );
        self.update(visit, |arrival| arrival.reply = Reply::Partly);
        self.write.write_all(head.as_bytes()).await?;
        let mut pieces = framed(&body, reception.is_chunked, body.len().div_ceil(2));
        if is_cut {
            pieces.truncate(1);
        }
        for piece in pieces {
            if !pause.is_zero() {
                tokio::time::sleep(pause * 4).await;
            }
            self.write.write_all(&piece).await?;
        }
        if !is_cut {
            self.update(visit, |arrival| arrival.reply = Reply::Whole);
        }
        Ok(())
    }

    /// Whoever waits in vain must leave.
    async fn wait_for_the_end(&mut self, id: Id) {
        let error = loop {
            if let Err(error) = self.reader.more().await {
                break error;
            }
        };
        if error.kind() == io::ErrorKind::TimedOut {
            let what = format!("{id}: a hanging request is held for ever");
            self.shared.history().violation(what);
        }
    }

    /// What comes to an end that only reads has arrived all the same.
    async fn read_on(&mut self) {
        while let Ok(head) = self.reader.head().await {
            let Some(Ok(id)) = head.second().rsplit('/').next().map(str::parse::<Id>) else {
                return;
            };
            let (token, rest) = without_token(&head);
            self.shared
                .history()
                .fault("provider: arrived at a half-closed connection");
            self.shared.history().arrive(id, &token, rest);
            let mut framing = head.framing();
            while let Ok(Some(_)) = self.reader.piece(&mut framing).await {}
        }
    }
}

/// The token, and everything else that stands in the head, in order.
fn without_token(head: &Head) -> (String, String) {
    let mut token = String::new();
    let mut rest = head.start.clone();
    for (key, value) in &head.fields {
        if key.eq_ignore_ascii_case("authorization") {
            value
                .strip_prefix("Bearer ")
                .unwrap_or(value)
                .clone_into(&mut token);
        } else {
            rest.push_str(&format!(" | {key}: {value}"));
        }
    }
    (token, rest)
}
