//! Failure of a token call as other instances are told of it: what the endpoint said of the account, and nothing that may
//! be this instance's own trouble, such as a name that it cannot resolve.

use serde::{Deserialize, Serialize};

use crate::token::failure::{Detail, ErrorCode, Failure};

/// A failure, written down.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Written {
    Rejected { error: Option<String> },
    RateLimited,
    RetryLater { status: u16 },
}

/// Where an error had no name.
const ELSEWHERE: Detail = Detail::Is("another instance of the fleet was told so");

/// The bytes of a failure. None: it says nothing to others.
pub(super) fn write(failure: Failure) -> Option<Vec<u8>> {
    let written = match failure {
        Failure::Rejected(Detail::Code(code), _) => Written::Rejected {
            error: Some(code.as_str().to_owned()),
        },
        Failure::Rejected(..) => Written::Rejected { error: None },
        Failure::RateLimited(_) | Failure::LimitedOrRefused(_) => Written::RateLimited,
        Failure::RetryLater(status, _) => Written::RetryLater { status },
        Failure::ErrorStatus(..)
        | Failure::ServerError(_)
        | Failure::TimedOut
        | Failure::NotAllowed(_)
        | Failure::NoConnection(_)
        | Failure::Broken
        | Failure::NoCloseNotify
        | Failure::Malformed(_)
        | Failure::AlreadyExpired
        | Failure::QuotaExhausted
        | Failure::CircuitOpen
        | Failure::LeaseLost
        | Failure::FleetHold => return None,
    };
    serde_json::to_vec(&written).ok()
}

/// The failure that those bytes tell of; what cannot be read is a limit of which no more is known.
pub(super) fn read(bytes: &[u8]) -> Failure {
    match serde_json::from_slice(bytes) {
        Ok(Written::Rejected { error }) => {
            let code = error.as_deref().and_then(ErrorCode::new);
            Failure::Rejected(code.map_or(ELSEWHERE, Detail::Code), None)
        }
        Ok(Written::RetryLater { status }) => Failure::ErrorStatus(status, ELSEWHERE),
        Ok(Written::RateLimited) | Err(_) => Failure::RateLimited(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_the_endpoint_said_keeps_its_kind_and_the_errors_name() {
        let code = Detail::Code(ErrorCode::new("invalid_client").unwrap());
        let asked = Some(Duration::from_secs(9));
        for (told, read_as) in [
            (
                Failure::Rejected(code, asked),
                Failure::Rejected(code, None),
            ),
            (
                Failure::Rejected(Detail::Is("no error code"), None),
                Failure::Rejected(ELSEWHERE, None),
            ),
            (Failure::LimitedOrRefused(asked), Failure::RateLimited(None)),
            (
                Failure::RetryLater(503, Duration::from_secs(9)),
                Failure::ErrorStatus(503, ELSEWHERE),
            ),
        ] {
            let written = write(told).unwrap();
            assert_eq!(read(&written), read_as, "{told:?}");
        }
        assert_eq!(read(b"<html>"), Failure::RateLimited(None));
    }

    #[test]
    fn what_may_be_one_instances_own_trouble_is_not_told() {
        for failure in [Failure::TimedOut, Failure::Broken, Failure::AlreadyExpired] {
            assert_eq!(write(failure), None);
        }
    }
}
