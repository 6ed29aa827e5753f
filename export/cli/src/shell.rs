//! `ebm-export completions` and `ebm-export man`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::output::check_output;
use crate::{Cli, print};
use ebm_common::staged::Staged;
use ebm_common::target::Existing;

/// Print the completions of a shell.
#[derive(Args)]
#[command(after_help = "Example:
  ebm-export completions bash > ~/.local/share/bash-completion/completions/ebm-export")]
pub struct CompletionArguments {
    /// The shell
    shell: Shell,
}

/// Print the manual pages, or write one file for each command.
#[derive(Args)]
#[command(after_help = "Examples:
  ebm-export man | man -l -
  ebm-export man -o ~/.local/share/man/man1")]
pub struct ManArguments {
    /// Folder to write into; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace pages that are there
    #[arg(long)]
    force: bool,
}

pub fn completions(arguments: &CompletionArguments) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "ebm-export",
        &mut script,
    );
    print(&String::from_utf8(script)?)
}

pub fn man(arguments: &ManArguments) -> Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let commands = std::iter::once(&command).chain(command.get_subcommands());
    let pages = commands.map(|command| page(&Man::new(command.clone())));
    let pages = pages.collect::<Result<Vec<_>>>()?;
    match &arguments.output {
        Some(folder) => write(folder, &pages, Existing::of(arguments.force)),
        None => print(&pages.into_iter().map(|(_, text)| text).collect::<String>()),
    }
}

/// Name and text of a page.
fn page(page: &Man) -> Result<(String, String)> {
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok((page.get_filename(), String::from_utf8(text)?))
}

fn write(folder: &Path, pages: &[(String, String)], existing: Existing) -> Result<()> {
    let mut staged = Staged::default();
    for (name, text) in pages {
        let path = folder.join(name);
        check_output(&path, existing)?;
        staged.write(&path, |file| file.write_all(text.as_bytes()))?;
    }
    Ok(staged.publish()?)
}
