//! `purify completions` and `purify man`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap_complete::Shell;
use clap_mangen::Man;
use ebm_common::files::write_atomically;
use ebm_common::target::{Existing, Target};

use crate::arguments::{Arguments, ManArguments};

pub fn completions(shell: Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command_line(), "purify", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub fn man(arguments: &ManArguments) -> Result<ExitCode> {
    let mut command = Arguments::command_line().disable_help_subcommand(true);
    command.build();
    let commands = std::iter::once(&command).chain(command.get_subcommands());
    let pages: Vec<Man> = commands.map(|command| Man::new(command.clone())).collect();
    let Some(folder) = &arguments.output else {
        let mut text = Vec::new();
        for page in &pages {
            page.render(&mut text)?;
        }
        std::io::stdout().lock().write_all(&text)?;
        return Ok(ExitCode::SUCCESS);
    };
    let unwritable = || format!("`{}`: the pages cannot be written", folder.display());
    std::fs::create_dir_all(folder).with_context(unwritable)?;
    let paths = pages.iter().map(|page| folder.join(page.get_filename()));
    let paths: Vec<PathBuf> = paths.collect();
    for path in &paths {
        let target = Target {
            option: "-o",
            path,
            existing: Existing::of(arguments.force),
        };
        target.check([], None)?;
    }
    for (page, path) in pages.iter().zip(&paths) {
        let mut text = Vec::new();
        page.render(&mut text)?;
        write_atomically(path, &text).with_context(unwritable)?;
    }
    Ok(ExitCode::SUCCESS)
}
