//! What `bursar check` says of files and secrets that cannot work.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Shown, normalised};
use crate::support::acme;
use crate::support::program::{Said, run_in};

/// What is written, and what it is that is wrong.
struct Case {
    title: &'static str,
    bytes: Vec<u8>,
}

fn good() -> String {
    acme(
        "https://api.acme.example",
        "https://login.acme.example/token",
        "",
    )
}

fn replaced(title: &'static str, from: &str, to: &str) -> Case {
    let text = good();
    assert!(text.contains(from), "{from}");
    Case {
        title,
        bytes: text.replace(from, to).into_bytes(),
    }
}

/// With another line at its top.
fn first(line: &'static str) -> Case {
    titled(line, line)
}

fn titled(title: &'static str, line: &str) -> Case {
    let bytes = format!("{line}\n{}", good()).into_bytes();
    Case { title, bytes }
}

fn whole(title: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    let bytes = bytes.into();
    Case { title, bytes }
}

fn files() -> Vec<Case> {
    let utf16 = good()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect::<Vec<u8>>();
    vec![
        whole("an empty file", ""),
        whole("a list at the top", "- listen: 127.0.0.1:3128\n"),
        whole(
            "UTF-16, as PowerShell writes it",
            [b"\xff\xfe".to_vec(), utf16].concat(),
        ),
        whole(
            "Latin-1",
            [b"# caf\xe9\n".to_vec(), good().into_bytes()].concat(),
        ),
        first("listen: 3128"),
        first("listen: :3128"),
        first("listen: localhost:3128"),
        first("drain_timeout: 30"),
        first("admin: 127.0.0.1:3128"),
        replaced("client_secrt: …", "client_secret:", "client_secrt:"),
        titled("client_secret: …, at the top", "client_secret: abc"),
        titled(
            "allow: payu",
            "callers: {shop: {password: caller-s3cret+7731/, allow: payu}}",
        ),
        first("listen: ${FILE:/run/listen}"),
        first("listen: ${BURSAR_TEST_UNSET}"),
    ]
}

fn secrets() -> Vec<Case> {
    let secret = |title: &'static str, value: &str| {
        replaced(
            title,
            "client_secret: s3cret+of/acme=",
            &format!("client_secret: {value}"),
        )
    };
    vec![
        secret("a line break at the end", "\"s3cret+of/acme=\\n\""),
        secret("a space before it", "' s3cret+of/acme='"),
        secret("$ACME_SECRET", "$ACME_SECRET"),
        secret("{{ acme_secret }}", "'{{ acme_secret }}'"),
        secret("<your secret>", "<your secret>"),
        secret("changeme", "changeme"),
        secret("quotes inside of quotes", "'\"s3cret+of/acme=\"'"),
        secret("a letter that is not ASCII", "s3cret+of/acme=é"),
    ]
}

pub(super) async fn all() -> Vec<Shown> {
    let mut all = Vec::new();
    for (name, cases) in [("files", files()), ("secrets", secrets())] {
        let (mut block, mut printed) = (String::new(), String::new());
        let directory = tempfile::tempdir().unwrap();
        for case in cases {
            let file = directory.path().join("proxy.yaml");
            std::fs::write(&file, case.bytes).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            let said = checked(directory.path(), &["check"]).await;
            let text = [&*said.out, &*said.error].concat();
            block.push_str(&format!("# {}\n", case.title));
            for line in problems(&text) {
                block.push_str(&normalised(line, directory.path()));
                block.push('\n');
            }
            printed.push_str(&text);
        }
        all.push(Shown {
            name,
            block: Some(block),
            printed,
        });
    }
    let directory = tempfile::tempdir().unwrap();
    let said = checked(directory.path(), &["check"]).await;
    all.push(shown("no_file", &said, directory.path()));
    all.push(start_failed().await);
    all
}

/// What is said of problems, without what was read and how it ended.
fn problems(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("proxy.yaml"))
}

async fn checked(directory: &Path, arguments: &[&str]) -> Said {
    run_in(directory, arguments, &[("RUST_LOG", "trace")]).await
}

fn shown(name: &'static str, said: &Said, directory: &Path) -> Shown {
    let printed = [&*said.out, &*said.error].concat();
    Shown {
        name,
        block: Some(normalised(&printed, directory)),
        printed,
    }
}

/// A file with a problem, at the start: it is JSON where the log is.
async fn start_failed() -> Shown {
    let directory = tempfile::tempdir().unwrap();
    let text = good().replace("client_secret:", "client_secrt:");
    std::fs::write(directory.path().join("proxy.yaml"), text).unwrap();
    let said = run_in(directory.path(), &["run"], &[("RUST_LOG", "info")]).await;
    assert_eq!(said.code, Some(2), "{said:?}");
    let lines = said.error.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("{}\n", super::places::shortened(&line))
    });
    let block: String = lines.collect();
    Shown {
        name: "start_failed",
        block: Some(normalised(&block, directory.path())),
        printed: said.error,
    }
}
