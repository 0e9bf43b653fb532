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
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(super) fn run(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let output = || args.output.display().to_string();
    create_directory(&args.output).with_context(output)?;
    let command = Cli::command().disable_help_subcommand(true);
    let mut built = command.clone();
    built.build();
    let pages = pages(&built);
    let replaced = pages
        .iter()
        .filter(|page| args.output.join(page).exists())
        .count();
    clap_mangen::generate_to(command, &args.output).with_context(output)?;
    let pages = count(pages.len(), "page");
    if replaced > 0 {
        let earlier = count(replaced, "earlier page");
        status!("wrote {pages} to {}; replaced {earlier}", output());
    } else {
        status!("wrote {pages} to {}", output());
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the file names of the pages of a built command and its subcommands.
fn pages(command: &clap::Command) -> Vec<String> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut found = vec![format!("{name}.1")];
    found.extend(command.get_subcommands().flat_map(pages));
    found
}
