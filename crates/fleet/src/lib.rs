//! Fleet: several instances that act as one, on Redis or Valkey.
//!
//! The store is a cache and a meeting point, never an authority: a request never waits for it, and safety does not rest
//! on its locks.

mod call_quota;
mod description;
mod fleet;
mod freeze_store;
mod keys;
mod leases;
mod members;
mod message;
mod outcome_rows;
mod outcome_store;
mod rehearsal;
mod reply;
mod script;
mod signal;
pub mod store;
#[cfg(test)]
mod tests;
mod token_store;
mod token_value;
mod value_number;

pub use call_quota::{CallReply, CallRequest};
pub use description::Description;
pub use fleet::{FIRST_CONNECTION, Fleet, RunError, random_text};
pub use freeze_store::{FreezeError, Freezes, NumberedDecision, Written};
pub use keys::{Names, NotSealed};
pub use leases::HeldLease;
pub use members::{
    Beat, BeatError, Demand, Heard, Instance, Listed, MAX_LISTED, Part, Which, interval, max_limits,
};
pub use message::{Message, News, Pushed, read_message};
pub use outcome_rows::{MirrorError, Row, RowChange, RowNames, RowSet, RowState, Rows};
pub use outcome_store::{
    Change, KnownJournal, ListedJournal, ListedJournals, MirroredJournal, SILENCE, Seen, Told,
    Touch, Touched,
};
pub use rehearsal::{REHEARSAL, Refusal, Refused};
pub use reply::Unreadable;
pub use signal::Signal;
pub use token_store::{
    Answer, Error, Failed, Found, Lease, Nothing, Publication, Published, Question, RefreshLease,
    TokenEntry,
};
pub use token_value::{RefreshValue, TokenValue};
pub use value_number::{NO_NUMBER, above};
