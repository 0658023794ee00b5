//! What the receiver's reply means for a batch, as the specification of OTLP has it.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;

use super::client::{Error, PROTOBUF, Reply};

/// As much of the receiver's own words is told to the log.
const MAX_MESSAGE: usize = 200;

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has all of it.
    Taken,
    /// The receiver has it, but for so many spans.
    TakenBut { rejected: i64, message: String },
    /// It will not be taken.
    Refused(String),
    /// It may be sent again, after the pause that the receiver asks for.
    Later {
        why: String,
        after: Option<Duration>,
    },
}

pub(super) fn read(sent: Result<Reply, Error>) -> Outcome {
    let reply = match sent {
        Ok(reply) => reply,
        // It may have arrived all the same; spans may come twice.
        Err(error) => {
            return Outcome::Later {
                why: error.details(),
                after: None,
            };
        }
    };
    let said = || format!("the receiver answered {}", reply.status.as_u16());
    match reply.status.as_u16() {
        200..300 => accepted(&reply),
        429 | 502 | 503 | 504 => Outcome::Later {
            why: said(),
            after: reply.retry_after,
        },
        _ => Outcome::Refused(said()),
    }
}

/// A page of something else that stands at the endpoint is no receiver's response.
fn accepted(reply: &Reply) -> Outcome {
    let is_protobuf = ["", PROTOBUF].contains(&reply.media_type.as_str());
    let is_readable = !reply.is_compressed && reply.media_type != "application/json";
    let body = match &reply.body {
        _ if !is_readable => return Outcome::Taken,
        Some(body) if body.is_empty() => return Outcome::Taken,
        body => body.clone(),
    };
    let read = body.and_then(|body| ExportTraceServiceResponse::decode(body).ok());
    match read.map(|response| response.partial_success) {
        Some(partial) if is_protobuf => match partial {
            Some(partial) if partial.rejected_spans > 0 => Outcome::TakenBut {
                rejected: partial.rejected_spans,
                message: format!(
                    "the receiver rejected some: {}",
                    plain(&partial.error_message)
                ),
            },
            _ => Outcome::Taken,
        },
        _ => Outcome::Refused("what answers is no receiver of OTLP".to_owned()),
    }
}

/// A beginning of the receiver's words.
fn plain(text: &str) -> String {
    let plain = text
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char });
    plain.take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::StatusCode;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    fn reply(status: u16, media_type: &str, body: impl Into<Bytes>) -> Outcome {
        read(Ok(came(status, media_type, body)))
    }

    fn came(status: u16, media_type: &str, body: impl Into<Bytes>) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: Some(Duration::from_secs(7)),
            media_type: media_type.to_owned(),
            is_compressed: false,
            body: Some(body.into()),
        }
    }

    fn partial(rejected_spans: i64, error_message: &str) -> Vec<u8> {
        let response = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message: error_message.to_owned(),
            }),
        };
        response.encode_to_vec()
    }

    #[test]
    fn what_a_receiver_takes_is_taken_but_for_what_it_says_that_it_rejects() {
        assert_eq!(reply(200, PROTOBUF, ""), Outcome::Taken);
        assert_eq!(reply(200, "", ""), Outcome::Taken);
        assert_eq!(reply(202, "application/json", "{}"), Outcome::Taken);
        assert_eq!(
            reply(200, PROTOBUF, partial(0, "slow down")),
            Outcome::Taken
        );
        let long = format!("no\n{}", "x".repeat(999));
        let Outcome::TakenBut { rejected, message } = reply(200, PROTOBUF, partial(3, &long))
        else {
            panic!("it was rejected in part");
        };
        assert_eq!(rejected, 3);
        assert!(message.contains("no x") && message.len() < 300, "{message}");
    }

    #[test]
    fn what_a_balancer_has_compressed_on_its_own_was_taken() {
        let gzip = [
            0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let compressed = |status| Reply {
            is_compressed: true,
            ..came(status, PROTOBUF, gzip.to_vec())
        };
        assert_eq!(read(Ok(compressed(200))), Outcome::Taken);
        assert!(matches!(read(Ok(compressed(400))), Outcome::Refused(_)));
        assert!(matches!(
            reply(200, PROTOBUF, gzip.to_vec()),
            Outcome::Refused(_)
        ));
    }

    #[test]
    fn what_is_no_receiver_has_taken_nothing() {
        for (media_type, body) in [
            ("text/html", "<html>welcome</html>"),
            ("text/html", "\n\0"),
            (PROTOBUF, "<html>welcome</html>"),
            ("", "<html>welcome</html>"),
        ] {
            let outcome = reply(200, media_type, body);
            assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
        let too_long = Reply {
            body: None,
            ..came(200, "text/html", "")
        };
        assert!(matches!(read(Ok(too_long)), Outcome::Refused(_)));
    }

    #[test]
    fn four_statuses_and_failures_may_be_tried_again_and_nothing_else() {
        for status in [429, 502, 503, 504] {
            let outcome = reply(status, "", "");
            let after = Some(Duration::from_secs(7));
            assert!(matches!(outcome, Outcome::Later { after: asked, .. } if asked == after));
        }
        for status in [301, 400, 401, 403, 404, 408, 413, 500, 501] {
            assert!(
                matches!(reply(status, PROTOBUF, ""), Outcome::Refused(_)),
                "{status}"
            );
        }
        for error in [
            Error::TimedOut,
            Error::Connect(std::io::ErrorKind::ConnectionRefused.into()),
        ] {
            assert!(matches!(
                read(Err(error)),
                Outcome::Later { after: None, .. }
            ));
        }
    }
}
