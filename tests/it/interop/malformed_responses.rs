//! Callers that take no liberties, and providers that take all: http.client, Node and Go.

use super::*;
use crate::hostile_input::responses::{Fate, Fixture};

async fn every_answer_is_taken(program: &[&str]) {
    let fixture = Fixture::new().await;
    let listen = fixture.proxy.listen;
    let (host, port) = (listen.ip().to_string(), listen.port().to_string());
    let count = fixture.vectors.len().to_string();
    let lines = output(&[program, &[&host, &port, &count]].concat()).await;
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), fixture.vectors.len());
    let mut failures = Vec::new();
    for (line, vector) in lines.iter().zip(&fixture.vectors) {
        let got: Value = serde_json::from_str(line).unwrap();
        let (status, body) = (got["status"].as_u64(), got["body"].as_str());
        let is_right = match vector.fate {
            Fate::Whole(expected, text) => (status, body) == (Some(expected.into()), Some(text)),
            Fate::Doubtful => {
                status == Some(502) && body.is_some_and(|body| body.contains("\"maybe\""))
            }
        };
        if !is_right {
            failures.push(format!("{vector:?}: {line}\n"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.concat());
}

#[tokio::test]
async fn http_client_takes_what_goes_on_of_a_broken_answer() {
    if Needs::Python.are_met().await {
        every_answer_is_taken(&["python3", "answers.py"]).await;
    }
}

#[tokio::test]
async fn node_takes_what_goes_on_of_a_broken_answer() {
    if Needs::Node.are_met().await {
        every_answer_is_taken(&["node", "answers.mjs"]).await;
    }
}

#[tokio::test]
async fn go_takes_what_goes_on_of_a_broken_answer() {
    if Needs::Go.are_met().await {
        every_answer_is_taken(&["./go-caller", "--answers"]).await;
    }
}
