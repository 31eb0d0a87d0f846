//! Shell completions and manual pages, made from the command line's own definition.

use std::{fs, io::Write, path::PathBuf};

use clap::CommandFactory;

use crate::cli::{Cli, Failure, Output};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  redial completions bash > ~/.local/share/bash-completion/completions/redial")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Print the manual page, or write the pages of all commands to a folder
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// The folder, made if it is not there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn completions(args: &CompletionsArgs, out: &mut Output) -> Result<u8, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "redial", &mut text);
    out.write_all(&text)?;
    Ok(0)
}

pub(crate) fn man(args: &ManArgs, out: &mut Output) -> Result<u8, Failure> {
    match &args.out {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            out.write_all(&page)?;
        }
        Some(dir) => {
            let named = |error| Failure::usage(format!("{}: {error}", dir.display()));
            fs::create_dir_all(dir).map_err(named)?;
            clap_mangen::generate_to(Cli::command(), dir).map_err(named)?;
            writeln!(out, "wrote the manual pages to {}", dir.display())?;
        }
    }
    Ok(0)
}
