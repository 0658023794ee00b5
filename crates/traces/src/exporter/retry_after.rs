//! `Retry-After` of a receiver.

use std::time::Duration;

use http::HeaderValue;

use bursar_base::clock;

/// A number of seconds, or a date (RFC 9110 section 10.2.3).
pub(super) fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_no_number) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(clock::wall()).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_a_number_of_seconds_or_a_date() {
        let of = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap());
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Thu, 01 Jan 1970 00:00:10 GMT"), Some(Duration::ZERO));
        for text in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
