//! The fuzz targets' corpora, and a few thousand inputs that are the same each time.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bursar_http::framing::Framing;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

#[path = "../../fuzz/targets.rs"]
mod targets;

/// Runs a target with its corpus, with changes of that, and with anything.
fn run(name: &str, cases: u32, target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut seeds = Vec::new();
    for file in std::fs::read_dir(corpus.join(name)).unwrap() {
        seeds.push(std::fs::read(file.unwrap().path()).unwrap());
    }
    assert!(!seeds.is_empty());
    seeds.sort();
    seeds.iter().for_each(|seed| target(seed));
    let spots = prop::collection::vec((any::<usize>(), any::<u8>()), 1..6);
    let seed = prop::sample::select(seeds);
    let changed = (seed, spots, any::<bool>()).prop_map(|(mut seed, spots, replace)| {
        for (at, byte) in spots {
            let at = at % (seed.len() + 1);
            let end = (at + usize::from(replace)).min(seed.len());
            seed.splice(at..end, [byte]);
        }
        seed
    });
    let anything = prop::collection::vec(any::<u8>(), 0..96);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let outcome = runner.run(&prop_oneof![3 => changed, 1 => anything], |data| {
        target(&data);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn no_spelling_of_the_token_endpoint_is_ever_routed() {
    run("target", 8000, targets::target);
}

#[test]
fn no_configuration_panics_or_has_its_secrets_repeated() {
    run("config", 3000, targets::config);
}

#[test]
fn no_token_reply_panics_or_yields_a_token_that_no_header_can_hold() {
    run("reply", 8000, targets::reply);
}

#[test]
fn every_spelling_and_carrier_of_an_address_is_judged_as_the_address() {
    run("address", 8000, targets::address);
}

#[test]
fn framing_is_judged_the_same_however_the_bytes_are_split() {
    run("framing", 8000, targets::framing);
}

#[test]
fn no_answer_that_came_whole_is_lost_and_what_is_read_of_any_has_one_meaning() {
    run("response", 3000, targets::response);
}

#[test]
fn no_request_begins_for_hyper_where_none_begins_for_us() {
    run("framing", 4000, |data| {
        agree(data.get(1..).unwrap_or_default())
    });
}

/// Bytes that hyper and the framing read at the same time, one by one: so each must see a head end with
/// the same byte.
struct Bytewise<'a> {
    bytes: &'a [u8],
    framing: Rc<RefCell<Framing>>,
}

impl Read for Bytewise<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some((first, rest)) = self.bytes.split_at_checked(1) {
            if self.framing.borrow_mut().read(first).is_err() {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            buffer.put_slice(first);
            self.bytes = rest;
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Bytewise<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn agree(bytes: &[u8]) {
    let framing = Rc::new(RefCell::new(Framing::new()));
    let requests = RefCell::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        let doubt = framing.borrow().doubt();
        if doubt.is_none() {
            *requests.borrow_mut() += 1;
            assert_eq!(framing.borrow().heads(), *requests.borrow());
        }
        async {
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let stream = Bytewise {
        bytes,
        framing: framing.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let connection = http1::Builder::new()
        .half_close(true)
        .serve_connection(stream, service);
    let ended = runtime.unwrap().block_on(connection);
    let framing = framing.borrow();
    if ended.is_ok() && framing.doubt().is_none() {
        assert_eq!(framing.heads(), *requests.borrow());
    }
}
