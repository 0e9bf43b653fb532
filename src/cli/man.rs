//! `sedet man`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::{Cli, status};
use sedet_data::directory::create_directory;
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet man --output ~/.local/share/man/man1";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ManArgs {
    /// Directory for sedet.1 and one page per subcommand; pages of the same name are replaced
    #[arg(long)]
    output: PathBuf,
}

pub(super) fn run(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let output = || args.output.display().to_string();
    create_directory(&args.output).with_context(output)?;
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &args.output).with_context(output)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    status!("wrote {} to {}", count(pages(&command), "page"), output());
    Ok(ExitCode::SUCCESS)
}

/// Returns the number of pages of a command and its subcommands.
fn pages(command: &clap::Command) -> usize {
    1 + command.get_subcommands().map(pages).sum::<usize>()
}
