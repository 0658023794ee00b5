//! Names of attributes: OpenTelemetry's semantic conventions for HTTP, as far as they are stable, and Bursar's own.

pub(crate) const METHOD: &str = "http.request.method";
pub(crate) const RESEND_COUNT: &str = "http.request.resend_count";
pub(crate) const STATUS: &str = "http.response.status_code";
pub(crate) const ROUTE: &str = "http.route";
pub(crate) const SCHEME: &str = "url.scheme";
pub(crate) const PROTOCOL_VERSION: &str = "network.protocol.version";
pub(crate) const PEER_ADDRESS: &str = "network.peer.address";
pub(crate) const PEER_PORT: &str = "network.peer.port";
pub(crate) const SERVER_ADDRESS: &str = "server.address";
pub(crate) const SERVER_PORT: &str = "server.port";
pub(crate) const CLIENT_ADDRESS: &str = "client.address";
pub(crate) const ERROR_TYPE: &str = "error.type";

pub(crate) const REQUEST_ID: &str = "bursar.request_id";
pub(crate) const CALLER: &str = "bursar.caller";
pub(crate) const PROVIDER: &str = "bursar.provider";
pub(crate) const ACCOUNT: &str = "bursar.account";
pub(crate) const OWN_ROUTE: &str = "bursar.route";
pub(crate) const REASON: &str = "bursar.reason";
pub(crate) const DETAIL: &str = "bursar.detail";
pub(crate) const CAUSE: &str = "bursar.cause";
pub(crate) const REPLAYED: &str = "bursar.replayed";
pub(crate) const SCOPES: &str = "bursar.scopes";
pub(crate) const GRANT: &str = "bursar.grant";
pub(crate) const FLIGHT_FOR: &str = "bursar.flight.reason";
pub(crate) const GENERATION: &str = "bursar.token_generation";

/// What stands for a method that is none of HTTP's own.
pub(crate) const OTHER_METHOD: &str = "_OTHER";

/// A method, where it is one that HTTP knows: any other word is whatever its sender wanted it to be.
pub(crate) fn known_method(method: &http::Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
    ];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or(OTHER_METHOD)
}

/// As a span's name has it.
pub(crate) fn in_name(method: &'static str) -> &'static str {
    match method {
        OTHER_METHOD => "HTTP",
        method => method,
    }
}

/// A version of HTTP, as it is negotiated.
pub(crate) fn protocol_version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        _ => "1.1",
    }
}
