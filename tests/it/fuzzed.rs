//! The fuzz targets' corpora, and a few thousand inputs that are the same each time.

use std::path::Path;

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
