//! Scripts: what the store does in one step. Plain Lua, with commands that Redis 6.2 has.

use std::sync::LazyLock;

use crate::store::Script;

/// A script, after the head that it shares with others: which keys it is about, and what it may find there.
macro_rules! script {
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

/// Whether the store does all that the others need.
pub(crate) static COMMANDS: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/commands.lua")));

/// What there is for somebody who needs a token.
pub(crate) static ASK: LazyLock<Script> = script!("entry.lua", "ask.lua");
/// Writes a token, and tells everybody.
pub(crate) static PUBLISH: LazyLock<Script> = script!("entry.lua", "publish.lua");
/// Gives a lease back without a token.
pub(crate) static FAIL: LazyLock<Script> = script!("entry.lua", "fail.lua");

/// All decisions.
pub(crate) static READ_FREEZES: LazyLock<Script> = script!("freezes.lua", "read_freezes.lua");
/// Writes one.
pub(crate) static WRITE_FREEZE: LazyLock<Script> = script!("freezes.lua", "write_freeze.lua");

/// A journal's rows are as they should be.
pub(crate) static TOUCH_JOURNAL: LazyLock<Script> = script!("journals.lua", "touch_journal.lua");
/// Whose journals there are.
pub(crate) static LIST_JOURNALS: LazyLock<Script> = script!("journals.lua", "list_journals.lua");
/// Says something else of a journal, or takes it off.
pub(crate) static CHANGE_JOURNAL: LazyLock<Script> = script!("journals.lua", "change_journal.lua");
/// What the store may have lost is settled.
pub(crate) static SETTLE_LOSS: LazyLock<Script> = script!("journals.lua", "settle_loss.lua");
/// Writes rows, and takes others off.
pub(crate) static WRITE_ROWS: LazyLock<Script> = script!("rows.lua", "write_rows.lua");
/// Which rows there are.
pub(crate) static NAME_ROWS: LazyLock<Script> = script!("rows.lua", "name_rows.lua");
/// What some of them say.
pub(crate) static READ_ROWS: LazyLock<Script> = script!("rows.lua", "read_rows.lua");
/// Takes rows off, and keeps what is said of them.
pub(crate) static RESOLVE_ROWS: LazyLock<Script> = script!("rows.lua", "resolve_rows.lua");

/// This instance is alive.
pub(crate) static BEAT: LazyLock<Script> = script!("members.lua", "beat.lua");
/// Whether the others were heard of lately.
pub(crate) static HEARD_SINCE: LazyLock<Script> = script!("members.lua", "heard_since.lua");
/// It ends.
pub(crate) static LEAVE: LazyLock<Script> = script!("members.lua", "leave.lua");
/// Who else there is, and was.
pub(crate) static LIST: LazyLock<Script> = script!("members.lua", "list.lua");

/// Takes a token call out of what all instances may make.
pub(crate) static TAKE_CALL: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/take_call.lua")));
