//! Freezes as the admin port shows them: those that hold, and what a freeze or a thaw comes to.

use serde::Serialize;

use super::date::date;
use crate::exchange::{self, AdminControl, Decided, Reach};
use bursar_base::decision::Decision;

/// What freezing and thawing comes to.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Frozen<'a> {
    /// The names of all that are frozen now.
    pub(in crate::server) all_frozen: Vec<&'a str>,
    /// What a command had frozen it by before, where that was another decision.
    pub(in crate::server) before: Option<Before>,
    pub(in crate::server) by: Option<Box<str>>,
    /// Whether there is a provider of that name: what is thawed may be gone.
    pub(in crate::server) configured: bool,
    pub(in crate::server) frozen: bool,
    /// Whether the file freezes it, whatever was decided.
    pub(in crate::server) in_file: bool,
    /// Whether the fleet's store may have it, though it is not known to.
    pub(in crate::server) may_have_reached_fleet: bool,
    /// Whether the journal or the fleet remembers it.
    pub(in crate::server) outlasts_restart: bool,
    pub(in crate::server) provider: &'a str,
    /// Where it holds for certain: `alone` without a fleet, `fleet`, or `this_instance` where its store cannot be used.
    pub(in crate::server) reach: &'static str,
    pub(in crate::server) reason: Option<Box<str>>,
    pub(in crate::server) since: String,
    pub(in crate::server) until: Option<String>,
    pub(in crate::server) was_frozen: bool,
    /// Why it is not known to hold in the whole fleet.
    pub(in crate::server) why: Option<&'static str>,
}

/// A freeze that another decision has taken the place of.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Before {
    pub(in crate::server) by: Option<Box<str>>,
    pub(in crate::server) reason: Option<Box<str>>,
    pub(in crate::server) since: String,
    pub(in crate::server) until: Option<String>,
}

impl Before {
    fn of(decision: Decision) -> Self {
        Self {
            by: decision.by,
            reason: decision.reason,
            since: date(decision.since),
            until: decision.until.map(date),
        }
    }
}

impl<'a> Frozen<'a> {
    pub(in crate::server) fn of(
        control: &'a AdminControl,
        provider: &'a str,
        decided: Decided,
    ) -> Self {
        let Decided {
            decision,
            was_frozen,
            before,
            in_file,
            reach,
        } = decided;
        let is_frozen = decision.is_frozen || in_file.is_some();
        // A thaw that the file does not follow says nothing of the freeze.
        let since = in_file.filter(|_| !decision.is_frozen);
        let (by, reason) = match since {
            Some(_) => (None, None),
            None => (decision.by, decision.reason),
        };
        let until = decision.until.filter(|_| in_file.is_none());
        let (reach_name, why) = match reach {
            Reach::Alone => ("alone", None),
            Reach::Fleet => ("fleet", None),
            Reach::ThisInstance(why) | Reach::PerhapsFleet(why) => ("this_instance", Some(why)),
        };
        Self {
            all_frozen: control.frozen().collect(),
            before: before.map(Before::of),
            by,
            configured: control.has_provider(provider),
            frozen: is_frozen,
            in_file: in_file.is_some(),
            may_have_reached_fleet: matches!(reach, Reach::PerhapsFleet(_)),
            outlasts_restart: in_file.is_some() || control.has_journal() || reach == Reach::Fleet,
            provider,
            reach: reach_name,
            reason,
            since: date(since.unwrap_or(decision.since)),
            until: until.map(date),
            was_frozen,
            why,
        }
    }
}

/// A provider that is frozen.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Freeze {
    /// As the command said. None: the file freezes it alone, or it is just being decided.
    pub(in crate::server) by: Option<Box<str>>,
    /// Whether a command freezes it, whatever the file says.
    pub(in crate::server) by_command: bool,
    pub(in crate::server) in_file: bool,
    pub(in crate::server) provider: String,
    pub(in crate::server) reason: Option<Box<str>>,
    pub(in crate::server) since: Option<String>,
    /// None: until a thaw, or until the file does not freeze it any more.
    pub(in crate::server) until: Option<String>,
}

impl Freeze {
    pub(super) fn of((provider, frozen): (&str, exchange::Frozen)) -> Self {
        let exchange::Frozen {
            by_command,
            in_file,
        } = frozen;
        let is_by_command = by_command.is_some();
        let since = by_command.as_ref().map(|decision| decision.since);
        let until = by_command.as_ref().and_then(|decision| decision.until);
        let (by, reason) =
            by_command.map_or((None, None), |decision| (decision.by, decision.reason));
        Self {
            by,
            by_command: is_by_command,
            in_file: in_file.is_some(),
            provider: provider.to_owned(),
            reason,
            since: since.or(in_file).map(date),
            // What the file says outlasts it.
            until: until.filter(|_| in_file.is_none()).map(date),
        }
    }
}
