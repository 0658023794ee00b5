//! From a provider's `routes`, and its preset's, to [`Route`]s in the order in which they are looked at.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, VIA};
use http::{HeaderName, Method};

use super::value::{ScopeSets, methods, pattern};
use crate::diagnostic::Diagnostics;
use crate::file::{self, ReplayRule, RouteAuthorization};
use crate::node::join;
use crate::presets::PresetRoute;
use crate::route::{Authorization, Route, Semantics};
use bursar_base::field_names;
use bursar_base::json_pointer::Field;
use bursar_base::path::Pattern;

/// The operator's; `place` is the key path of the list, and the scopes of a route that names none.
pub(super) fn routes(
    file: Vec<file::Route>,
    place: &(String, Option<usize>),
    forwards_trace: bool,
    scopes: &mut ScopeSets,
    problems: &mut Diagnostics,
) -> Vec<(usize, Route)> {
    let (list, default_scopes) = place;
    let mut routes = Vec::new();
    for (at, route) in file.into_iter().enumerate() {
        let key = format!("{list}[{at}]");
        let semantics = semantics(&route, &key, forwards_trace, problems);
        let authorization = authorization(&route, &key, *default_scopes, scopes, problems);
        let methods = methods(route.methods, &join(&key, "methods"), problems);
        let path = match route.path {
            Some(path) => pattern(&path, &join(&key, "path"), problems),
            None => {
                problems.add(&join(&key, "path"), "is missing");
                None
            }
        };
        if let (Some(path), Some(authorization)) = (path, authorization) {
            routes.push((at, new_route(methods, path, authorization, semantics)));
        }
    }
    routes.sort_by(|(_, one), (_, other)| compare_specificity(one, other));
    refuse_unreachable(&routes, list, problems);
    routes
}

/// `replay: if_keyed` needs a key that somebody knows: the route itself, or the preset's routes for such requests.
pub(super) fn refuse_unkeyed(
    routes: &[(usize, Route)],
    known: &[&PresetRoute],
    list: &str,
    problems: &mut Diagnostics,
) {
    for (at, route) in routes {
        let Semantics {
            replay,
            idempotency_header,
            idempotency_field,
            ..
        } = &route.semantics;
        let has_key = idempotency_header.is_some() || idempotency_field.is_some();
        if *replay != Some(ReplayRule::IfKeyed)
            || has_key
            || known.iter().any(|known| gives_key(known, route))
        {
            continue;
        }
        problems.add(
            &format!("{list}[{at}].idempotency_header"),
            "is missing; `replay: if_keyed` needs to know which header, or with `idempotency_field` which field of the body, holds the key",
        );
    }
}

/// Whether a preset's route knows the key of requests that the operator's route matches.
fn gives_key(known: &PresetRoute, route: &Route) -> bool {
    let has_key = known.idempotency_header.is_some() || known.idempotency_field.is_some();
    let is_of_both = |method: &&str| {
        let methods = route.methods.as_ref();
        methods.is_none_or(|methods| methods.iter().any(|other| other.as_str() == *method))
    };
    has_key
        && known.methods.iter().any(is_of_both)
        && Pattern::parse(known.path)
            .is_ok_and(|path| path.covers(&route.path) || route.path.covers(&path))
}

/// Whose token requests carry. `key` is the route's key path; a route that names no scopes has the default ones.
fn authorization(
    route: &file::Route,
    key: &str,
    default_scopes: Option<usize>,
    scopes: &mut ScopeSets,
    problems: &mut Diagnostics,
) -> Option<Authorization> {
    let key = join(key, "scopes");
    let rule = route.authorization.unwrap_or_default();
    if rule == RouteAuthorization::Caller {
        if route.scopes.is_some() {
            problems.add(
                &key,
                "has no effect beside `authorization: caller`, because the caller's token has its own; `caller_or_bursar` is for where the caller brings none",
            );
        }
        return Some(Authorization::Caller);
    }
    let set = match &route.scopes {
        Some(names) => Some(scopes.add(names, &key, problems)),
        None => default_scopes,
    };
    if set.is_none() {
        problems.add(
            &key,
            "is missing, and there is no `token.scopes` to fall back to",
        );
    }
    Some(match rule {
        RouteAuthorization::CallerOrBursar => Authorization::CallerOrBursar(set?),
        RouteAuthorization::Caller | RouteAuthorization::Bursar => Authorization::Bursar(set?),
    })
}

/// The preset's, of some of its hosts.
pub(super) fn preset_routes(
    known: impl Iterator<Item = &'static PresetRoute>,
    default_scopes: Option<usize>,
    chosen: &file::OperationScopes,
    scopes: &mut ScopeSets,
) -> Vec<Route> {
    let route = |known: &PresetRoute| {
        let names = known.methods.iter();
        let methods = names.filter_map(|name| name.parse().ok()).collect();
        let path = Pattern::parse(known.path).ok()?;
        let chosen = known.operation.and_then(|operation| chosen.of(operation));
        let scopes = match (chosen, known.scopes) {
            (Some(scope), _) => scopes.add_trusted(&[scope]),
            (None, Some(names)) => scopes.add_trusted(names),
            (None, None) => default_scopes?,
        };
        let semantics = Semantics {
            moves_money: Some(known.moves_money),
            replay: None,
            idempotency_header: known.idempotency_header.map(HeaderName::from_static),
            idempotency_field: match known.idempotency_field {
                Some(pointer) => Some(Arc::new(Field::parse(pointer).ok()?)),
                None => None,
            },
        };
        let authorization = match known.takes_callers_token {
            true => Authorization::CallerOrBursar(scopes),
            false => Authorization::Bursar(scopes),
        };
        let route = new_route(Some(methods), path, authorization, semantics);
        Some(Route {
            merchant: known.merchant,
            ..route
        })
    };
    let mut routes: Vec<Route> = known.filter_map(route).collect();
    routes.sort_by(compare_specificity);
    routes
}

fn semantics(
    route: &file::Route,
    key: &str,
    forwards_trace: bool,
    problems: &mut Diagnostics,
) -> Semantics {
    let header_key = join(key, "idempotency_header");
    let idempotency_header = route.idempotency_header.as_ref().and_then(|name| {
        let Ok(name) = name.parse::<HeaderName>() else {
            problems.add(&header_key, "is not a header name");
            return None;
        };
        // The journal writes the key down.
        if [AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, VIA].contains(&name) {
            problems.add(&header_key, "is a header that holds no key of a request");
        } else if stays_here(name.as_str()) {
            problems.add(&header_key, "is a header that does not reach the provider");
        } else if !forwards_trace && is_trace(name.as_str()) {
            problems.add(
                &header_key,
                "is a trace header, which reaches the provider only with `trace: forward`",
            );
        }
        Some(name)
    });
    let idempotency_field = route.idempotency_field.as_ref().and_then(|pointer| {
        let field = Field::parse(pointer);
        let field = field.map_err(|error| problems.add(&join(key, "idempotency_field"), error));
        field.ok().map(Arc::new)
    });
    Semantics {
        moves_money: route.moves_money,
        replay: route.replay,
        idempotency_header,
        idempotency_field,
    }
}

/// Whether a request's field is for the next hop or for Bursar, or poses as another request, so that no provider sees it.
/// Of those that are taken out with underscores, too, all are as well.
fn stays_here(name: &str) -> bool {
    let is_of_hop = matches!(
        name,
        "connection" | "keep-alive" | "te" | "transfer-encoding" | "upgrade"
    );
    let meant = name.replace('_', "-");
    let is_taken_out = matches!(
        &*meant,
        "bursar-account"
            | "bursar-reference"
            | "bursar-request-id"
            | "content-length"
            | "expect"
            | "transfer-encoding"
    );
    is_of_hop || is_taken_out || field_names::is_posing(&meant) || meant.starts_with("proxy-")
}

/// Whether a request's field tells of its trace, with underscores for hyphens, too.
fn is_trace(name: &str) -> bool {
    field_names::is_trace(&name.replace('_', "-"))
}

/// A route is unreachable where one that is looked at before it matches whatever it matches.
fn refuse_unreachable(routes: &[(usize, Route)], list: &str, problems: &mut Diagnostics) {
    for (place, (at, route)) in routes.iter().enumerate() {
        let shadow = routes.iter().take(place).find(|(_, earlier)| {
            earlier.path.covers(&route.path)
                && covers_methods(earlier.methods.as_deref(), route.methods.as_deref())
        });
        if let Some((earlier, _)) = shadow {
            problems.add(
                &format!("{list}[{at}]"),
                format_args!("can never match, because routes[{earlier}] matches all of it"),
            );
        }
    }
}

fn new_route(
    methods: Option<Vec<Method>>,
    path: Pattern,
    authorization: Authorization,
    semantics: Semantics,
) -> Route {
    let name = match &methods {
        Some(methods) => {
            let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
            format!("{} {}", names.join(","), path.as_str())
        }
        None => path.as_str().to_owned(),
    };
    Route {
        name: name.into(),
        methods,
        path,
        authorization,
        semantics,
        merchant: None,
    }
}

/// The more specific path first, then the fewer methods.
fn compare_specificity(one: &Route, other: &Route) -> std::cmp::Ordering {
    let methods = |route: &Route| route.methods.as_ref().map_or(usize::MAX, Vec::len);
    one.path
        .compare_specificity(&other.path)
        .then(methods(one).cmp(&methods(other)))
}

fn covers_methods(one: Option<&[Method]>, other: Option<&[Method]>) -> bool {
    match (one, other) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => other.iter().all(|method| one.contains(method)),
    }
}
