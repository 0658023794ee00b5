//! Label values: enums, so that nothing from the wire can become one.

/// The provider's name where a request has none.
pub const NO_PROVIDER: &str = "none";

/// Makes an enum whose variants are label values.
macro_rules! labels {
    ($(#[$meta:meta])* $name:ident { $(#[doc = $doc:literal] $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $(#[doc = $doc] $variant,)+ }

        impl $name {
            /// Every value.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = [$(Self::$variant,)+].len();

            /// The label's value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What it means, for the documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc,)+ }
            }
        }
    };
}

labels! {
    /// Why Bursar itself answered.
    Reason {
        /// Malformed target or `Host`, conflicting lengths, ambiguous framing.
        BadRequest = "bad_request",
        /// No caller, or a wrong password.
        CallerUnauthenticated = "caller_unauthenticated",
        /// Too many requests of one caller.
        CallerLimitExceeded = "caller_limit_exceeded",
        /// A host that no provider has.
        DestinationNotAllowed = "destination_not_allowed",
        /// A path outside the API's, or one that the caller may not use.
        RouteNotAllowed = "route_not_allowed",
        /// The route takes the caller's own token, and there is none.
        CallerTokenMissing = "caller_token_missing",
        /// A provider's own token, refresh or revoke path.
        TokenEndpointProtected = "token_endpoint_protected",
        /// `CONNECT` where it is not configured.
        ConnectNotAllowed = "connect_not_allowed",
        /// `TRACE`, or `CONNECT` to a path.
        MethodNotAllowed = "method_not_allowed",
        /// The caller was too slow.
        RequestTimeout = "request_timeout",
        /// The request target is too long.
        TargetTooLong = "target_too_long",
        /// Too many header fields, or too large ones.
        HeadersTooLarge = "headers_too_large",
        /// Inside a tunnel: another host than the tunnel's.
        Misdirected = "misdirected",
        /// No address of the provider's host may be connected to.
        AddressNotAllowed = "address_not_allowed",
        /// No connection to the provider.
        UpstreamUnreachable = "upstream_unreachable",
        /// The provider could not be reached lately; nothing was tried.
        UpstreamUnavailable = "upstream_unavailable",
        /// TLS to the provider failed.
        UpstreamTls = "upstream_tls",
        /// The provider's response was reset, cut off or garbled.
        UpstreamProtocol = "upstream_protocol",
        /// The token endpoint refuses the account.
        CredentialsRejected = "credentials_rejected",
        /// There is no token for now.
        TokenUnavailable = "token_unavailable",
        /// Too much at once.
        Overloaded = "overloaded",
        /// The journal cannot be written.
        JournalUnavailable = "journal_unavailable",
        /// Bursar is about to end.
        Draining = "draining",
        /// The provider is frozen.
        Frozen = "frozen",
        /// The provider took too long.
        UpstreamTimeout = "upstream_timeout",
        /// Our own `Via` came back.
        Loop = "loop",
        /// The caller left before there was a response.
        CallerLeft = "caller_left",
    }
}

labels! {
    /// Which of the meanings of a [`Reason`] it was, for the access line; a reason with one meaning has none.
    RefusalDetail {
        /// `Host` is missing.
        HostMissing = "host_missing",
        /// There is more than one `Host`.
        HostRepeated = "host_repeated",
        /// The host is none, or has a user name before it.
        HostInvalid = "host_invalid",
        /// `:authority` and `Host` differ.
        HostsDiffer = "hosts_differ",
        /// The target is no path, not ASCII, of another scheme, or a `CONNECT` without a port.
        TargetInvalid = "target_invalid",
        /// `CONNECT` came with a body.
        ConnectWithBody = "connect_with_body",
        /// The caller waits for a `100 Continue` that it gets over HTTP/1.1 only.
        Http1Required = "http1_required",
        /// `Content-Length` stands beside `Transfer-Encoding`.
        LengthBesideEncoding = "length_beside_encoding",
        /// Another transfer coding than `chunked`.
        TransferEncoding = "transfer_encoding",
        /// `Content-Length` is not one number.
        ContentLength = "content_length",
        /// A field that some server takes for `Content-Length` or `Transfer-Encoding`.
        DisguisedField = "disguised_field",
        /// A line of the head ends with LF alone.
        BareLf = "bare_lf",
        /// The target has a fragment.
        Fragment = "fragment",
        /// The chunks of the body are malformed.
        Chunks = "chunks",
        /// It is not clear where the request begins.
        OutOfStep = "out_of_step",
        /// The request's body broke off or is malformed.
        BodyBroken = "body_broken",
        /// The caller's own token is not one `Bearer` token.
        CallerTokenUnusable = "caller_token_unusable",
        /// What came through a tunnel is neither HTTP nor TLS.
        NoHttpInTunnel = "no_http_in_tunnel",
        /// The request has no name and password, and neither address nor certificate stands for a caller.
        CredentialsMissing = "credentials_missing",
        /// They are repeated, or not `Basic` with a name and a password.
        CredentialsMalformed = "credentials_malformed",
        /// No caller has that name.
        CallerUnknown = "caller_unknown",
        /// The name is a caller's, whose the password is not.
        PasswordWrong = "password_wrong",
        /// The name is a caller's, who does not call from that address or with that certificate.
        NotFromThere = "not_from_there",
        /// Since the tunnel was opened a reload has changed its caller, or its certificate has expired.
        TunnelOutdated = "tunnel_outdated",
        /// Too many requests at once.
        InFlight = "in_flight",
        /// Too many requests in a second.
        PerSecond = "per_second",
        /// Too many connections.
        Connections = "connections",
        /// Nobody has the host.
        HostUnknown = "host_unknown",
        /// Some provider has the host, at another port.
        OtherPort = "other_port",
        /// The host belongs to the other environment of a preset.
        OtherEnvironment = "other_environment",
        /// A provider's tokens come from the host.
        TokenHost = "token_host",
        /// The path is not one of the API's.
        OutsidePaths = "outside_paths",
        /// Not in `allow` of the caller.
        NotInAllow = "not_in_allow",
        /// The account that `Bursar-Account` names is not one that the caller may use.
        AccountNotAllowed = "account_not_allowed",
        /// There are several accounts, and none is named.
        AccountMissing = "account_missing",
        /// No route matches, so the scopes are unknown.
        ScopesUnknown = "scopes_unknown",
        /// Servers may read the path in different ways.
        PathAmbiguous = "path_ambiguous",
        /// TLS to the provider is not intercepted.
        NotIntercepted = "not_intercepted",
        /// A tunnel inside of a tunnel.
        NestedTunnel = "nested_tunnel",
        /// TLS came through a tunnel for plain HTTP.
        TlsInTunnel = "tls_in_tunnel",
        /// `TRACE`, or the same by another name.
        Trace = "trace",
        /// `CONNECT` to something that is no host, or not in capitals.
        ConnectTarget = "connect_target",
        /// The request's body did not come.
        BodyTimeout = "body_timeout",
        /// The caller did not read the response.
        WriteTimeout = "write_timeout",
        /// The caller left before it had the whole response.
        ResponseUnread = "response_unread",
        /// The request is for another host than its tunnel.
        OtherHost = "other_host",
        /// The server name of its TLS is another one than its tunnel's.
        OtherServerName = "other_server_name",
        /// There is no connection.
        NoConnection = "no_connection",
        /// The parent proxy does not connect.
        ParentProxy = "parent_proxy",
        /// The connection was closed before anything was sent.
        ClosedUnsent = "closed_unsent",
        /// The handshake failed.
        Handshake = "handshake",
        /// The provider does not agree to HTTP/2.
        Http2Refused = "http2_refused",
        /// The provider said that it did not process the request.
        NotProcessed = "not_processed",
        /// The provider wants the request over HTTP/1.1.
        Http1Wanted = "http1_wanted",
        /// The connection broke, or what came was no HTTP, before a response had begun.
        Broken = "broken",
        /// TLS ended without close_notify.
        NoCloseNotify = "no_close_notify",
        /// The response broke off.
        CutOff = "cut_off",
        /// It was under way when `drain_timeout` was over or a second signal came.
        DrainTimeout = "drain_timeout",
        /// While connecting.
        Connecting = "connecting",
        /// The provider let no request begin on its connection.
        NotBegun = "not_begun",
        /// While waiting for the response's head.
        Waiting = "waiting",
        /// In the middle of the response.
        Stalled = "stalled",
        /// The token endpoint limits the rate of calls.
        RateLimited = "rate_limited",
        /// `token.calls_per_minute` is used up.
        QuotaExhausted = "quota_exhausted",
        /// The token endpoint fails, and is only probed.
        CircuitOpen = "circuit_open",
        /// Another instance of the fleet asks the token endpoint.
        FleetLease = "fleet_lease",
        /// The fleet's store cannot be used, and this instance has not obtained the last token since its start (`fleet.on_outage: hold`).
        FleetHold = "fleet_hold",
        /// Which providers the fleet has frozen is not known yet.
        NotKnownYet = "not_known_yet",
        /// It did not answer in time.
        TimedOut = "timed_out",
        /// No address of it is allowed.
        AddressNotAllowed = "address_not_allowed",
        /// It answered with an error.
        ErrorStatus = "error_status",
        /// It refuses the request itself: 400, 404, 405 or 415, and no word on the account.
        RequestRefused = "request_refused",
        /// What it answered with is no usable token.
        NoToken = "no_token",
        /// `limits.requests`.
        Requests = "requests",
        /// `limits.tunnels`.
        Tunnels = "tunnels",
        /// Too many passwords wait for their hashes.
        Passwords = "passwords",
        /// Too much of requests' bodies is kept in memory.
        ReplayMemory = "replay_memory",
    }
}

labels! {
    /// Which limit was reached; most are called as their key is.
    Limit {
        /// Callers' connections.
        Connections = "connections",
        /// Connections from one address that no caller is known on.
        UnknownConnections = "unknown_connections",
        /// Accepting a connection failed, mostly for lack of file descriptors.
        Accept = "accept",
        /// Connections at the admin port.
        AdminConnections = "admin_connections",
        /// Connections of one caller.
        CallerConnections = "caller_connections",
        /// Requests of one caller, at once or in a second.
        CallerRequests = "caller_requests",
        /// Requests at once.
        Requests = "requests",
        /// Tunnels, of either kind.
        Tunnels = "tunnels",
        /// HTTP/2 requests that were reset before anybody looked at them, and what else tires HTTP/2.
        Resets = "resets",
        /// Header fields: their number or their size.
        Headers = "headers",
        /// The request target.
        TargetSize = "target_size",
        /// A head that does not end.
        HeadTimeout = "head_timeout",
        /// A connection without a request.
        IdleTimeout = "idle_timeout",
        /// A request's body that does not come.
        BodyTimeout = "body_timeout",
        /// An answer that is not read.
        WriteTimeout = "write_timeout",
    }
}

labels! {
    /// What became of a request that moves money.
    PaymentOutcome {
        /// The whole response came, or a 401: then the provider did not act.
        Answered = "answered",
        /// The provider certainly did not process it.
        NotSent = "not_sent",
        /// Nobody knows.
        InDoubt = "in_doubt",
    }
}

labels! {
    /// Why the admin port refused a request.
    #[derive(Hash)]
    AdminRefusal {
        /// It did not show the `admin_token`.
        Token = "token",
        /// Its `Host` is none that the admin port has.
        Host = "host",
        /// A page of another origin sent it.
        Origin = "origin",
    }
}

labels! {
    /// What became of a provider's 401.
    Unauthorized {
        /// The caller never saw it.
        Absorbed = "absorbed",
        /// The caller got it.
        Surfaced = "surfaced",
    }
}

labels! {
    /// What became of the replay after a 401.
    Replay {
        /// It was answered, and not with 401.
        Ok = "ok",
        /// It was answered 401 again.
        UnauthorizedAgain = "unauthorized_again",
        /// It broke off, or could not be sent.
        Failed = "failed",
        /// More of the body was read than was kept.
        BodyTooLarge = "body_too_large",
        /// The provider handed out the same token again.
        TokenUnchanged = "token_unchanged",
        /// 401s renewed this token too often lately.
        TokenTooYoung = "token_too_young",
        /// No token could be had.
        TokenUnavailable = "token_unavailable",
        /// The provider said that another token would not help, or the route does not allow it.
        NotAllowed = "not_allowed",
    }
}

labels! {
    /// How a token was asked for.
    GrantLabel {
        /// With client id and secret.
        ClientCredentials = "client_credentials",
        /// With a refresh token.
        RefreshToken = "refresh_token",
    }
}

labels! {
    /// How a token call ended.
    FetchOutcome {
        /// With a new token.
        Ok = "ok",
        /// With the token that was there already.
        Unchanged = "unchanged",
        /// The account, or the refresh token, was refused.
        Rejected = "rejected",
        /// Fewer calls, please.
        RateLimited = "rate_limited",
        /// An error, a time-out, a broken connection.
        Unavailable = "unavailable",
        /// An answer that is no token.
        Malformed = "malformed",
    }
}

labels! {
    /// What became of an attempt to re-read the configuration.
    Reload {
        /// It is in force.
        Ok = "ok",
        /// It has problems, and nothing has changed.
        Rejected = "rejected",
    }
}

labels! {
    /// Why a connection to a server of a provider could not be had.
    #[derive(Hash)]
    Cause {
        /// Its name does not exist, or has no address.
        NameNotFound = "name_not_found",
        /// Nobody could say whether its name exists, or nobody in time.
        NameFailed = "name_failed",
        /// `egress` refuses all its addresses.
        AddressNotAllowed = "address_not_allowed",
        /// Nobody listens there.
        Refused = "refused",
        /// The network has no way there.
        Unreachable = "unreachable",
        /// It took too long, in the TLS handshake too.
        TimedOut = "timed_out",
        /// It broke the connection off, in the TLS handshake or before it took a request.
        Reset = "reset",
        /// The parent proxy cannot be reached, or does not connect.
        ParentProxy = "parent_proxy",
        /// Its certificate has expired.
        TlsExpired = "tls_expired",
        /// Its certificate is not valid yet.
        TlsNotYetValid = "tls_not_yet_valid",
        /// Nobody who is trusted has signed its certificate.
        TlsUnknownIssuer = "tls_unknown_issuer",
        /// Its certificate is for other names.
        TlsWrongName = "tls_wrong_name",
        /// Its certificate was revoked.
        TlsRevoked = "tls_revoked",
        /// It wants a client certificate, or another one.
        TlsClientCertificate = "tls_client_certificate",
        /// It speaks no version of TLS that is spoken here.
        TlsVersion = "tls_version",
        /// Something else went wrong with TLS.
        TlsOther = "tls_other",
    }
}

labels! {
    /// What a look at the fleet's store found.
    Lookup {
        /// The token that this instance has.
        Hit = "hit",
        /// Another token than this instance has.
        Newer = "newer",
        /// No token.
        Absent = "absent",
        /// A token that no key of this instance opens.
        Unreadable = "unreadable",
    }
}

labels! {
    /// What became of a lease of a token key.
    LeaseResult {
        /// This instance asks the token endpoint.
        Won = "won",
        /// Another instance does.
        Held = "held",
        /// The store could not be used.
        Error = "error",
        /// It had ended before its token came.
        Lost = "lost",
    }
}
