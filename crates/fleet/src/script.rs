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
