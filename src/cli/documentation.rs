//! Tests that guides and help texts agree with the command line.

use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser as _};

use super::Cli;

/// Width of a small terminal in columns.
const COLUMNS: usize = 80;

fn guides() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let mut files: Vec<PathBuf> = docs.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.push(root.join("README.md"));
    files.push(root.join("assets/README.md"));
    files.sort();
    files
}

/// Returns the arguments of each `$ sedet ...` and `$ cargo run ... -- ...` line.
fn commands(guide: &str) -> Vec<Vec<String>> {
    let joined = guide.replace("\\\n", " ");
    let commands = joined.lines().filter_map(|line| {
        let line = line.strip_prefix("$ ")?;
        let line = line.split(" #").next().unwrap_or(line);
        let line = line.split(" > ").next().unwrap_or(line);
        let arguments = match line.strip_prefix("sedet ") {
            Some(arguments) => arguments,
            None if line.starts_with("cargo run") && !line.contains("--example") => {
                line.split_once(" -- ")?.1
            }
            None => return None,
        };
        let words = arguments.split_whitespace();
        Some(words.map(|word| word.replace('\'', "")).collect())
    });
    commands.collect()
}

#[test]
fn every_command_of_the_guides_is_understood() {
    let mut count = 0;
    for path in guides() {
        for arguments in commands(&fs::read_to_string(&path).unwrap()) {
            if arguments[0] == "view" && !cfg!(feature = "viewer") {
                continue;
            }
            count += 1;
            let words = std::iter::once("sedet").chain(arguments.iter().map(String::as_str));
            if let Err(error) = Cli::try_parse_from(words) {
                let is_help = error.kind() == ErrorKind::DisplayHelp;
                assert!(is_help, "{}: {arguments:?}: {error}", path.display());
            }
        }
    }
    assert!(count > 30, "only {count} commands were found");
}

/// Calls `check` with every subcommand and the program itself.
fn for_each(command: &mut Command, check: &mut dyn FnMut(&mut Command)) {
    check(command);
    for subcommand in command.get_subcommands_mut() {
        if subcommand.get_name() != "help" {
            for_each(subcommand, check);
        }
    }
}

#[test]
fn the_options_of_third_party_weights_have_a_heading_of_their_own() {
    let mut command = Cli::command();
    command.build();
    let mut found = 0;
    for_each(&mut command, &mut |command| {
        for argument in command.get_arguments() {
            if argument.get_help_heading() == Some("Third-party weights") {
                let id = argument.get_id().as_str();
                let own = ["layout", "strict", "allow_unused", "network"];
                assert!(own.contains(&id), "{}: {id}", command.get_name());
                found += 1;
            }
        }
    });
    assert!(found >= 4 * 6, "{found}");
}

#[test]
fn help_texts_have_no_names_of_types() {
    let mut command = Cli::command();
    command.build();
    for_each(&mut command, &mut |command| {
        let help = command.render_long_help().to_string();
        for word in help.split(|c: char| !c.is_alphanumeric()) {
            let is_type = word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.chars().filter(char::is_ascii_uppercase).count() > 1
                && word.chars().filter(char::is_ascii_lowercase).count() > 5;
            let is_name = ["LabelImg", "ImageNet", "PyTorch", "MobileNet", "ShuffleNet"];
            assert!(
                !is_type || is_name.contains(&word),
                "{}: {word}",
                command.get_name()
            );
        }
    });
}

#[test]
fn help_texts_are_sentences_without_a_full_stop() {
    let mut command = Cli::command();
    command.build();
    for_each(&mut command, &mut |command| {
        let name = command.get_name().to_string();
        let about = command.get_about().map(ToString::to_string);
        let about = about.unwrap_or_else(|| panic!("{name} has no help"));
        assert!(!about.contains('\n'), "{name}: {about}");
        let options = command.get_arguments().map(|option| {
            let help = option.get_help().map(ToString::to_string);
            help.unwrap_or_else(|| panic!("{name} {} has no help", option.get_id()))
        });
        for text in options.chain([about]) {
            assert!(
                !text.ends_with('.') || text.ends_with("..."),
                "{name}: {text}"
            );
            let first = text.chars().next().unwrap();
            assert!(
                !first.is_lowercase() || text.starts_with("sedet"),
                "{name}: {text}"
            );
        }
    });
}

/// Calls `check` with the name and the examples of every subcommand that runs something.
fn for_each_examples(check: &mut dyn FnMut(&str, &str)) {
    let mut command = Cli::command();
    command.build();
    for_each(&mut command, &mut |command| {
        if command.has_subcommands() && command.get_name() != "sedet" {
            return;
        }
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_else(|| panic!("{} has no examples", command.get_name()));
        check(command.get_name(), &help);
    });
}

#[test]
fn every_subcommand_has_examples_that_are_understood() {
    let mut count = 0;
    for_each_examples(&mut |name, help| {
        let examples = help.lines().filter_map(|line| line.strip_prefix("  sedet"));
        let before = count;
        for example in examples {
            let example = example.split(" > ").next().unwrap();
            let words = std::iter::once("sedet").chain(example.split_whitespace());
            if let Err(error) = Cli::try_parse_from(words) {
                let is_help = error.kind() == ErrorKind::DisplayHelp;
                assert!(is_help, "{name}: {example}: {error}");
            }
            count += 1;
        }
        assert!(count > before, "{name} has no examples");
    });
    assert!(count > 40, "{count}");
}

#[test]
fn the_long_help_lists_the_environment_variables() {
    let mut command = Cli::command().term_width(COLUMNS);
    let help = command.render_long_help().to_string();
    for (name, _) in super::environment::VARIABLES {
        assert!(help.contains(name), "{name}");
    }
    for line in help.lines() {
        assert!(line.chars().count() <= COLUMNS, "{line}");
    }
}

#[test]
fn the_version_names_commit_features_and_target() {
    let long = Cli::command().render_long_version();
    for part in ["commit: ", "features: ", "target: "] {
        assert!(long.contains(part), "{long}");
    }
    let short = Cli::command().render_version();
    assert_eq!(short.trim_end().lines().count(), 1, "{short}");
    assert!(short.starts_with(concat!("sedet ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn help_fits_a_small_terminal() {
    let mut command = Cli::command().term_width(COLUMNS);
    command.build();
    for_each(&mut command, &mut |command| {
        let help = command.render_help().to_string();
        let footer = command.get_after_help().map(ToString::to_string);
        // A wrapped example could not be copied.
        let footer = footer.unwrap_or_default();
        for line in help.lines().chain(footer.lines()) {
            let width = line.chars().count();
            assert!(
                width <= COLUMNS,
                "{}: {width} columns: {line}",
                command.get_name()
            );
        }
    });
}
