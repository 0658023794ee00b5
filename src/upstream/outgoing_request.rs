//! Outgoing requests: what goes to a provider apart from the body, and the same kept for when it has to go out again.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};

use super::connection::{Connection, RequestBody};
use super::upload::UploadBody;
use bursar_http::headers;

/// A request as it goes to the provider, apart from its body.
#[derive(Debug)]
pub struct OutgoingRequest {
    /// The caller's.
    pub method: Method,
    /// The raw path and query, byte for byte.
    pub target: PathAndQuery,
    /// Cleaned; without `Authorization` where Bursar sets it. `Host` is the caller's and does not go on.
    pub headers: HeaderMap,
}

/// A path where there is only a query (RFC 9112 section 3.2.1).
fn with_path(target: &PathAndQuery) -> PathAndQuery {
    if target.as_str().starts_with('?')
        && let Ok(whole) = target.to_string().try_into()
    {
        return whole;
    }
    target.clone()
}

/// An [`OutgoingRequest`] that has gone out and may have to go out again.
#[derive(Debug)]
pub struct SavedRequest {
    /// Its method.
    pub method: Method,
    target: PathAndQuery,
    fields: headers::SavedFields,
}

impl SavedRequest {
    /// The same as it was.
    #[must_use]
    pub fn outgoing(&self) -> Option<OutgoingRequest> {
        Some(OutgoingRequest {
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.fields.fields()?,
        })
    }
}

impl OutgoingRequest {
    /// Taken out of a head whose fields are cleaned.
    #[must_use]
    pub fn new(head: &mut http::request::Parts) -> Self {
        let target = head.uri.path_and_query();
        Self {
            method: std::mem::take(&mut head.method),
            target: target.map_or_else(|| PathAndQuery::from_static("/"), with_path),
            headers: std::mem::take(&mut head.headers),
        }
    }

    /// For when it has to go out again.
    #[must_use]
    pub fn save(&self) -> SavedRequest {
        SavedRequest {
            method: self.method.clone(),
            target: self.target.clone(),
            fields: headers::SavedFields::new(&self.headers),
        }
    }

    /// Puts the request into the form that the connection speaks; `Authorization` comes last of all, where
    /// it is Bursar's.
    #[must_use]
    pub fn request<B: RequestBody>(
        self,
        connection: &Connection<B>,
        authorization: Option<HeaderValue>,
        body: B,
    ) -> Request<UploadBody<B>> {
        let origin = connection.origin();
        let mut headers = self.headers;
        if let Some(authorization) = authorization {
            headers.insert(http::header::AUTHORIZATION, authorization);
        }
        let uri = if connection.is_http2() {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(origin.scheme.clone());
            parts.authority = Some(origin.authority.clone());
            parts.path_and_query = Some(self.target);
            headers.remove(http::header::HOST);
            Uri::from_parts(parts).unwrap_or_default()
        } else {
            headers::set(&mut headers, &http::header::HOST, connection.host().clone());
            // hyper takes a GET of unknown length for one without a body.
            let unknown = body.size_hint().exact().is_none();
            if unknown && !headers.contains_key(http::header::CONTENT_LENGTH) {
                // One that has ended without a byte, as in a replay, is still said to be none.
                let (name, value) = match body.is_end_stream() {
                    true => (http::header::CONTENT_LENGTH, "0"),
                    false => (http::header::TRANSFER_ENCODING, "chunked"),
                };
                headers.insert(name, HeaderValue::from_static(value));
            }
            self.target.into()
        };
        let mut request = Request::new(UploadBody::new(body));
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request
    }
}
