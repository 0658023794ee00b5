//! `bursar check`: what it says of a configuration without problems.

use std::fmt::Write as _;

use bursar_config::Config;

/// The configuration in a few lines.
#[must_use]
pub(crate) fn summary(config: &Config) -> String {
    let mut text = String::from("The configuration is good.\n");
    for provider in &config.providers {
        let hosts: Vec<String> = provider.hosts.iter().map(ToString::to_string).collect();
        let environment = provider
            .environment
            .map(|environment| format!(" ({})", environment.as_str()));
        let environment = environment.unwrap_or_default();
        // Writing to a String cannot fail.
        let written = writeln!(
            text,
            "  {}{environment}: {}",
            provider.name,
            hosts.join(", ")
        );
        debug_assert!(written.is_ok());
    }
    text
}
