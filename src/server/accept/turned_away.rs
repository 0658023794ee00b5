//! Response to a connection beyond `limits.connections`: it is given before any request is read.

use bursar_base::clock;

/// The whole of it.
pub(super) fn response(request_id: &str) -> String {
    let body = format!(
        "{{\"title\":\"Service Unavailable\",\"status\":503,\
         \"detail\":\"too many connections at once; see `limits.connections`\",\
         \"reason\":\"overloaded\",\"request_sent\":\"no\",\"request_id\":\"{request_id}\"}}"
    );
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
         Proxy-Status: bursar; error=connection_limit_reached; details=\"overloaded\"\r\n\
         Bursar-Request-Id: {request_id}\r\nDate: {}\r\nConnection: close\r\nRetry-After: 1\r\n\
         Content-Length: {}\r\n\r\n{body}",
        httpdate::fmt_http_date(clock::wall()),
        body.len()
    )
}
