//! `sedet completions`.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::{Cli, print_out};

const EXAMPLES: &str = "\
Examples:
  sedet completions bash > ~/.local/share/bash-completion/completions/sedet
  sedet completions zsh > ~/.zfunc/_sedet
  sedet completions fish > ~/.config/fish/completions/sedet.fish";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// Shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "sedet", &mut script);
    print_out(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
