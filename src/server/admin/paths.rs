//! Paths of the admin port, with the methods of each.

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::response::{TEXT, text, with_type};

const READING: &str = "GET, HEAD";

/// As `Allow` has them (RFC 9110 section 10.2.1). None: there is no such path.
fn methods(path: &str) -> Option<&'static str> {
    Some(match path {
        "/" | "/metrics" | "/healthz" | "/readyz" | "/status" | "/ca.pem" => READING,
        "/log-level" => "GET, HEAD, POST",
        "/reload" | "/log-level/restore" => "POST",
        _ if path.starts_with("/freeze/") || path.starts_with("/thaw/") => "POST",
        _ => return None,
    })
}

/// Says that there is no such path, or that it does not take this method.
pub(super) fn refuse(path: &str) -> Response<Full<Bytes>> {
    let Some(methods) = methods(path) else {
        return text(
            StatusCode::NOT_FOUND,
            "there are /, /metrics, /healthz, /readyz, /status, /log-level and /ca.pem to read; POST to /freeze/PROVIDER, /thaw/PROVIDER, /reload, /log-level and /log-level/restore changes something\n",
        );
    };
    let said = format!("this path takes {methods}, and no other method\n");
    let response = with_type(StatusCode::METHOD_NOT_ALLOWED, TEXT, said.into());
    allowing(response, methods)
}

/// Says that nothing can be changed where that path may be read at most.
pub(super) fn refuse_change(path: &str, said: &'static str) -> Response<Full<Bytes>> {
    let is_read = methods(path).is_some_and(|methods| methods.starts_with(READING));
    let response = text(StatusCode::METHOD_NOT_ALLOWED, said);
    allowing(response, if is_read { READING } else { "" })
}

fn allowing(mut response: Response<Full<Bytes>>, methods: &'static str) -> Response<Full<Bytes>> {
    let methods = HeaderValue::from_static(methods);
    response.headers_mut().insert(ALLOW, methods);
    response
}
