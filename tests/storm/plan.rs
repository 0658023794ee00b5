//! Plan of each request and of what happens to it: a pure function of the seed and the request's id.
//!
//! Callers and providers compute the same plan, so nothing has to be told, and whatever arrives can be
//! compared byte for byte with what was to be sent. Only the timing differs between two runs of a seed.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;

/// Names a request: which caller sent it, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) caller: u32,
    pub(crate) number: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "c{}-{}", self.caller, self.number)
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (caller, number) = text
            .strip_prefix('c')
            .ok_or(())?
            .split_once('-')
            .ok_or(())?;
        Ok(Self {
            caller: caller.parse().or(Err(()))?,
            number: number.parse().or(Err(()))?,
        })
    }
}

/// How many names callers have.
pub(crate) const NAMES: usize = 4;

/// The provider and the account that a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    pub(crate) provider: &'static str,
    pub(crate) account: &'static str,
}

pub(crate) const ACCOUNTS: [Account; 3] = [
    Account {
        provider: "alpha",
        account: "shop",
    },
    Account {
        provider: "alpha",
        account: "outlet",
    },
    Account {
        provider: "beta",
        account: "default",
    },
];

/// What kind of operation it is; the configuration has a route for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pay,
    /// `replay: if_keyed`, with and without a key.
    Keyed {
        has_key: bool,
    },
    /// `replay: never`.
    Once,
    /// A `POST` that moves no money.
    Note,
    /// A `GET` that does.
    Refund,
    Read,
}

impl Kind {
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Refund | Self::Read => "GET",
            _ => "POST",
        }
    }

    pub(crate) fn segment(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::Keyed { .. } => "keyed",
            Self::Once => "once",
            Self::Note => "note",
            Self::Refund => "refund",
            Self::Read => "read",
        }
    }

    pub(crate) fn moves_money(self) -> bool {
        !matches!(self, Self::Note | Self::Read)
    }

    pub(crate) fn has_key(self) -> bool {
        matches!(self, Self::Pay | Self::Keyed { has_key: true })
    }

    /// How often it may arrive where every arrival but the last is answered 401.
    pub(crate) fn most_arrivals(self) -> usize {
        match self {
            Self::Once | Self::Keyed { has_key: false } => 1,
            _ => 2,
        }
    }
}

/// How a caller behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Patient,
    /// Pauses between the pieces of the body.
    Slow,
    /// Ends its sending side after the request, and reads the answer.
    HalfClose,
    /// Stops in the middle of the body, and waits.
    Stall,
    /// Goes away in the middle of the body.
    LeaveInBody,
    /// Goes away before the answer.
    LeaveBeforeAnswer,
    /// Goes away in the middle of the answer.
    LeaveInAnswer,
}

/// What the provider does with an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    Answer,
    /// Reads and writes with pauses.
    AnswerSlowly,
    /// Answers before it has read the body, and then reads on.
    AnswerEarly,
    /// Answers, and closes a connection that it promised to keep.
    AnswerAndClose,
    /// Answers, ends its sending side and reads on: what still comes has arrived.
    AnswerAndHalfClose,
    ResetInBody,
    ResetAfterBody,
    CloseAfterBody,
    /// Breaks off in the answer's status line.
    BreakInHead,
    /// Breaks off in the answer's body, by an end or by a reset.
    BreakInAnswer {
        reset: bool,
    },
    /// Never answers.
    Hang,
    /// Stops in the middle of the answer.
    HangInAnswer,
    /// Stops reading in the middle of the body.
    HangInBody,
}

impl Treatment {
    /// Whether the answer is to come whole.
    pub(crate) fn answers(self) -> bool {
        matches!(
            self,
            Self::Answer
                | Self::AnswerSlowly
                | Self::AnswerEarly
                | Self::AnswerAndClose
                | Self::AnswerAndHalfClose
        )
    }
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) id: Id,
    pub(crate) target: Account,
    pub(crate) kind: Kind,
    pub(crate) manner: Manner,
    pub(crate) body_size: usize,
    pub(crate) is_chunked: bool,
    /// Bytes written at once, at most.
    pub(crate) piece: usize,
    /// Whether the caller keeps the connection afterwards.
    pub(crate) keeps: bool,
    /// Absolute form, else origin form with `Host`.
    pub(crate) is_absolute: bool,
}

/// What the provider does with one of a request's arrivals, and what it answers.
#[derive(Debug, Clone)]
pub(crate) struct Reception {
    pub(crate) treatment: Treatment,
    pub(crate) status: u16,
    pub(crate) answer_size: usize,
    pub(crate) is_chunked: bool,
    /// All tokens of the account end with this arrival.
    pub(crate) revokes: bool,
    /// A 401 before the body is read.
    pub(crate) refuses_early: bool,
}

/// Many small ones, some about as large as what is kept for a replay, some larger.
fn size(rng: &mut Rng) -> usize {
    match rng.u32(..100) {
        0..5 => 0,
        5..60 => rng.usize(1..600),
        60..85 => rng.usize(600..20_000),
        85..95 => rng.usize(60_000..70_000),
        _ => rng.usize(70_000..300_000),
    }
}

fn rng(seed: u64, id: Id, what: u64) -> Rng {
    let id = u64::from(id.caller) << 40 | u64::from(id.number) << 8 | what;
    let mut rng = Rng::with_seed(seed ^ id.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    rng.u64(..);
    rng
}

impl Plan {
    pub(crate) fn of(seed: u64, id: Id) -> Self {
        let mut rng = rng(seed, id, 0);
        let kind = match rng.u32(..100) {
            0..45 => Kind::Pay,
            45..60 => Kind::Keyed {
                has_key: rng.bool(),
            },
            60..68 => Kind::Once,
            68..75 => Kind::Note,
            75..82 => Kind::Refund,
            _ => Kind::Read,
        };
        let body_size = if kind.method() == "GET" {
            0
        } else {
            size(&mut rng)
        };
        let manner = match rng.u32(..100) {
            0..80 => Manner::Patient,
            80..88 => Manner::Slow,
            88..91 => Manner::HalfClose,
            91..92 if body_size > 1 => Manner::Stall,
            92..95 if body_size > 1 => Manner::LeaveInBody,
            95..98 => Manner::LeaveBeforeAnswer,
            98.. => Manner::LeaveInAnswer,
            _ => Manner::Patient,
        };
        let target = match id.caller % 4 {
            0 => ACCOUNTS[0],
            1 => ACCOUNTS[1],
            2 => ACCOUNTS[rng.usize(..3)],
            _ => ACCOUNTS[2],
        };
        Self {
            id,
            target,
            kind,
            manner,
            body_size,
            is_chunked: rng.bool(),
            piece: rng.usize(1_000..40_000),
            keeps: rng.u32(..10) > 0,
            is_absolute: rng.bool(),
        }
    }

    /// Whose password it is sent with.
    pub(crate) fn caller(&self) -> &'static str {
        ["shop", "outlet", "both", "beta"][self.id.caller as usize % NAMES]
    }

    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.kind.segment(), self.id)
    }

    /// The request's body.
    pub(crate) fn body(&self, seed: u64) -> Vec<u8> {
        bytes(seed, self.id, 1, self.body_size)
    }
}

impl Reception {
    /// Of the arrival with that number, from 0.
    pub(crate) fn of(seed: u64, id: Id, arrival: usize) -> Self {
        let mut rng = rng(seed, id, 2 + arrival.min(60) as u64);
        let treatment = match rng.u32(..200) {
            0..130 => Treatment::Answer,
            130..145 => Treatment::AnswerSlowly,
            145..151 => Treatment::AnswerEarly,
            151..160 => Treatment::AnswerAndClose,
            160..169 => Treatment::AnswerAndHalfClose,
            169..173 => Treatment::ResetInBody,
            173..177 => Treatment::ResetAfterBody,
            177..181 => Treatment::CloseAfterBody,
            181..184 => Treatment::BreakInHead,
            184..190 => Treatment::BreakInAnswer { reset: rng.bool() },
            190..194 => Treatment::Hang,
            194..197 => Treatment::HangInAnswer,
            _ => Treatment::HangInBody,
        };
        Self {
            treatment,
            status: [200, 200, 200, 201, 402, 409, 429, 500, 503][rng.usize(..9)],
            answer_size: size(&mut rng).max(2),
            is_chunked: rng.bool(),
            refuses_early: rng.u32(..4) == 0,
            revokes: arrival == 0 && rng.u32(..800) == 0,
        }
    }

    pub(crate) fn answer(&self, seed: u64, id: Id, arrival: usize) -> Vec<u8> {
        bytes(seed, id, 100 + arrival.min(60) as u64, self.answer_size)
    }
}

fn bytes(seed: u64, id: Id, what: u64, size: usize) -> Vec<u8> {
    let mut rng = rng(seed, id, what);
    let mut bytes = vec![0; size];
    rng.fill(&mut bytes);
    bytes
}
