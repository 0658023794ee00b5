//! Times as the admin port shows them.

use std::time::SystemTime;

/// RFC 3339, to the millisecond.
pub(super) fn date(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
