//! An access line: as JSON for machines, as text for a person.
//!
//! One is written for every request, so it is put together by hand: serialising it took a sixth of the
//! instructions that a whole request costs. Only text that JSON cannot hold as it is takes the long way.

use std::cell::Cell;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use crate::line_writer::cut;
use bursar_base::secret::{Fingerprint, hexadecimal};
use bursar_base::terminal::{plain, plain_json};

/// What a path may have of a line, a route, and a name or a method. With all else they stay below the length that no
/// line exceeds.
const PATH_BYTES: usize = 8192;
const ROUTE_BYTES: usize = 2048;
const NAME_BYTES: usize = 512;

/// The form of a `CONNECT`.
const AUTHORITY: &str = "authority";

/// What a line says, in its order.
pub struct Line<'a> {
    pub at: SystemTime,
    /// Whether the response was Bursar's own.
    pub is_own: bool,
    pub request_id: u128,
    /// Where the request came from.
    pub client: IpAddr,
    pub correlation: Correlation<'a>,
    pub caller: &'a str,
    /// Whose name came with a wrong password.
    pub claimed_caller: Option<&'a str>,
    pub provider: &'a str,
    pub account: Option<&'a str>,
    pub route: Option<&'a str>,
    /// The form of its target.
    pub form: &'static str,
    /// As it was asked for.
    pub host: Option<&'a str>,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    pub reason: Option<&'static str>,
    /// Which of its meanings it has.
    pub detail: Option<&'static str>,
    /// Why there was no connection.
    pub cause: Option<&'static str>,
    /// The server that it went to, with its port; that of the token endpoint where there was no token.
    pub upstream_host: Option<&'a str>,
    pub upstream_address: Option<SocketAddr>,
    /// Its generation and fingerprint.
    pub token: Option<(u64, Fingerprint)>,
    pub replayed: bool,
    pub total: Duration,
    pub token_wait: Duration,
    pub upstream: Duration,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

/// What a request is known by to its caller. No text is longer than 256 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Correlation<'a> {
    /// Of the caller's own records.
    pub reference: Option<&'a str>,
    /// Why a reference is not noted.
    pub reference_dropped: Option<&'static str>,
    /// What the caller calls the request.
    pub caller_request_id: Option<&'a str>,
    /// The trace that it is part of.
    pub trace_id: Option<u128>,
}

impl Correlation<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        if *self == Self::default() {
            out.extend_from_slice(
                b",\"reference\":null,\"reference_dropped\":null,\"caller_request_id\":null,\"trace_id\":null",
            );
            return;
        }
        out.extend_from_slice(b",\"reference\":");
        write_optional(out, self.reference, NAME_BYTES);
        out.extend_from_slice(b",\"reference_dropped\":");
        write_word(out, self.reference_dropped);
        out.extend_from_slice(b",\"caller_request_id\":");
        write_optional(out, self.caller_request_id, NAME_BYTES);
        match self.trace_id {
            None => out.extend_from_slice(b",\"trace_id\":null"),
            Some(id) => {
                out.extend_from_slice(b",\"trace_id\":\"");
                write_hex(out, id);
                out.push(b'"');
            }
        }
    }
}

impl Line<'_> {
    /// Whether operators have to look at it: no request was served, and it is not the caller's fault.
    pub(super) fn is_warning(&self) -> bool {
        self.is_own && self.status >= 500
    }

    /// One JSON object.
    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        write_time(out, self.at);
        out.extend_from_slice(if self.is_warning() {
            b"\",\"level\":\"WARN\",\"target\":\"bursar::access\",\"message\":\"request\",\"request_id\":\""
                .as_slice()
        } else {
            b"\",\"level\":\"INFO\",\"target\":\"bursar::access\",\"message\":\"request\",\"request_id\":\""
        });
        write_hex(out, self.request_id);
        out.push(b'"');
        self.correlation.write_json(out);
        out.extend_from_slice(b",\"client\":\"");
        write_address(out, self.client);
        out.extend_from_slice(b"\",\"caller\":");
        write_text(out, self.caller, NAME_BYTES);
        out.extend_from_slice(b",\"claimed_caller\":");
        write_optional(out, self.claimed_caller, NAME_BYTES);
        out.extend_from_slice(b",\"provider\":");
        write_text(out, self.provider, NAME_BYTES);
        out.extend_from_slice(b",\"account\":");
        write_optional(out, self.account, NAME_BYTES);
        out.extend_from_slice(b",\"route\":");
        write_optional(out, self.route, ROUTE_BYTES);
        out.extend_from_slice(b",\"form\":\"");
        out.extend_from_slice(self.form.as_bytes());
        out.extend_from_slice(b"\",\"host\":");
        write_optional(out, self.host, NAME_BYTES);
        out.extend_from_slice(b",\"method\":");
        // It has no character that needs an escape (RFC 9110 section 5.6.2).
        let method = cut(self.method, NAME_BYTES);
        out.push(b'"');
        out.extend_from_slice(method.as_deref().unwrap_or(self.method).as_bytes());
        out.push(b'"');
        out.extend_from_slice(b",\"path\":");
        write_text(out, self.path, PATH_BYTES);
        out.extend_from_slice(b",\"status\":");
        write_number(out, self.status);
        self.write_why(out);
        match &self.token {
            Some((generation, fingerprint)) => {
                out.extend_from_slice(b",\"token_generation\":");
                write_number(out, *generation);
                out.extend_from_slice(b",\"token_fingerprint\":\"");
                out.extend_from_slice(fingerprint.as_str().as_bytes());
                out.push(b'"');
            }
            None => out.extend_from_slice(b",\"token_generation\":null,\"token_fingerprint\":null"),
        }
        out.extend_from_slice(if self.replayed {
            b",\"replayed\":true".as_slice()
        } else {
            b",\"replayed\":false"
        });
        out.extend_from_slice(b",\"total_ms\":");
        write_milliseconds(out, self.total);
        out.extend_from_slice(b",\"token_wait_ms\":");
        write_milliseconds(out, self.token_wait);
        out.extend_from_slice(b",\"upstream_ms\":");
        write_milliseconds(out, self.upstream);
        out.extend_from_slice(b",\"request_bytes\":");
        write_number(out, self.request_bytes);
        out.extend_from_slice(b",\"response_bytes\":");
        write_number(out, self.response_bytes);
        out.extend_from_slice(b"}\n");
    }

    /// Why Bursar responded, and where the request went.
    fn write_why(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"reason\":");
        write_word(out, self.reason);
        out.extend_from_slice(b",\"detail\":");
        write_word(out, self.detail);
        out.extend_from_slice(b",\"cause\":");
        write_word(out, self.cause);
        out.extend_from_slice(b",\"upstream_host\":");
        write_optional(out, self.upstream_host, NAME_BYTES);
        out.extend_from_slice(b",\"upstream_address\":");
        write_server(out, self.upstream_address);
    }

    /// For reading.
    pub(super) fn write_text(&self, out: &mut Vec<u8>) {
        write_time(out, self.at);
        let level = match self.is_warning() {
            true => " WARN",
            false => " INFO",
        };
        let short = |text: &str, most| {
            let text = plain(text);
            cut(&text, most).unwrap_or_else(|| text.into_owned())
        };
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        // The path of a tunnel is its host.
        let host = self.host.filter(|_| self.form != AUTHORITY);
        let written = write!(
            out,
            " {level} {} {} {} {}{} {} {}",
            self.status,
            short(self.provider, NAME_BYTES),
            short(self.method, NAME_BYTES),
            short(host.unwrap_or_default(), NAME_BYTES),
            short(&self.path.escape_default().to_string(), PATH_BYTES),
            short(self.caller, NAME_BYTES),
            self.client,
        );
        // Memory takes everything.
        drop(written);
        let trace_id = self.correlation.trace_id.map(|id| format!("{id:032x}"));
        let generation = self.token.map(|(generation, _)| generation.to_string());
        for (name, value) in [
            ("", self.reason),
            ("", self.detail),
            ("", self.cause),
            ("claimed ", self.claimed_caller),
            ("at ", self.upstream_host),
            ("reference ", self.correlation.reference),
            ("caller's id ", self.correlation.caller_request_id),
            ("trace ", trace_id.as_deref()),
            ("token ", generation.as_deref()),
            ("", self.replayed.then_some("replayed")),
        ] {
            if let Some(value) = value {
                drop(write!(out, " {name}{}", short(value, NAME_BYTES)));
            }
        }
        let written = writeln!(
            out,
            " {:.1} ms (token {:.1}, upstream {:.1}) in {} out {} {:032x}",
            milliseconds(self.total),
            milliseconds(self.token_wait),
            milliseconds(self.upstream),
            self.request_bytes,
            self.response_bytes,
            self.request_id,
        );
        drop(written);
    }
}

thread_local! {
    /// The last second that was written, and its text up to the point: most lines have it in common.
    static SECOND: Cell<(u64, [u8; 20])> = const { Cell::new((u64::MAX, [0; 20])) };
}

/// RFC 3339 with microseconds, in UTC.
fn write_time(out: &mut Vec<u8>, at: SystemTime) {
    // A clock before 1970 is as good as one that says 1970.
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (mut second, mut text) = SECOND.get();
    if second != since.as_secs() {
        (second, text) = (since.as_secs(), second_text(since));
        SECOND.set((second, text));
    }
    out.extend_from_slice(&text);
    write_digits(out, since.subsec_micros(), 6);
    out.push(b'Z');
}

/// That long after 1970 began.
fn second_text(since: Duration) -> [u8; 20] {
    let at = OffsetDateTime::UNIX_EPOCH.saturating_add(since.try_into().unwrap_or_default());
    let mut text = Vec::with_capacity(20);
    write_digits(&mut text, at.year().unsigned_abs(), 4);
    for (before, number) in [
        (b'-', u8::from(at.month())),
        (b'-', at.day()),
        (b'T', at.hour()),
        (b':', at.minute()),
        (b':', at.second()),
    ] {
        text.push(before);
        write_digits(&mut text, number.into(), 2);
    }
    text.push(b'.');
    text.try_into().unwrap_or_default()
}

/// A number with leading zeros, `width` digits of it.
fn write_digits(out: &mut Vec<u8>, mut number: u32, width: usize) {
    let mut digits = [b'0'; 10];
    let (_, digits) = digits.split_at_mut(10 - width);
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789"[(number % 10) as usize];
        number /= 10;
    }
    out.extend_from_slice(digits);
}

/// 32 hexadecimal digits.
fn write_hex(out: &mut Vec<u8>, number: u128) {
    let digits = number.to_be_bytes().map(hexadecimal);
    out.extend_from_slice(digits.as_flattened());
}

fn write_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// With three decimals.
fn write_milliseconds(out: &mut Vec<u8>, time: Duration) {
    // Not `as_millis`, whose 128 bits are dear.
    let whole = time.as_secs().saturating_mul(1000) + u64::from(time.subsec_millis());
    write_number(out, whole);
    out.push(b'.');
    write_digits(out, time.subsec_micros() % 1000, 3);
}

/// An address with its port.
fn write_server(out: &mut Vec<u8>, address: Option<SocketAddr>) {
    let Some(address) = address else {
        out.extend_from_slice(b"null");
        return;
    };
    out.push(b'"');
    match address {
        SocketAddr::V4(address) => {
            write_address(out, (*address.ip()).into());
            out.push(b':');
            write_number(out, address.port());
        }
        // Memory takes everything.
        SocketAddr::V6(_) => drop(write!(out, "{address}")),
    }
    out.push(b'"');
}

/// A word that has no character that needs an escape.
fn write_word(out: &mut Vec<u8>, word: Option<&'static str>) {
    match word {
        None => out.extend_from_slice(b"null"),
        Some(word) => {
            out.push(b'"');
            out.extend_from_slice(word.as_bytes());
            out.push(b'"');
        }
    }
}

fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            write_number(out, first);
            for octet in rest {
                out.push(b'.');
                write_number(out, octet);
            }
        }
        // Memory takes everything.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

fn write_optional(out: &mut Vec<u8>, text: Option<&str>, most: usize) {
    match text {
        Some(text) => write_text(out, text, most),
        None => out.extend_from_slice(b"null"),
    }
}

/// The bytes that a JSON string cannot hold as they are (RFC 8259 section 7), and those of which some may steer a
/// terminal.
const NEEDS_ESCAPE: [bool; 256] = {
    let mut table = [false; 256];
    let mut beyond = 0x7f;
    while beyond < 256 {
        table[beyond] = true;
        beyond += 1;
    }
    let mut control = 0;
    while control < 0x20 {
        table[control] = true;
        control += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// A JSON string of at most that many bytes without its quotes.
fn write_text(out: &mut Vec<u8>, text: &str, most: usize) {
    let cut = cut(text, most);
    let text = cut.as_deref().unwrap_or(text);
    if text.bytes().any(|byte| NEEDS_ESCAPE[usize::from(byte)]) {
        let json = serde_json::to_string(text).unwrap_or_default();
        out.extend_from_slice(plain_json(&json).as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests;
