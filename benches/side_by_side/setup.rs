//! The configuration of each peer, for the same work.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What a peer is set up for.
pub(crate) struct Setup {
    pub(crate) dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) token: SocketAddr,
    /// Where the proxy runs, as `taskset` writes it, and how many cores that is.
    pub(crate) cores: (String, usize),
    /// Hosts and accounts; none: one host.
    pub(crate) spread: Option<usize>,
    /// Hosts, each of a provider of its own, every other one over HTTP/2; none: one provider.
    pub(crate) providers: Option<usize>,
    /// Token calls are not held back, so that all accounts have one before anything is measured.
    pub(crate) hurried: bool,
    pub(crate) intercept: bool,
    /// Where the journal is, on a disk.
    pub(crate) journal: Option<PathBuf>,
    /// Whether the others write an access log too.
    pub(crate) logs: bool,
    /// The program.
    pub(crate) bursar: PathBuf,
}

impl Setup {
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Callers with passwords, routes with scopes, renewal, replays, metrics, an access log.
    pub(crate) fn bursar(&self) -> String {
        let (hosts, accounts) = match self.spread {
            None => (
                "api.bench.test".to_owned(),
                "client_id: i\n    client_secret: s".to_owned(),
            ),
            Some(count) => {
                let each = |text: &dyn Fn(usize) -> String| {
                    (0..count).map(text).collect::<Vec<_>>().join(", ")
                };
                let accounts = each(&|at| format!("a{at}: {{client_id: i{at}, client_secret: s}}"));
                (
                    each(&|at| format!("h{at}.bench.test")),
                    format!("accounts: {{{accounts}}}"),
                )
            }
        };
        let pace = if self.hurried {
            ", calls_per_minute: 1000000"
        } else {
            ""
        };
        let Self {
            listen,
            admin,
            api,
            token,
            ..
        } = self;
        let journal = self.journal.as_ref().map_or_else(String::new, |path| {
            format!("journal: {{path: {}}}\n", path.display())
        });
        let provider = |name: &str, hosts: &str, http: &str| {
            format!(
                "  {name}:\n    hosts: [{hosts}]\n    {accounts}\n    upstream: https://{api}\n    tls: {{ca: ca.pem}}\n{http}    \
                 token: {{url: \"http://{token}/token\", scopes: [payments]{pace}}}\n    \
                 routes:\n      - {{methods: [GET], path: \"/v1/payments/*\", scopes: [payments]}}\n      \
                 - {{methods: [POST], path: /v1/payments, scopes: [payments]}}\n      \
                 - {{methods: [POST], path: \"/v1/payments/*/refunds\", scopes: [refunds]}}\n"
            )
        };
        let (names, providers) = match self.providers {
            None => ("bench".to_owned(), provider("bench", &hosts, "")),
            Some(count) => {
                let names: Vec<String> = (0..count).map(|at| format!("bench{at}")).collect();
                let each = names.iter().enumerate().map(|(at, name)| {
                    let http = ["    http: \"1.1\"\n", ""][at % 2];
                    provider(name, &format!("h{at}.bench.test"), http)
                });
                (names.join(", "), each.collect())
            }
        };
        format!(
            "listen: {listen}\nadmin: {admin}\n{journal}callers: {{c: {{password: p, allow: [{names}]}}}}\nproviders:\n{providers}"
        )
    }

    pub(crate) fn nginx(&self) -> String {
        let Self {
            listen,
            api,
            cores: (_, workers),
            ..
        } = self;
        let log = if self.logs {
            "access.log combined buffer=64k flush=1s"
        } else {
            "off"
        };
        let mut tokens = "map $host $token { default \"Bearer fixed\";\n".to_owned();
        for at in 0..self.spread.unwrap_or(0) {
            tokens += &format!("  h{at}.bench.test \"Bearer fixed-{at}\";\n");
        }
        let token = if self.spread.is_some() {
            "$token"
        } else {
            "\"Bearer fixed\""
        };
        format!(
            "daemon off; pid nginx.pid; worker_processes {workers}; worker_rlimit_nofile 65536; error_log stderr warn;\n\
             events {{ worker_connections 32768; }}\n\
             http {{\n  access_log {log};\n  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n  \
             keepalive_requests 1000000000; client_max_body_size 0;\n  map_hash_max_size 65536; map_hash_bucket_size 128;\n  {tokens}  }}\n  \
             upstream api {{ server {api}; keepalive 1024; keepalive_requests 1000000000; }}\n  \
             server {{\n    listen {listen} backlog=4096;\n    location / {{\n      proxy_pass https://api; proxy_http_version 1.1;\n      \
             proxy_request_buffering off; proxy_max_temp_file_size 0;\n      proxy_set_header Connection \"\"; proxy_set_header Host {api};\n      \
             proxy_set_header Authorization {token}; proxy_set_header Proxy-Authorization \"\";\n      \
             proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca}; proxy_ssl_name api.bench.test; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;\n    \
             }}\n  }}\n}}\n",
            ca = self.path("ca.pem")
        )
    }

    pub(crate) fn haproxy(&self) -> anyhow::Result<String> {
        let Self {
            listen,
            api,
            cores: (_, threads),
            ..
        } = self;
        let log = if self.logs {
            "log stdout format raw local0 info\n  option httplog\n"
        } else {
            ""
        };
        let token = match self.spread {
            None => "fixed".to_owned(),
            Some(count) => {
                let lines: Vec<String> = (0..count)
                    .map(|at| format!("h{at}.bench.test fixed-{at}\n"))
                    .collect();
                std::fs::write(self.dir.join("tokens.map"), lines.concat())?;
                format!("%[req.hdr(host),map({})]", self.path("tokens.map"))
            }
        };
        Ok(format!(
            "global\n  nbthread {threads}\n  maxconn 20000\n  no strict-limits\n\
             defaults\n  mode http\n  {log}\n  option http-keep-alive\n  http-reuse always\n  \
             timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             frontend callers\n  bind {listen} backlog 4096\n  default_backend api\n\
             backend api\n  http-request del-header proxy-authorization\n  \
             http-request set-header authorization \"Bearer {token}\"\n  http-request set-header host {api}\n  \
             server api {api} ssl verify required ca-file {ca} sni str(api.bench.test) force-tlsv13\n",
            ca = self.path("ca.pem")
        ))
    }

    /// `credential_injector` with OAuth 2.0; with many accounts a fixed header for each host, because it knows one account.
    pub(crate) fn envoy(&self) -> String {
        let Self {
            listen, api, token, ..
        } = self;
        let route = "routes: [{match: {prefix: /}, route: {cluster: api, timeout: 0s}}]";
        let remove = "request_headers_to_remove: [proxy-authorization]";
        let hosts = match self.spread {
            None => format!("{{name: all, domains: [\"*\"], {remove}, {route}}}"),
            Some(count) => (0..count)
                .map(|at| format!(
                    "{{name: h{at}, domains: [h{at}.bench.test], {remove}, request_headers_to_add: [{{header: {{key: authorization, \
                     value: Bearer fixed-{at}}}}}], {route}}}"
                ))
                .collect::<Vec<_>>()
                .join(",\n"),
        };
        let injector = if self.spread.is_some() {
            String::new()
        } else {
            INJECTOR.replace("TOKEN", &token.to_string())
        };
        let log = if self.logs {
            format!(
                "access_log: [{{name: file, typed_config: {{\"@type\": {TYPE}extensions.access_loggers.file.v3.FileAccessLog, path: {}}}}}]",
                self.path("envoy-access.log")
            )
        } else {
            String::new()
        };
        ENVOY
            .replace("INJECTOR", &injector)
            .replace("ACCESS_LOG", &log)
            .replace("HOSTS", &hosts)
            .replace("LISTEN_PORT", &listen.port().to_string())
            .replace("API_PORT", &api.port().to_string())
            .replace("TOKEN_PORT", &token.port().to_string())
            .replace("CA_FILE", &self.path("ca.pem"))
            .replace("TYPE.", TYPE)
    }
}

const TYPE: &str = "type.googleapis.com/envoy.";

const INJECTOR: &str = r#"
          - name: envoy.filters.http.credential_injector
            typed_config:
              "@type": TYPE.extensions.filters.http.credential_injector.v3.CredentialInjector
              overwrite: true
              credential:
                name: envoy.http.injected_credentials.oauth2
                typed_config:
                  "@type": TYPE.extensions.http.injected_credentials.oauth2.v3.OAuth2
                  token_endpoint: {cluster: token, timeout: 5s, uri: "http://TOKEN/token"}
                  token_fetch_retry_interval: 1s
                  client_credentials:
                    client_id: i
                    client_secret: {name: secret}"#;

const ENVOY: &str = r#"
static_resources:
  secrets: [{name: secret, generic_secret: {secret: {inline_string: s}}}]
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: LISTEN_PORT}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": TYPE.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: callers
          generate_request_id: false
          ACCESS_LOG
          route_config:
            virtual_hosts: [HOSTS]
          http_filters:INJECTOR
          - name: envoy.filters.http.router
            typed_config: {"@type": TYPE.extensions.filters.http.router.v3.Router}
  clusters:
  - name: api
    type: STATIC
    circuit_breakers: {thresholds: [{max_connections: 20000, max_pending_requests: 20000, max_requests: 20000}]}
    load_assignment: {cluster_name: api, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: API_PORT}}}}]}]}
    transport_socket:
      name: tls
      typed_config:
        "@type": TYPE.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: api.bench.test
        common_tls_context:
          tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
          validation_context: {trusted_ca: {filename: CA_FILE}, match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: api.bench.test}}]}
  - name: token
    type: STATIC
    load_assignment: {cluster_name: token, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: TOKEN_PORT}}}}]}]}
"#;
