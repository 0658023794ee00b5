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
        /// The provider's answer was reset, cut off or garbled.
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
        /// It broke off.
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
