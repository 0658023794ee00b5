//! From the file's `traces` to [`Traces`].

use std::sync::Arc;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};
use rustls::ClientConfig;

use super::provider_tls::Shared;
use super::value::{InvalidPort, ODD, port};
use crate::defaults::traces as defaults;
use crate::diagnostic::Diagnostics;
use crate::file::{self, Count, Ratio};
use crate::traces::Traces;
use bursar_base::address::Spelling;
use bursar_tls::{client, system};

const ENDPOINT: &str = "traces.endpoint";
/// What OTLP adds to the URL of a receiver for traces.
const PATH: &str = "v1/traces";

/// None: there are no spans, or something is wrong.
pub(super) fn compile(
    file: file::Traces,
    has_callers: bool,
    shared: &Shared<'_>,
    problems: &mut Diagnostics,
) -> Option<Traces> {
    let Some(text) = file.endpoint else {
        if file.ratio.is_some() || file.per_second.is_some() {
            problems.warn(
                "traces",
                "has no effect without `endpoint`, which says where spans are sent",
            );
        }
        return None;
    };
    let endpoint = match endpoint(&text) {
        Ok(endpoint) => endpoint,
        Err(problem) => {
            problems.add(ENDPOINT, problem);
            return None;
        }
    };
    let tls = match endpoint.scheme() == Some(&Scheme::HTTPS) {
        true => Some(tls(shared, problems)?),
        false => None,
    };
    Some(Traces {
        endpoint,
        ratio: file.ratio.map_or(defaults::RATIO, |Ratio(ratio)| ratio),
        per_second: file
            .per_second
            .map_or(defaults::PER_SECOND, |Count(count)| count),
        has_callers,
        tls,
    })
}

/// With the path for traces.
fn endpoint(text: &str) -> Result<Uri, &'static str> {
    const NO_URL: &str = "is not a URL; write it as `http://host:4318`, the base URL of a receiver of OTLP over HTTP";
    let url: Uri = text.parse().map_err(|_invalid| NO_URL)?;
    let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
        return Err(NO_URL);
    };
    if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
        return Err("must begin with `http://` or `https://`");
    }
    if authority.as_str().contains('@') {
        return Err("must not hold a user name or password");
    }
    if url.query().is_some() || text.contains('#') {
        return Err("must have neither `?` nor `#`");
    }
    if authority.host().is_empty() {
        return Err(NO_URL);
    }
    if matches!(Spelling::of(authority.host()), Spelling::Odd(_)) {
        return Err(ODD);
    }
    match port(authority) {
        Ok(Some(0)) | Err(InvalidPort) => return Err("has an invalid port"),
        Ok(_) => {}
    }
    let path = url.path().trim_end_matches('/');
    if path.ends_with(PATH) {
        return Err("is the base URL, without `/v1/traces`, which is added");
    }
    let path: PathAndQuery = format!("{path}/{PATH}")
        .parse()
        .map_err(|_invalid| NO_URL)?;
    let mut parts = url.into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_invalid| NO_URL)
}

fn tls(shared: &Shared<'_>, problems: &mut Diagnostics) -> Option<Arc<ClientConfig>> {
    let configured = match &shared.system {
        Some((_, tls)) => Ok(tls.http1.clone()),
        None => system::roots()
            .and_then(|roots| client::configure(&roots, None))
            .map(|tls| tls.http1),
    };
    configured
        .map_err(|error| problems.add(ENDPOINT, error))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn parse(traces: &str) -> Result<Config, Vec<String>> {
        let provider = "providers: {a: {hosts: [a], client_id: a, client_secret: b, token: {url: https://a/t}}}";
        let parsed = Config::parse(&format!("traces: {traces}\n{provider}"), Path::new(""));
        parsed.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_endpoint_is_a_base_url_to_which_the_path_for_traces_is_added() {
        for (text, expected) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://a.example/otlp", "https://a.example/otlp/v1/traces"),
            (
                "https://a.example/otlp//",
                "https://a.example/otlp/v1/traces",
            ),
            ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        ] {
            assert_eq!(endpoint(text).unwrap(), expected, "{text}");
        }
        for text in [
            "collector:4318",
            "/v1/traces",
            "",
            "grpc://collector:4317",
            "http://user:key@collector:4318",
            "http://collector:4318?key=1",
            "http://collector:4318#x",
            "http://collector:4318/v1/traces",
            "http://collector:70000",
            "http://collector:0",
            "http://0x7f.1",
            "http://:4318",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_is_sampled_unless_it_is_asked_for_and_never_too_much() {
        let traces = parse("{endpoint: 'http://a'}").unwrap().traces.unwrap();
        assert_eq!((traces.ratio, traces.per_second.get()), (0.0, 100));
        let traces = parse("{endpoint: 'http://a', ratio: 1, per_second: 5}");
        let traces = traces.unwrap().traces.unwrap();
        assert_eq!((traces.ratio, traces.per_second.get()), (1.0, 5));
        let traces = parse("{endpoint: 'http://a', ratio: '0.25'}").unwrap();
        assert_eq!(traces.traces.unwrap().ratio, 0.25);
        for ratio in ["1.5", "-0.1", "2", "a", "'NaN'", "1%"] {
            let problems = parse(&format!("{{endpoint: 'http://a', ratio: {ratio}}}"));
            let problems = problems.unwrap_err().concat();
            assert!(problems.contains("from 0 to 1"), "{ratio}: {problems}");
        }
    }

    #[test]
    fn without_an_endpoint_there_are_no_spans_and_other_keys_are_warned_of() {
        let config = parse("{}").unwrap();
        assert!(config.traces.is_none() && config.warnings.is_empty());
        let config = parse("{ratio: 0.5}").unwrap();
        assert!(config.traces.is_none());
        assert_eq!(config.warnings[0].path, "traces");
    }
}
