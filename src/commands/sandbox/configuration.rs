//! Configuration of a proxy in front of the emulated providers: the presets, with their endpoints moved to loopback.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bursar_sandbox::Provider;

use crate::commands::{ca, init};

/// The caller of `--callers`.
pub(super) const CALLER: &str = "shop";
/// Holds its password.
pub(super) const PASSWORD: &str = "SHOP_PASSWORD";
/// Holds the admin port's token.
pub(super) const ADMIN_TOKEN: &str = "BURSAR_ADMIN_TOKEN";

/// A name and its value, as in an environment.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
}

/// What changes with each start of the sandbox: where the providers are, what they take, and new secrets.
///
/// # Errors
/// Where the system has no random numbers.
pub(super) fn variables(providers: &[Provider]) -> anyhow::Result<Vec<Variable>> {
    let mut all = Vec::new();
    let mut add = |name: String, value: String| all.push(Variable { name, value });
    for Provider { dialect, address } in providers {
        let prefix = init::prefix(dialect.name).unwrap_or(dialect.name);
        add(format!("{prefix}_CLIENT_ID"), dialect.client_id.to_owned());
        add(
            format!("{prefix}_CLIENT_SECRET"),
            dialect.client_secret.to_owned(),
        );
        add(format!("{prefix}_URL"), format!("https://{address}"));
        add(
            format!("{prefix}_TOKEN_URL"),
            format!("https://{address}{}", dialect.token_path),
        );
        if let Some(path) = dialect.refresh_path {
            add(
                format!("{prefix}_REFRESH_URL"),
                format!("https://{address}{path}"),
            );
        }
    }
    add(ADMIN_TOKEN.to_owned(), random()?);
    // A configuration that an earlier start has left may have the caller.
    add(PASSWORD.to_owned(), random()?);
    Ok(all)
}

fn random() -> anyhow::Result<String> {
    let random = ring::rand::generate::<[u8; 16]>(&ring::rand::SystemRandom::new())
        .ok()
        .context("the system has no random numbers")?;
    Ok(format!("{:032x}", u128::from_be_bytes(random.expose())))
}

/// What a configuration has beside the providers.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) has_callers: bool,
    /// Its directory.
    pub(super) journal: Option<PathBuf>,
    /// The directory of the authority of interception.
    pub(super) intercept: Option<PathBuf>,
    /// The certificate of the authority that vouches for the providers.
    pub(super) certificate: PathBuf,
}

/// The certificate of the authority that vouches for the providers.
pub(super) const CERTIFICATE: &str = "ca.pem";
/// The directory of the authority of interception, beside the providers' one.
pub(super) const INTERCEPT: &str = "intercept";

/// The file's text. All that changes with a start stands in it as `${NAME}`.
pub(super) fn text(setup: &Setup, providers: &[Provider]) -> String {
    let mut text = format!(
        "listen: {}\nadmin: {}\nadmin_token: ${{{ADMIN_TOKEN}}}\n",
        address(setup.listen),
        address(setup.admin)
    );
    if setup.has_callers {
        let names: Vec<&str> = providers.iter().map(|it| it.dialect.name).collect();
        let names = names.join(", ");
        text += &format!(
            "\ncallers:\n  {CALLER}:\n    password: ${{{PASSWORD}}}\n    allow: [{names}]\n"
        );
    }
    if let Some(path) = &setup.journal {
        text += &format!("\njournal: {{path: {}}}\n", quoted(path));
    }
    if let Some(directory) = &setup.intercept {
        let [certificate, key] =
            [ca::CERTIFICATE, ca::KEY].map(|name| quoted(&directory.join(name)));
        text += &format!("\nintercept:\n  ca: {{certificate: {certificate}, key: {key}}}\n");
    }
    text += "\nproviders:\n";
    for provider in providers {
        add_provider(&mut text, provider, &setup.certificate);
    }
    text
}

/// Quoted where it would be a list to YAML.
fn address(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.to_string(),
        SocketAddr::V6(address) => format!("\"{address}\""),
    }
}

/// As JSON, whose strings are YAML's; no `${` in it is a reference.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string().replace("${", "$${");
    serde_json::json!(path).to_string()
}

fn add_provider(text: &mut String, Provider { dialect, .. }: &Provider, certificate: &Path) {
    let certificate = quoted(certificate);
    let name = dialect.name;
    let prefix = init::prefix(name).unwrap_or(name);
    let extra: String = dialect
        .extra_configuration
        .iter()
        .map(|(key, value)| format!("    {key}: \"{value}\"\n"))
        .collect();
    let refresh_url = match dialect.refresh_path {
        Some(_) => format!("      refresh_url: ${{{prefix}_REFRESH_URL}}\n"),
        None => String::new(),
    };
    let written = write!(
        text,
        "  {name}:
    preset: {name}
    environment: sandbox
    client_id: ${{{prefix}_CLIENT_ID}}
    client_secret: ${{{prefix}_CLIENT_SECRET}}
{extra}    upstream: ${{{prefix}_URL}}
    tls: {{ca: {certificate}}}
    token:
      url: ${{{prefix}_TOKEN_URL}}
{refresh_url}",
    );
    // Writing to a String cannot fail.
    debug_assert!(written.is_ok());
}

/// The text with each variable's value in it, for a proxy whose environment has none of them.
pub(super) fn filled_in(text: &str, variables: &[Variable]) -> String {
    variables.iter().fold(text.to_owned(), |text, variable| {
        text.replace(&format!("${{{}}}", variable.name), &variable.value)
    })
}
