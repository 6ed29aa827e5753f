//! `purify completions` and `purify man`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments::{Arguments, ManArguments};

pub fn completions(shell: Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "purify", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub fn man(arguments: &ManArguments) -> Result<ExitCode> {
    match &arguments.output {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder))
                .with_context(|| format!("`{}`: the pages cannot be written", folder.display()))?;
        }
        None => {
            let mut command = Arguments::command().disable_help_subcommand(true);
            command.build();
            let mut pages = Vec::new();
            Man::new(command.clone()).render(&mut pages)?;
            for command in command.get_subcommands() {
                Man::new(command.clone()).render(&mut pages)?;
            }
            std::io::stdout().lock().write_all(&pages)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
