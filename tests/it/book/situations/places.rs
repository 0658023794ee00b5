//! The places where a situation is told: the caller's response, the access line, warnings, `/status` and
//! `bursar check --live`.

use std::any::Any;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Map, Value};
use tempfile::TempDir;

use super::{ADMIN_TOKEN, Shown, normalised};
use crate::support::caller::Caller;
use crate::support::metrics::Scrape;
use crate::support::program::{Said, run_by, run_in};
use crate::support::proxy::Program;
use crate::support::raw::{Message, Raw};
use crate::support::upstream::full;
use crate::support::{PATIENCE, becomes_true, eventually};

/// A situation to be made.
pub(super) struct Situation {
    pub(super) name: &'static str,
    pub(super) directory: TempDir,
    pub(super) yaml: String,
    /// As it stands on the wire.
    pub(super) request: String,
    /// A request that is under way meanwhile and is not answered.
    pub(super) under_way: Option<String>,
    /// What is answered first on the same connection.
    pub(super) first: Option<String>,
    /// Whether the caller does not wait for the response.
    pub(super) leaves: bool,
    /// What the log has said as well before it is looked at.
    pub(super) awaited: &'static str,
    /// Sent again until that is the reason of the response.
    pub(super) until: Option<&'static str>,
    /// Commands of operators before it.
    pub(super) before: &'static [&'static [&'static str]],
    /// Whether `check --live` is asked.
    pub(super) is_live: bool,
    /// Whether what is in doubt is listed after it.
    pub(super) is_listed: bool,
    /// A command of a shell before the program, in which `"$@"` stands for it, and what tells whether that works here.
    pub(super) shell: Option<String>,
    /// What it takes on this machine.
    pub(super) is_possible: bool,
    /// What stays up until it is over.
    pub(super) peers: Vec<Box<dyn Any>>,
}

/// Fields of an access line that matter, where they are not null.
const LINE: [&str; 11] = [
    "level",
    "caller",
    "claimed_caller",
    "client",
    "host",
    "status",
    "reason",
    "detail",
    "cause",
    "upstream_host",
    "reference",
];

impl Situation {
    pub(super) fn new(name: &'static str, yaml: String) -> Self {
        Self {
            name,
            directory: tempfile::tempdir().unwrap(),
            yaml,
            request: get("api.test/a"),
            under_way: None,
            first: None,
            leaves: false,
            awaited: "",
            until: None,
            before: &[],
            is_live: true,
            is_listed: false,
            shell: None,
            is_possible: true,
            peers: Vec::new(),
        }
    }

    pub(super) fn asking(self, request: String) -> Self {
        Self { request, ..self }
    }

    pub(super) fn until(self, reason: &'static str) -> Self {
        Self {
            until: Some(reason),
            ..self
        }
    }

    pub(super) fn with(mut self, peer: impl Any) -> Self {
        self.peers.push(Box::new(peer));
        self
    }

    pub(super) async fn shown(self) -> Shown {
        if !self.is_possible {
            return Shown {
                name: self.name,
                block: None,
                printed: String::new(),
            };
        }
        let path = self.directory.path();
        let file = path.join("proxy.yaml");
        let yaml = crate::support::program::with_ports(&self.yaml);
        std::fs::write(&file, yaml).unwrap();
        // Else a secret in it is warned about.
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let (program, response) = self.begun(&file).await;
        let own = program.listen.ip().to_string();
        let lines = self.written(&program, response.as_ref()).await;
        let mut block = response_text(response.as_ref());
        let head = response.map(|response| response.head);
        let mut printed = format!("{}{block}", head.unwrap_or_default());
        block.push_str(&lines);
        block.push_str(&status_text(&program.json("/status").await));
        if self.is_live {
            let live = self.by_shell(&["check", "--live"]).await;
            printed.push_str(&format!("{}{}", live.out, live.error));
            block.push_str(&live_text(&live));
        }
        if self.is_listed {
            let listed = self.command(&["outcomes", "--json"]).await;
            printed.push_str(&listed.out);
            block.push_str(&outcomes_text(&listed));
        }
        printed.push_str(&program.logged());
        Shown {
            name: self.name,
            block: Some(normalised(&block.replace(&own, "127.0.0.1"), path)),
            printed,
        }
    }

    fn launch(&self) -> crate::support::program::Launch {
        use crate::support::program::{Launch, path};
        let Some(shell) = &self.shell else {
            return Launch::default();
        };
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", shell, "sh"]).arg(path());
        Launch::by(command)
    }

    async fn command(&self, arguments: &[&str]) -> Said {
        run_in(self.directory.path(), arguments, &ENVIRONMENT).await
    }

    /// The same where the program runs.
    async fn by_shell(&self, arguments: &[&str]) -> Said {
        match &self.shell {
            Some(shell) => run_by(shell, self.directory.path(), arguments, &ENVIRONMENT).await,
            None => self.command(arguments).await,
        }
    }

    /// The program, and its response; None: the caller did not wait for it. What holds for a moment after a start may be
    /// over before the request comes; then there is another one.
    async fn begun(&self, file: &Path) -> (Program, Option<Message>) {
        for _ in 0..5 {
            let program = self.launch().rust_log("trace").run(file).await;
            for command in self.before {
                let at = ["--admin", &program.admin.to_string()];
                let said = self.command(&[command, &at[..]].concat()).await;
                assert_eq!(said.code, Some(0), "{said:?}");
            }
            let mut waiting = Raw::connect(program.listen).await;
            if let Some(request) = &self.under_way {
                waiting.write(request).await;
                is_under_way(&program).await;
            }
            if self.leaves {
                // Over HTTP/1.1 a request is seen through.
                let mut leaving = Caller::connect_http2(program.listen).await;
                let asked = http::Request::get("http://api.test/a")
                    .body(full(""))
                    .unwrap();
                tokio::select! {
                    _ = leaving.begin(asked) => panic!("it is answered"),
                    () = is_under_way(&program) => return (program, None),
                }
            }
            if let Some(response) = self.asked(&program).await {
                return (program, Some(response));
            }
        }
        panic!("{}: it is not refused for that", self.name);
    }

    async fn asked(&self, program: &Program) -> Option<Message> {
        for _ in 0..400 {
            let mut raw = Raw::connect(program.listen).await;
            if let Some(first) = &self.first {
                raw.ask(first).await;
            }
            let response = raw.ask(&self.request).await;
            let is_it = |reason: &str| response.text().contains(&format!("\"{reason}\""));
            if self.until.is_none_or(is_it) {
                return Some(response);
            }
        }
        None
    }

    /// The last access line of Bursar's own responses, and the warnings.
    async fn written(&self, program: &Program, response: Option<&Message>) -> String {
        let lines = || -> Vec<Value> {
            let logged = program.logged();
            let lines = logged.lines().map(serde_json::from_str);
            lines.map(Result::unwrap_or_default).collect()
        };
        let id = response.and_then(|response| response.field("bursar-request-id"));
        // A loop's is of the request that came back.
        let is_it = |line: &Value| match id {
            Some(id) => line["reason"] == "loop" || line["request_id"] == id,
            None => line["reason"] == "caller_left",
        };
        let access = |line: &Value| {
            line["target"] == "bursar::access" && !line["reason"].is_null() && is_it(line)
        };
        let is_written = becomes_true(PATIENCE, async || {
            lines().iter().any(access) && program.logged().contains(self.awaited)
        });
        let is_written = is_written.await;
        assert!(is_written, "{}: {response:?}", self.name);
        let lines = lines();
        let last = lines.iter().rev().find(|line| access(line)).unwrap();
        let mut text = access_text(last);
        let mut said = Vec::new();
        for line in lines.iter().filter(|line| is_warning(line)) {
            let line = shortened(line);
            if !said.contains(&line) {
                text.push_str(&format!("log          {line}\n"));
                said.push(line);
            }
        }
        text
    }
}

/// Where commands run.
const ENVIRONMENT: [(&str, &str); 2] = [("BURSAR_ADMIN_TOKEN", ADMIN_TOKEN), ("RUST_LOG", "trace")];

/// Until a request waits for its provider.
async fn is_under_way(program: &Program) {
    let count = async || {
        let scrape = Scrape::of(program.admin).await;
        scrape.value("bursar_requests_in_flight", &[])
    };
    eventually(|| async { count().await > 0.0 }).await;
}

pub(super) fn access_text(line: &Value) -> String {
    format!("access line  {}\n", picked(line, &LINE))
}

/// What depends on the machine, and on how often the token endpoint was asked before the request came.
const LEFT_OUT: [&str; 3] = [
    "too few files",
    "the token endpoint fails; calls are held",
    "what the fleet has frozen cannot be read",
];

/// Whether it is a warning that is said each time.
fn is_warning(line: &Value) -> bool {
    let is_grave = line["level"] == "WARN" || line["level"] == "ERROR";
    let message = line["message"].as_str().unwrap_or_default();
    let is_left_out = LEFT_OUT.iter().any(|begin| message.starts_with(begin));
    is_grave && line["target"] != "bursar::access" && !is_left_out
}

fn picked(line: &Value, names: &[&str]) -> Value {
    let picked = names.iter().filter_map(|name| {
        let value = line.get(*name).filter(|value| !value.is_null())?;
        Some(((*name).to_owned(), value.clone()))
    });
    picked.collect::<Map<_, _>>().into()
}

/// Without when and where in the program it was said, and the user of this machine.
pub(super) fn shortened(line: &Value) -> Value {
    let fields = line.as_object().unwrap().iter();
    let kept = fields.filter(|(name, value)| {
        !matches!(
            &***name,
            "timestamp" | "target" | "by" | "request_id" | "retry_in_ms"
        ) && !value.is_null()
    });
    let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
    kept.collect::<Map<_, _>>().into()
}

pub(super) fn response_text(response: Option<&Message>) -> String {
    let Some(response) = response else {
        return "caller       (has left)\n".to_owned();
    };
    let problem: Value = serde_json::from_str(response.text()).unwrap_or_default();
    let mut text = format!("caller       {}\n", response.start());
    if problem["reason"].is_string() {
        let problem = picked(&problem, &["reason", "request_sent", "detail"]);
        text.push_str(&format!("             {problem}\n"));
    }
    text
}

/// The servers and tokens that are not well, and what is frozen.
fn status_text(status: &Value) -> String {
    let mut text = String::new();
    let mut add =
        |what: &str, value: Value| text.push_str(&format!("/status      {what}: {value}\n"));
    for server in status["upstreams"].as_array().into_iter().flatten() {
        if server["healthy"] == false {
            add(
                "upstreams",
                picked(server, &["provider", "host", "healthy", "cause"]),
            );
        }
    }
    for token in status["tokens"].as_array().into_iter().flatten() {
        if token["last_error"].is_string() {
            add(
                "tokens",
                picked(token, &["provider", "account", "last_error"]),
            );
        }
    }
    text
}

fn live_text(said: &Said) -> String {
    let all = [&*said.out, &*said.error].concat();
    let failed = all.lines().filter(|line| line.contains("FAILED"));
    failed
        .map(|line| format!("check --live {}\n", line.trim()))
        .collect()
}

fn outcomes_text(said: &Said) -> String {
    let all: Value = serde_json::from_str(&said.out).unwrap_or_default();
    let rows = all.as_array().or_else(|| all["outcomes"].as_array());
    let rows = rows.into_iter().flatten().map(|row| {
        let names = [
            "request_id",
            "provider",
            "method",
            "path",
            "phase",
            "reference",
        ];
        format!("outcomes     {}\n", picked(row, &names))
    });
    rows.collect()
}

/// A request in absolute form.
pub(super) fn get(target: &str) -> String {
    request("GET", target, "")
}

/// The same with further fields, each with its end.
pub(super) fn request(method: &str, target: &str, fields: &str) -> String {
    format!("{method} http://{target} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 0\r\n\r\n")
}

/// A directory with an authority.
pub(super) fn authority(situation: &Situation) -> crate::support::tls::Authority {
    let authority = crate::support::tls::Authority::new();
    authority.write(&situation.directory.path().join("ca.pem"));
    authority
}
