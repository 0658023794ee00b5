//! Decisions of operators on providers, as the journal keeps them: the last one for each, thaws too, so that a fleet
//! that was away hears of them after a restart.
//!
//! When a freeze is over is not written: it follows from its end.
//!
//! Two tables hold them. Earlier versions know `frozen` alone, which is right about what is frozen wherever the two
//! differ: one of those versions has written it then.

use std::time::SystemTime;

use rusqlite::{Connection, params};

use super::timestamp::{micros, time};
use bursar_base::decision::{Decision, Text};

pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS decisions (
    provider TEXT PRIMARY KEY,
    is_frozen INTEGER NOT NULL,
    since INTEGER NOT NULL,
    made INTEGER NOT NULL,
    number INTEGER,
    after INTEGER NOT NULL,
    made_by TEXT,
    reason TEXT,
    until INTEGER
) STRICT;
";

const ALL: &str = "
SELECT provider, frozen.since, is_frozen, decisions.since, made, number, after, made_by, reason, until
    FROM frozen LEFT JOIN decisions USING (provider)
UNION ALL
SELECT provider, NULL, is_frozen, since, made, number, after, made_by, reason, until
    FROM decisions WHERE provider NOT IN (SELECT provider FROM frozen)
ORDER BY provider
";

/// The last decision on a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDecision {
    /// Its name.
    pub provider: String,
    /// What was decided.
    pub decision: Decision,
    /// When it was made.
    pub made: SystemTime,
    /// Its number in the fleet's store. None: it is not known to be there.
    pub number: Option<u64>,
    /// The number of the one before, as far as whoever made it knew; 0 where there was none.
    pub after: u64,
}

/// The last decisions on all providers.
pub(super) fn read(database: &Connection) -> Result<Vec<KeptDecision>, rusqlite::Error> {
    let mut statement = database.prepare(ALL)?;
    let rows = statement.query_map([], |row| {
        let frozen: Option<i64> = row.get(1)?;
        let kept: Option<bool> = row.get(2)?;
        let count = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let text = |kind: Text, text: Option<String>| text.and_then(|text| kind.fit(&text));
        let number = count(row.get(5)?);
        let after = count(row.get(6)?).unwrap_or_default();
        let is_frozen = frozen.is_some();
        // An earlier version has decided otherwise since then, and did not say who, or when it thawed.
        let is_known = kept == Some(is_frozen);
        let since = row.get::<_, Option<i64>>(3)?.filter(|_| is_known);
        let made = row
            .get::<_, Option<i64>>(4)?
            .filter(|_| is_known || !is_frozen);
        Ok(KeptDecision {
            provider: row.get(0)?,
            decision: Decision {
                is_frozen,
                since: time(since.or(frozen).or(made).unwrap_or_default()),
                until: row.get::<_, Option<i64>>(9)?.filter(|_| is_known).map(time),
                by: text(Text::By, row.get(7)?).filter(|_| is_known),
                reason: text(Text::Reason, row.get(8)?).filter(|_| is_known),
            },
            made: time(made.or(frozen).unwrap_or_default()),
            number: number.filter(|_| is_known),
            after: match is_known {
                true => after,
                false => number.unwrap_or_default().max(after),
            },
        })
    })?;
    rows.collect()
}

/// Takes the place of the one before. Part of a transaction.
pub(super) fn write(database: &Connection, kept: &KeptDecision) -> Result<(), rusqlite::Error> {
    let decision = &kept.decision;
    let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let sql = match decision.is_frozen {
        true => "INSERT OR REPLACE INTO frozen (provider, since) VALUES (?1, ?2)",
        false => "DELETE FROM frozen WHERE provider = ?1 AND ?2 IS NOT NULL",
    };
    database.execute(sql, params![kept.provider, micros(decision.since)])?;
    let sql = "INSERT OR REPLACE INTO decisions (provider, is_frozen, since, made, number, after, made_by, reason, until)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    database.execute(
        sql,
        params![
            kept.provider,
            decision.is_frozen,
            micros(decision.since),
            micros(kept.made),
            kept.number.map(integer),
            integer(kept.after),
            decision.by,
            decision.reason,
            decision.until.map(micros),
        ],
    )?;
    Ok(())
}
