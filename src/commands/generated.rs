//! What is generated from the command line and the configuration's types: schema, completions, man pages.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::Resettable;
use clap::{Arg, ArgAction, Args, Command};
use clap_complete::Shell;
use clap_mangen::Man as Page;

/// The JSON schema of the configuration file.
pub(crate) const SCHEMA: &str = include_str!("../../proxy.schema.json");

/// Arguments of `bursar completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,
}

/// Arguments of `bursar man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where the pages are written; it is made where it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Completions {
    /// The script.
    pub(crate) fn run(&self, mut command: Command) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "bursar", &mut script);
        script
    }
}

impl Man {
    /// Writes a page for each command.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub(crate) fn run(&self, command: Command) -> anyhow::Result<()> {
        let Self { directory } = self;
        write(command, directory)
            .with_context(|| format!("cannot write the pages to {}", directory.display()))
    }
}

fn write(command: Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_with_subcommands(command, directory)
}

/// As deep as there are commands of commands.
fn write_with_subcommands(command: Command, directory: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        write_with_subcommands(subcommand.clone(), directory)?;
    }
    let help = command.get_after_help().map(ToString::to_string);
    let many: Vec<String> = command.get_positionals().filter_map(given_often).collect();
    // Its own section would be one without a name.
    let page = Page::new(command.after_help(Resettable::Reset));
    let mut text = Vec::new();
    page.render(&mut text)?;
    let text = many.iter().fold(
        String::from_utf8_lossy(&text).into_owned(),
        // First in the synopsis.
        |text, name| text.replacen(name, &format!("{name}..."), 1),
    );
    let text = text + &sections(&help.unwrap_or_default());
    std::fs::write(directory.join(page.get_filename()), text)
}

/// The name of an argument that may be given several times, in italics; the page shows it as one.
fn given_often(argument: &Arg) -> Option<String> {
    let is_many = matches!(argument.get_action(), ArgAction::Append);
    let [name] = argument.get_value_names().filter(|_| is_many)? else {
        return None;
    };
    Some(format!("\\fI{name}\\fR"))
}

/// Sections of a page, of what stands after the options in `--help`: a title, then on each line a term and what it means.
fn sections(help: &str) -> String {
    let lines = help.lines().map(|line| match line.split_once("  ") {
        Some(("", rest)) => {
            let (term, meaning) = rest.split_once("  ").unwrap_or((rest, ""));
            let (term, meaning) = (escaped(term), escaped(meaning.trim_start()));
            format!(".TP\n\\fB{term}\\fR\n{meaning}\n")
        }
        _ if line.is_empty() => String::new(),
        _ => format!(".SH \"{}\"\n", line.trim_end_matches(':').to_uppercase()),
    });
    lines.collect()
}

/// No line begins with a request, and no character with an escape.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}
