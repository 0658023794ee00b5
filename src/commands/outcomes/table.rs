//! Table of the requests in doubt, for a person.

use bursar_base::terminal::plain;
use bursar_journal::InDoubt;

const HEADINGS: [&str; 10] = [
    "TIME",
    "REQUEST",
    "PHASE",
    "PROVIDER",
    "ACCOUNT",
    "CALLER",
    "METHOD",
    "PATH",
    "KEY",
    "REFERENCE",
];

/// So many characters of a path or a key are shown.
const MAX_CELL: usize = 60;

/// A line for each, below the headings.
pub(super) fn table<'a>(in_doubt: impl IntoIterator<Item = &'a InDoubt>) -> String {
    let rows = in_doubt.into_iter().map(|request| row(request).to_vec());
    lines(HEADINGS.map(str::to_owned).to_vec(), rows)
}

/// The same, with the instance and the journal that each is of.
pub(super) fn fleet_table<'a>(
    in_doubt: impl IntoIterator<Item = ([&'a str; 2], &'a InDoubt)>,
) -> String {
    let of = |owner: [&str; 2], cells: &[String]| {
        let owner = owner.map(|cell| plain(cell).into_owned());
        [&owner, cells].concat()
    };
    let rows = in_doubt
        .into_iter()
        .map(|(owner, request)| of(owner, &row(request)));
    let headings = of(["INSTANCE", "JOURNAL"], &HEADINGS.map(str::to_owned));
    lines(headings, rows)
}

fn lines(headings: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut widths = vec![0; headings.len()];
    let rows: Vec<Vec<String>> = std::iter::once(headings).chain(rows).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// What came from the wire, or stands in the file, must not steer a terminal or pose as another line.
fn row(request: &InDoubt) -> [String; HEADINGS.len()] {
    let time = humantime::format_rfc3339_seconds(request.time).to_string();
    let whole = |cell: &str| plain(cell).into_owned();
    let key = request.idempotency_key.as_deref().unwrap_or("-");
    [
        time,
        whole(&request.request_id),
        whole(request.phase.as_str()),
        whole(&request.provider),
        whole(&request.account),
        whole(&request.caller),
        short(&request.method),
        short(&request.path),
        short(key),
        // Nothing stands behind it.
        whole(request.reference.as_deref().unwrap_or("-")),
    ]
}

/// What a caller may make so long that every line would be.
fn short(text: &str) -> String {
    let text = plain(text);
    match text.char_indices().nth(MAX_CELL) {
        None => text.into_owned(),
        Some(_) => text.chars().take(MAX_CELL - 1).chain(['…']).collect(),
    }
}
