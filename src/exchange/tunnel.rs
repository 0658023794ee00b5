//! Opening of tunnels: where a `CONNECT` leads, if anywhere. What comes through it is checked when it comes.

use http_body::Body as _;
use tokio::time::Instant;

use super::active_request::ActiveRequest;
use super::caller::Principal;
use super::proxy::Proxy;
use super::respond::Refusal;
use super::tunnel_target::{self, TunnelTarget};
use bursar_http::connection::TunnelContext;
use bursar_http::lingering_body::LingeringBody;
use bursar_http::target::{self, Target};
use bursar_telemetry::metrics::{Limit, RefusalDetail};

/// A tunnel that was opened: its caller was answered 200, or is about to be.
#[derive(Debug)]
pub struct Opened {
    /// The `CONNECT`; it is written down when the tunnel is over.
    pub request: Box<ActiveRequest>,
    /// Where it leads.
    pub target: TunnelTarget,
}

/// Opens a tunnel for that caller.
pub(super) async fn open(
    proxy: &Proxy,
    request: &mut ActiveRequest,
    target: &Target<'_>,
    body: &LingeringBody,
    caller: &Principal<'_>,
) -> Result<TunnelTarget, Refusal> {
    if !body.is_end_stream() {
        let what = "CONNECT has no body";
        let detail = RefusalDetail::ConnectWithBody;
        return Err(Refusal::Target(target::Error::Malformed(detail, what)));
    }
    let Target { host, port, .. } = *target;
    let is_open = port == 80 || proxy.authority.is_some();
    if is_open && proxy.routes.is_provider(host, port) {
        // The requests in it count, not the tunnel itself.
        request.release_permit();
        let permit = proxy.process_state.tunnels.clone().try_acquire_owned();
        let permit = permit.map_err(|_full| Refusal::Limit(Limit::Tunnels))?;
        let inside = TunnelContext::new(caller.name, host, port);
        return Ok(TunnelTarget::ToProvider(inside, permit));
    }
    let not_intercepted = match proxy.routes.owner_of_token_host(host) {
        Some(owner) => Some((owner, tunnel_target::Error::TokenHost)),
        None => (proxy.routes.provider_at_any_port(host))
            .map(|owner| (owner, tunnel_target::Error::NotIntercepted)),
    };
    if let Some((provider, error)) = not_intercepted {
        if proxy.authority.is_some() {
            return Err(proxy.unknown_host(host, caller, request));
        }
        request.count_for(&proxy.upstreams[provider.index].series);
        return Err(Refusal::Tunnel(error));
    }
    let listed = proxy.passthrough.as_ref().and_then(|passthrough| {
        let rule = passthrough.rule(host, port, caller.name)?;
        Some((passthrough, rule))
    });
    let (passthrough, rule) = listed.ok_or_else(|| proxy.unknown_host(host, caller, request))?;
    request.record.set_passthrough(&rule.name);
    let since = Instant::now();
    let connected = passthrough.connect(host, port).await;
    request.record.attempts.add_upstream(since.elapsed());
    let (stream, peer, permit) = connected?;
    request.record.attempts.set_peer(Some(&peer));
    // A tunnel is one of its caller's connections, and may rest for long.
    request.release_permit();
    Ok(TunnelTarget::Away(Box::new(stream), permit))
}
