//! The questions that the page on logs asks with jq, asked of real lines.

use super::*;
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, caller::basic};

const PAGE: &str = include_str!("../../../docs/src/operations/logs.md");

/// The code blocks of a language on the page.
fn blocks(language: &str) -> Vec<&'static str> {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .collect()
}

/// Lines of what each of the questions comes to, with single spaces.
async fn answers(directory: &std::path::Path) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for question in blocks("sh")
        .into_iter()
        .filter(|code| code.starts_with("jq "))
    {
        let output = within(
            question,
            command(&["sh", "-c", question])
                .current_dir(directory)
                .output(),
        );
        let output = output.await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && error.is_empty(),
            "{question}: {error}"
        );
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        all.push(lines.map(words).collect());
    }
    all
}

#[tokio::test]
async fn five_questions_are_answered_by_the_lines_as_they_are() {
    if !Needs::Jq.are_met().await {
        return;
    }
    let api = Upstream::start(|request| async move {
        if request.uri().path() == "/slow" {
            std::future::pending::<()>().await;
        }
        answer(200, "")
    });
    let (api, idp) = (api.await, Idp::counting().await);
    let callers = "callers: {shop: {password: correct-horse, allow: [acme]}}\n";
    let yaml = acme(&api.url(), &idp.url(), "timeouts: {head: 1200ms}");
    let proxy = Proxy::start(&format!("{callers}{yaml}")).await;
    let requests = [
        ("/x", "correct-horse", "Bursar-Reference: order-17\r\n"),
        ("/x", "guess-1", ""),
        ("/x", "guess-2", ""),
        ("http://nobody.test/x", "correct-horse", ""),
        ("/slow", "correct-horse", ""),
    ];
    for (target, password, field) in requests {
        let target = match target.starts_with('/') {
            true => format!("http://api.test{target}"),
            false => target.to_owned(),
        };
        let shown = basic("shop", password);
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {shown}\r\n{field}\r\n"
        );
        Raw::connect(proxy.listen).await.ask(request).await;
    }
    let lines = proxy.access_lines(requests.len()).await;
    let directory = tempfile::tempdir().unwrap();
    let other = r#"{"timestamp":"2026-11-20T16:00:05Z","level":"INFO","target":"bursar","message":"it listens"}"#;
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(
        directory.path().join("bursar.log"),
        format!("{other}\n{text}"),
    )
    .unwrap();
    let found = answers(directory.path()).await;
    let [guesses, order, refused, hosts, slow] = found.as_slice() else {
        panic!("{found:#?}");
    };
    assert_eq!(*guesses, ["2 127.0.0.1 shop password_wrong"]);
    let id = |at: usize| lines[at]["request_id"].as_str().unwrap();
    assert!(
        order.len() == 1 && order[0].contains(id(0)) && order[0].contains("\"status\":200"),
        "{order:?}"
    );
    let expected = [
        "2 anonymous none caller_unauthenticated password_wrong",
        "1 shop none destination_not_allowed host_unknown",
        "1 shop acme upstream_timeout waiting",
    ];
    let mut refused = refused.clone();
    refused.sort_unstable();
    let mut expected = expected.map(str::to_owned);
    expected.sort_unstable();
    assert_eq!(refused, expected);
    assert_eq!(*hosts, ["1 shop 127.0.0.1 nobody.test"]);
    assert!(slow.len() == 1 && slow[0].contains(id(4)), "{slow:?}");
}

#[tokio::test]
async fn the_line_that_the_page_shows_has_the_fields_of_a_real_one() {
    let rig = crate::support::Rig::start(|_| async { answer(200, "") }).await;
    rig.get("/x").await;
    let line = rig.proxy.access_lines(1).await.remove(0);
    let [shown] = blocks("json")[..] else {
        panic!("there is one line");
    };
    let shown: Value = serde_json::from_str(shown).unwrap();
    let names =
        |line: &Value| -> Vec<String> { line.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(names(&shown), names(&line));
}
