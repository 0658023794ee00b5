//! Scripts: what the store does in one step. Plain Lua, with commands that Redis 6.2 has.

use std::sync::LazyLock;

use crate::store::Script;

/// A script about one token key's entry.
macro_rules! entry_script {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("scripts/entry.lua"),
                "\n",
                include_str!(concat!("scripts/", $file))
            ))
        })
    };
}

/// What there is for somebody who needs a token.
pub(crate) static ASK: LazyLock<Script> = entry_script!("ask.lua");
/// Writes a token, and tells everybody.
pub(crate) static PUBLISH: LazyLock<Script> = entry_script!("publish.lua");
/// Gives a lease back without a token.
pub(crate) static FAIL: LazyLock<Script> = entry_script!("fail.lua");

/// A script about decisions on providers.
macro_rules! freezes_script {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("scripts/freezes.lua"),
                "\n",
                include_str!(concat!("scripts/", $file))
            ))
        })
    };
}

/// All decisions.
pub(crate) static READ_FREEZES: LazyLock<Script> = freezes_script!("read_freezes.lua");
/// Writes one.
pub(crate) static WRITE_FREEZE: LazyLock<Script> = freezes_script!("write_freeze.lua");

/// A script about the journals, or about one journal's rows.
macro_rules! outcomes_script {
    ($head:literal, $file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!(concat!("scripts/", $head)),
                "\n",
                include_str!(concat!("scripts/", $file))
            ))
        })
    };
}

/// A journal's rows are as they should be.
pub(crate) static TOUCH_JOURNAL: LazyLock<Script> =
    outcomes_script!("journals.lua", "touch_journal.lua");
/// Whose journals there are.
pub(crate) static LIST_JOURNALS: LazyLock<Script> =
    outcomes_script!("journals.lua", "list_journals.lua");
/// Says something else of a journal, or takes it off.
pub(crate) static CHANGE_JOURNAL: LazyLock<Script> =
    outcomes_script!("journals.lua", "change_journal.lua");
/// Writes rows, and takes others off.
pub(crate) static WRITE_ROWS: LazyLock<Script> = outcomes_script!("rows.lua", "write_rows.lua");
/// Which rows there are.
pub(crate) static NAME_ROWS: LazyLock<Script> = outcomes_script!("rows.lua", "name_rows.lua");
/// What some of them say.
pub(crate) static READ_ROWS: LazyLock<Script> = outcomes_script!("rows.lua", "read_rows.lua");
/// Takes rows off, and keeps what is said of them.
pub(crate) static RESOLVE_ROWS: LazyLock<Script> = outcomes_script!("rows.lua", "resolve_rows.lua");

/// A script about the members.
macro_rules! members_script {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("scripts/members.lua"),
                "\n",
                include_str!(concat!("scripts/", $file))
            ))
        })
    };
}

/// This instance is alive.
pub(crate) static BEAT: LazyLock<Script> = members_script!("beat.lua");
/// It ends.
pub(crate) static LEAVE: LazyLock<Script> = members_script!("leave.lua");
/// Who else there is, and was.
pub(crate) static LIST: LazyLock<Script> = members_script!("list.lua");
