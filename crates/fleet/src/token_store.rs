//! Token store: the entries of token keys in the fleet's store, asked and written by scripts, and opened here.
//!
//! An entry is looked for under the name that each of the fleet's keys gives it, and written under the first one. A
//! lease is taken under all of them, in the order of the names, so that instances whose first keys differ exclude each
//! other, too.

use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::fleet::{Fleet, RunError};
use crate::keys::{Binding, Names, NotSealed};
use crate::message::Pushed;
use crate::reply::{Reply, Unreadable};
use crate::script;
use crate::token_value::TokenValue;
use crate::value_number;
use bursar_telemetry::metrics::{LeaseResult, Lookup};

/// No refusal is believed for longer; as in `ask.lua`.
const LONGEST_REFUSAL: Duration = Duration::from_secs(15 * 60);

/// A token key, as the fleet knows it.
#[derive(Clone, Copy)]
pub struct TokenEntry<'a> {
    /// The canonical token key; it holds secrets, and only its keyed hash leaves this process.
    pub canonical: &'a [u8],
    /// What its values are bound to besides their names: the provider's environment.
    pub context: &'a str,
    /// What the client proves itself with, where that is not in the key: a refusal of another proof says nothing. It is a
    /// secret too, and only its keyed hash leaves this process.
    pub proof: &'a [u8],
}

/// What somebody asks for.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The numbers of values that it has, or need not be told of again.
    pub known: &'a [u64],
    /// The highest number that it has seen.
    pub highest: u64,
    /// How long it wants to be the only one that asks the endpoint. None: it only looks.
    pub lease: Option<Duration>,
    /// Whether it would use a refresh token.
    pub wants_refresh_token: bool,
    /// Whether somebody waits for the token.
    pub is_awaited: bool,
}

impl<'a> Question<'a> {
    /// What there is besides that, without asking for leave.
    #[must_use]
    pub const fn look(known: &'a [u64], highest: u64) -> Self {
        Self {
            known,
            highest,
            lease: None,
            wants_refresh_token: false,
            is_awaited: false,
        }
    }
}

/// What there is.
#[derive(Debug)]
pub enum Answer {
    /// A token that was not known.
    Value(Found),
    /// Nothing that was not known.
    Nothing(Nothing),
    /// No token came lately.
    Failed {
        /// Why, as [`Fleet::report_failure`] was told. None: no key opens it.
        failure: Option<Zeroizing<Vec<u8>>>,
        /// For how long nobody asks who waits for it.
        awaited: Duration,
        /// For how long nobody else asks.
        background: Duration,
    },
    /// Somebody else asks the endpoint, for so long at most.
    Held(Duration),
    /// The endpoint may be asked, by this instance alone.
    Won(Lease),
}

/// The store has no other value than those that are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nothing {
    /// Whether it has one of these.
    pub has_known: bool,
    /// Whether it has that where it is looked for first; else it is there under the name that an earlier key gives it.
    pub is_first: bool,
    /// The number of the value that it has, or had; 0 for none.
    pub number: u64,
}

/// A value in the store.
#[derive(Debug)]
pub struct Found {
    /// Its number.
    pub number: u64,
    /// When its token was issued, by this process's clock.
    pub issued: Instant,
    /// None: no key opens it.
    pub value: Option<TokenValue>,
}

/// Leave to ask the endpoint.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The number for what is obtained; it only grows.
    pub number: u64,
    /// Until when nobody else gets one, at least.
    pub until: Instant,
    /// The value whose refresh token nobody else will use.
    pub refresh: Option<RefreshLease>,
}

/// Leave to use a refresh token, once.
#[derive(Debug, Clone)]
pub struct RefreshLease {
    /// The number of its value.
    pub number: u64,
    /// When that was issued.
    pub issued: Instant,
    /// The value.
    pub value: TokenValue,
}

/// A value to be written.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// Of the lease, or above the highest known.
    pub number: u64,
    /// When its token was issued.
    pub issued: Instant,
    /// For how long it can be used, counted from then.
    pub lifetime: Duration,
    /// The value itself.
    pub value: &'a TokenValue,
}

/// What became of it.
#[derive(Debug)]
pub enum Published {
    /// Everybody can have it.
    Now {
        /// The lease had ended.
        was_late: bool,
    },
    /// There is a newer one.
    Older(Found),
}

/// A lease that is given back without a token.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failed<'a> {
    /// Why, to be sealed.
    pub failure: &'a [u8],
    /// For how long nobody asks who waits for it.
    pub awaited: Duration,
    /// For how long nobody else asks.
    pub background: Duration,
}

/// The store gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, or refuses.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A value cannot be sealed.
    #[error("nothing can be written to the fleet's store")]
    Sealing(#[from] NotSealed),
}

impl Error {
    /// Whether the store certainly did nothing.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Run(RunError::Store(error)) => error.is_unsent(),
            Self::Run(RunError::Unreadable(_)) => false,
            Self::Sealing(_) => true,
        }
    }
}

impl From<Unreadable> for Error {
    fn from(unreadable: Unreadable) -> Self {
        Self::Run(unreadable.into())
    }
}

/// When a question was asked, and for how long a lease.
#[derive(Clone, Copy)]
struct Asked {
    asked: Instant,
    lease: Duration,
}

/// The kind of names that token keys have.
const KIND: &str = "token";
/// The kind of names that proofs have.
const PROOF: &str = "proof";
/// The kind of names that secrets have.
const SECRET: &str = "secret";
/// What the failures of a key are sealed with: they have no number of their own.
const UNNUMBERED: u64 = 0;
/// A refresh token without an end is kept for so long.
const UNLIMITED_REFRESH: Duration = Duration::from_secs(90 * 24 * 60 * 60);

impl Fleet {
    /// Asks for what there is of a token key, or for leave to ask its endpoint.
    ///
    /// # Errors
    /// Where the store gives no answer that can be used.
    pub async fn ask(
        &self,
        entry: TokenEntry<'_>,
        question: Question<'_>,
    ) -> Result<Answer, Error> {
        let names = self.keys().names(KIND, entry.canonical);
        let mut ordered: Vec<&str> = names.all().collect();
        ordered.sort_unstable();
        let mut lease: Option<Lease> = None;
        let mut nothing = Nothing::default();
        for name in ordered {
            let answer = self.ask_under(name, entry, question).await;
            match answer {
                Ok(Answer::Nothing(mut under)) => {
                    under.is_first = under.has_known && name == names.first();
                    nothing = nothing.and(under);
                }
                Ok(Answer::Won(won)) => lease = Some(won.and(lease)),
                Ok(Answer::Value(_) | Answer::Failed { .. } | Answer::Held(_)) | Err(_) => {
                    if lease.is_some() {
                        self.give_back(entry).await;
                    }
                    self.count(&answer);
                    return answer;
                }
            }
        }
        let answer = Ok(lease.map_or(Answer::Nothing(nothing), Answer::Won));
        self.count(&answer);
        answer
    }

    /// The keyed hash of what a client proves itself with.
    fn proof(&self, entry: TokenEntry<'_>) -> Names {
        self.keys().names(PROOF, entry.proof)
    }

    async fn ask_under(
        &self,
        name: &str,
        entry: TokenEntry<'_>,
        question: Question<'_>,
    ) -> Result<Answer, Error> {
        let known: String = question.known.iter().fold(" ".to_owned(), |known, number| {
            known + &number.to_string() + " "
        });
        let lease = question.lease.unwrap_or_default();
        let proof = self.proof(entry);
        let asked = Instant::now();
        let mut reply = self
            .run(
                &script::ASK,
                name,
                &[
                    self.instance().into(),
                    lease.into(),
                    known.as_str().into(),
                    question.highest.into(),
                    question.wants_refresh_token.into(),
                    question.is_awaited.into(),
                    proof.first().into(),
                    self.token_channel().into(),
                    name.into(),
                    value_number::digits().into(),
                ],
            )
            .await?;
        Ok(self.answer(name, entry, Asked { asked, lease }, &mut reply)?)
    }

    /// What the script that was asked has replied.
    fn answer(
        &self,
        name: &str,
        entry: TokenEntry<'_>,
        Asked { asked, lease }: Asked,
        reply: &mut Reply,
    ) -> Result<Answer, Unreadable> {
        Ok(match &*reply.text()? {
            "value" => Answer::Value(self.found(name, entry, asked, reply)?),
            "same" => {
                let number = reply.number()?;
                let value = self.value(name, entry, number, &reply.bytes()?);
                match value {
                    Some(_) => Answer::Nothing(Nothing {
                        has_known: true,
                        is_first: false,
                        number,
                    }),
                    None => Answer::Value(Found {
                        number,
                        issued: asked,
                        value: None,
                    }),
                }
            }
            "absent" => Answer::Nothing(Nothing {
                has_known: false,
                is_first: false,
                number: reply.number()?,
            }),
            "failed" => {
                // Either may be another clock's.
                let mut pause = || Ok(reply.duration()?.min(LONGEST_REFUSAL));
                let (awaited, background) = (pause()?, pause()?);
                let sealed = reply.bytes()?;
                let opened = self.keys().open(entry.binding(name, UNNUMBERED), &sealed);
                Answer::Failed {
                    failure: opened.ok(),
                    awaited,
                    background,
                }
            }
            "held" => Answer::Held(reply.duration()?),
            "won" => {
                let number = reply.number()?;
                let found = self.found(name, entry, asked, reply)?;
                Answer::Won(Lease {
                    number,
                    until: asked + lease,
                    refresh: found.value.map(|value| RefreshLease {
                        number: found.number,
                        issued: found.issued,
                        value,
                    }),
                })
            }
            _ => return Err(Unreadable),
        })
    }

    /// Whether the mark that a refresh token is being used outlives the server that has it. Where it may not, another
    /// instance could use the token once more.
    pub async fn is_mark_kept(&self, entry: TokenEntry<'_>) -> bool {
        let names = self.token_names(entry);
        for name in names.all() {
            if !self.is_replicated(name).await {
                return false;
            }
        }
        true
    }

    /// Writes a token where no newer one is there, gives the lease back, and tells everybody.
    ///
    /// # Errors
    /// Where the store gives no answer that can be used; it may have the token all the same.
    pub async fn publish(
        &self,
        entry: TokenEntry<'_>,
        publication: Publication<'_>,
    ) -> Result<Published, Error> {
        let keys = self.keys();
        let names = keys.names(KIND, entry.canonical);
        let name = names.first();
        let Publication {
            issued,
            lifetime,
            value,
            ..
        } = publication;
        let binding = entry.binding(name, publication.number);
        let sealed = keys.seal(binding, &value.to_bytes())?;
        let refresh = value.refresh_token.as_ref();
        let kept_for = match refresh.map(|refresh| refresh.lifetime) {
            Some(Some(refresh)) => lifetime.max(refresh),
            Some(None) => lifetime.max(UNLIMITED_REFRESH),
            None => lifetime,
        };
        let asked = Instant::now();
        let mut reply = self
            .run(
                &script::PUBLISH,
                name,
                &[
                    self.instance().into(),
                    publication.number.into(),
                    sealed.as_slice().into(),
                    issued.elapsed().into(),
                    lifetime.into(),
                    kept_for.into(),
                    self.token_channel().into(),
                    name.into(),
                ],
            )
            .await?;
        let word = reply.text()?;
        let published = match &*word {
            "published" | "lost" => Published::Now {
                was_late: word == "lost",
            },
            "older" => Published::Older(self.found(name, entry, asked, &mut reply)?),
            _ => return Err(Unreadable.into()),
        };
        if names.all().nth(1).is_some() {
            self.give_back(entry).await;
        }
        Ok(published)
    }

    /// Gives a lease back, and says why no token came.
    ///
    /// # Errors
    /// Where the store gives no answer that can be used: the lease ends by itself then.
    pub async fn report_failure(
        &self,
        entry: TokenEntry<'_>,
        failed: Failed<'_>,
    ) -> Result<(), Error> {
        let (keys, proof) = (self.keys(), self.proof(entry));
        let names = keys.names(KIND, entry.canonical);
        for name in names.all() {
            let sealed = keys.seal(entry.binding(name, UNNUMBERED), failed.failure)?;
            self.run(
                &script::FAIL,
                name,
                &[
                    self.instance().into(),
                    failed.awaited.into(),
                    failed.background.into(),
                    sealed.as_slice().into(),
                    proof.first().into(),
                    self.token_channel().into(),
                    name.into(),
                ],
            )
            .await?;
        }
        Ok(())
    }

    /// Gives leases back that are of no use. Where that fails they end by themselves.
    async fn give_back(&self, entry: TokenEntry<'_>) {
        drop(self.report_failure(entry, Failed::default()).await);
    }

    /// Opens the value of a message. Its token has aged since it was published, too: the message may have waited to be
    /// read.
    #[must_use]
    pub fn open(&self, entry: TokenEntry<'_>, name: &str, pushed: Pushed<'_>) -> Found {
        let age = pushed.age.saturating_add(self.since(pushed.at));
        let issued = Instant::now().checked_sub(age);
        Found {
            number: pushed.number,
            issued: issued.unwrap_or_else(Instant::now),
            value: self.value(name, entry, pushed.number, pushed.sealed),
        }
    }

    /// The names of a token key, for those who wait for messages about it.
    #[must_use]
    pub fn token_names(&self, entry: TokenEntry<'_>) -> Names {
        self.keys().names(KIND, entry.canonical)
    }

    /// What a client's secret is called in sealed values, so that instances find out whether they have the same one.
    #[must_use]
    pub fn secret_names(&self, secret: &[u8]) -> Names {
        self.keys().names(SECRET, secret)
    }

    fn found(
        &self,
        name: &str,
        entry: TokenEntry<'_>,
        asked: Instant,
        reply: &mut Reply,
    ) -> Result<Found, Unreadable> {
        let number = reply.number()?;
        // Counted from before the question, so that it is rather too old than too young.
        let issued = asked.checked_sub(reply.duration()?);
        let sealed = reply.bytes()?;
        Ok(Found {
            number,
            issued: issued.ok_or(Unreadable)?,
            value: self.value(name, entry, number, &sealed),
        })
    }

    fn value(
        &self,
        name: &str,
        entry: TokenEntry<'_>,
        number: u64,
        sealed: &[u8],
    ) -> Option<TokenValue> {
        let opened = self.keys().open(entry.binding(name, number), sealed);
        TokenValue::from_bytes(&opened.ok()?)
    }

    fn count(&self, answer: &Result<Answer, Error>) {
        let series = self.series();
        match answer {
            Ok(Answer::Value(Found { value: None, .. })) => series.looked(Lookup::Unreadable),
            Ok(Answer::Value(_)) => series.looked(Lookup::Newer),
            Ok(Answer::Nothing(Nothing { has_known, .. })) => series.looked(match has_known {
                true => Lookup::Hit,
                false => Lookup::Absent,
            }),
            Ok(Answer::Failed { .. }) => {}
            Ok(Answer::Held(_)) => series.leased(LeaseResult::Held),
            Ok(Answer::Won(_)) => series.leased(LeaseResult::Won),
            Err(_) => series.leased(LeaseResult::Error),
        }
    }
}

impl std::fmt::Debug for TokenEntry<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenEntry").finish_non_exhaustive()
    }
}

impl TokenEntry<'_> {
    fn binding<'a>(&'a self, name: &'a str, number: u64) -> Binding<'a> {
        Binding {
            name,
            context: self.context,
            number,
        }
    }
}

impl Lease {
    /// Both, taken under two names of one key.
    fn and(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        let of = |lease: &Self| lease.refresh.as_ref().map(|refresh| refresh.number);
        let refresh = match of(&self) >= of(&other) {
            true => self.refresh,
            false => other.refresh,
        };
        Self {
            number: self.number.max(other.number),
            until: self.until.min(other.until),
            refresh,
        }
    }
}

impl Nothing {
    /// Both, found under two names of one key.
    fn and(self, other: Self) -> Self {
        Self {
            has_known: self.has_known || other.has_known,
            is_first: self.is_first || other.is_first,
            number: self.number.max(other.number),
        }
    }
}

#[cfg(test)]
mod tests;
