//! `trainer completions` and `trainer man`.

use std::fs;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use ebm_common::staged::write_whole;
use ebm_common::target::Existing;

use crate::cli::{Cli, ManArgs};
use crate::machine::console;
use crate::run::folder::expect_free;
use crate::run::stop::End;

/// `trainer completions`.
pub fn completions(shell: Shell) -> Result<End> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "trainer", &mut script);
    console::print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(End::Complete)
}

/// `trainer man`.
pub fn man(args: &ManArgs) -> Result<End> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        let (page, mut text) = (Man::new(command.clone()), Vec::new());
        page.render(&mut text)
            .context("cannot write a manual page")?;
        pages.push((page.get_filename(), text));
    }
    let Some(folder) = &args.output else {
        let text: Vec<u8> = pages.into_iter().flat_map(|(_, text)| text).collect();
        console::print(String::from_utf8_lossy(&text).trim_end())?;
        return Ok(End::Complete);
    };
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let existing = Existing::of(args.force);
    for (name, _) in &pages {
        expect_free(&folder.join(name), existing)?;
    }
    for (name, text) in &pages {
        write_whole(&folder.join(name), text)?;
    }
    Ok(End::Complete)
}
