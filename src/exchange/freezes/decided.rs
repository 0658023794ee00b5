//! Decision of an operator as commands and status are told of it: what holds, and where.

use std::time::SystemTime;

use bursar_base::decision::Decision;

/// What it comes to.
#[derive(Debug)]
pub struct Decided {
    /// What holds.
    pub decision: Decision,
    /// Whether that was frozen before.
    pub was_frozen: bool,
    /// What a command had frozen it by before, where that was another decision.
    pub before: Option<Decision>,
    /// Since when the file freezes it, whatever was decided. None: it does not.
    pub in_file: Option<SystemTime>,
    /// Where it holds.
    pub reach: Reach,
}

/// A provider that is frozen, and who says so.
#[derive(Debug)]
pub struct Frozen {
    /// An operator, by a command. None: nobody, or it is just being decided.
    pub by_command: Option<Decision>,
    /// The file, since then.
    pub in_file: Option<SystemTime>,
}

/// Where a decision holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// There is no fleet.
    Alone,
    /// The fleet's store has it.
    Fleet,
    /// The store could not be used, and why. It gets it when it is back.
    ThisInstance(&'static str),
    /// The store may have it, and did not confirm that, and why. It gets it again where it has not.
    PerhapsFleet(&'static str),
}
