//! Hosts that a preset has for a few of their paths: who names one in the file has it.
//!
//! A file that named such a host before the preset did goes on meaning the same.

use super::value::host;
use crate::diagnostic::Diagnostics;
use crate::file;
use crate::host::Host;
use crate::provider::Provider;

/// Takes hosts that presets have for a few paths away from those providers, where others name them.
pub(super) fn yield_to_named(providers: &mut [Provider], passthrough: &[file::Passthrough]) {
    // What is wrong with them is said where they are read.
    let passed = passthrough.iter().filter_map(|entry| entry.host.as_ref());
    let passed = passed.filter_map(|text| host(text, "", &mut Diagnostics::default()));
    let mut named: Vec<Host> = passed.collect();
    for provider in &*providers {
        let hosts = provider.hosts.iter().zip(&provider.known);
        let own = hosts.filter(|(_, known)| known.paths.is_none());
        named.extend(own.map(|(host, _)| host.clone()));
    }
    for provider in providers {
        let hosts = std::mem::take(&mut provider.hosts).into_iter();
        let kept = hosts.zip(std::mem::take(&mut provider.known));
        let kept = kept.filter(|(host, known)| {
            known.paths.is_none() || !named.iter().any(|named| named.overlaps(host))
        });
        (provider.hosts, provider.known) = kept.unzip();
    }
}
