//! From `admin_hosts` to the names that the admin port is asked by.

use super::value::host;
use crate::diagnostic::Diagnostics;
use bursar_base::address::Spelling;

pub(super) fn compile(names: Option<Vec<String>>, problems: &mut Diagnostics) -> Vec<Box<str>> {
    let mut compiled = Vec::new();
    for (at, text) in names.unwrap_or_default().iter().enumerate() {
        let path = format!("admin_hosts[{at}]");
        // What it says of hosts of providers would say too much.
        let Some(host) = host(text, &path, &mut Diagnostics::default()) else {
            problems.add(&path, "is no name: write one such as `bursar.payments.svc`");
            continue;
        };
        if host.wildcard || host.port.is_some() {
            problems.add(
                &path,
                "must be one name without `*` and without a port; any port of it is meant",
            );
        } else if matches!(Spelling::of(&host.name), Spelling::Address(_)) {
            problems.add(
                &path,
                "is an address, which needs no entry; list names only",
            );
        } else {
            compiled.push(host.name);
        }
    }
    compiled
}
