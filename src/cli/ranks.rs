//! The processes that an MPI launcher has started.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sedet_core::distributed::{Failure, Ranks, crc32c};
use sedet_core::weights::load::all_files;

#[cfg(feature = "mpi")]
use super::console::{self, problem};
use super::hints::usage_with_hint;

/// Variables with the number of processes, by the launcher that sets them.
const SIZES: [&str; 3] = [
    // Open MPI.
    "OMPI_COMM_WORLD_SIZE",
    // MPICH, Intel MPI, Cray.
    "PMI_SIZE",
    // srun.
    "SLURM_STEP_NUM_TASKS",
];

/// The variable with the number of seconds after which a rank that does not answer counts as lost.
pub(super) const RANK_TIMEOUT: &str = "SEDET_RANK_TIMEOUT";

/// The default of [`RANK_TIMEOUT`]: longer than anything that one rank does alone.
pub(super) const DEFAULT_RANK_TIMEOUT: u64 = 1800;

thread_local! {
    static RANKS: RefCell<Ranks> = RefCell::new(Ranks::alone());
}

/// Returns the processes that work together, for the main thread.
pub(super) fn ranks() -> Ranks {
    RANKS.with_borrow(Clone::clone)
}

/// Returns the number of processes that a launcher has started, as its variables say; 1 without one.
fn launched() -> usize {
    launcher_size().unwrap_or(1)
}

/// Returns the number of processes that a launcher has started, if one has.
pub(super) fn launcher_size() -> Option<usize> {
    let size = |name: &&str| std::env::var(name).ok()?.parse::<usize>().ok();
    SIZES.iter().find_map(size)
}

/// The options that may differ between ranks, each with a value.
const OWN_OPTIONS: [&str; 3] = ["--device", "--devices", "--threads"];

/// Checks that all ranks are the same program with the same arguments, before one of them refuses its own.
pub(super) fn check_same_command() -> anyhow::Result<()> {
    let ranks = ranks();
    if ranks.is_alone() {
        return Ok(());
    }
    ranks.check_same_program()?;
    let arguments = without(&OWN_OPTIONS, std::env::args_os().skip(1));
    // Each argument in a line, without its own line breaks.
    let lines = arguments.iter().map(|argument| format!("{argument:?}\n"));
    Ok(ranks.check_same("argument", lines.collect::<String>())?)
}

/// Checks that all ranks evaluate the same weights on the same data.
pub(super) fn check_same_inputs(checkpoint: &Path, fingerprint: &str) -> anyhow::Result<()> {
    let ranks = ranks();
    if ranks.is_alone() {
        return Ok(());
    }
    let mut checksums = String::new();
    for path in all_files(checkpoint)? {
        let weights = std::fs::read(&path).with_context(|| path.display().to_string())?;
        checksums += &format!("{:08x}\n", crc32c(&weights));
    }
    ranks.check_same("checkpoint (checksum)", checksums)?;
    Ok(ranks.check_same("dataset (fingerprint)", fingerprint)?)
}

/// Returns arguments without these options and their values.
pub(super) fn without(
    options: &[&str],
    arguments: impl Iterator<Item = OsString>,
) -> Vec<OsString> {
    let mut is_value = false;
    let is_other = |argument: &OsString| {
        let text = argument.to_string_lossy();
        let is_option = options.contains(&&*text);
        let with_value = text.split_once('=');
        let is_removed =
            is_option || is_value || with_value.is_some_and(|(name, _)| options.contains(&name));
        is_value = is_option;
        !is_removed
    };
    arguments.filter(is_other).collect()
}

/// The connection to the other processes. To be dropped on the main thread, before the process ends.
#[derive(Debug)]
pub(super) struct Connection {
    #[cfg(feature = "mpi")]
    _mpi: Option<sedet_core::distributed::mpi::Mpi>,
}

/// Connects this process to those that were started with it, if a launcher has started several.
#[cfg(feature = "mpi")]
pub(super) fn connect() -> anyhow::Result<Connection> {
    use sedet_core::distributed::mpi::Mpi;

    if launched() < 2 {
        patience()?;
        return Ok(Connection { _mpi: None });
    }
    // All ranks have the same wrong value; rank 0 reports it.
    let (patience, wrong) = match patience() {
        Ok(patience) => (patience, None),
        Err(error) => (Duration::from_secs(DEFAULT_RANK_TIMEOUT), Some(error)),
    };
    let mpi = Mpi::start();
    if let Some(mpi) = &mpi {
        let ranks = Ranks::new(mpi.transport(patience, |lost| {
            console::unmute();
            problem!("error: rank {}: {lost}", ranks().rank());
            problem!(
                "hint: {RANK_TIMEOUT} is the number of seconds to wait; `sedet train --resume` continues a training from \
                 its last checkpoint"
            );
            Mpi::abort()
        }));
        if ranks.is_alone() {
            return Err(usage_with_hint(
                format!(
                    "{} processes were started, but the MPI library of this sedet sees one only",
                    launched()
                ),
                "start it with the launcher of the MPI library that it was built with",
            ));
        }
        if !ranks.is_first() {
            console::mute();
        }
        RANKS.set(ranks);
    }
    match wrong {
        Some(error) => Err(error),
        None => Ok(Connection { _mpi: mpi }),
    }
}

/// Refuses several processes: each would do the whole work and write the same files.
#[cfg(not(feature = "mpi"))]
pub(super) fn connect() -> anyhow::Result<Connection> {
    patience()?;
    match launched() {
        0 | 1 => Ok(Connection {}),
        size => Err(usage_with_hint(
            format!("{size} processes were started, but this sedet was built without MPI"),
            "build it with --features mpi",
        )),
    }
}

/// Returns the time after which a rank that does not answer counts as lost.
fn patience() -> anyhow::Result<Duration> {
    let Ok(text) = std::env::var(RANK_TIMEOUT) else {
        return Ok(Duration::from_secs(DEFAULT_RANK_TIMEOUT));
    };
    match text.parse::<u64>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(usage_with_hint(
            format!("{RANK_TIMEOUT}={text} is not a whole number of seconds above 0"),
            format!("{RANK_TIMEOUT}={DEFAULT_RANK_TIMEOUT} is the default"),
        )),
    }
}

/// Refuses several processes for a command that works in one.
pub(super) fn need_one() -> anyhow::Result<()> {
    match ranks().size() {
        1 => Ok(()),
        size => Err(usage_with_hint(
            format!("this command works in one process, but {size} were started"),
            "start it without mpirun or srun; train, and eval and excite with a dataset, work in several processes",
        )),
    }
}

/// Waits until all ranks have finished, and returns an error on all if one has failed.
pub(super) fn conclude<T>(done: anyhow::Result<T>) -> anyhow::Result<T> {
    let ranks = ranks();
    match done {
        Ok(value) => match ranks.wait_for_first() {
            Ok(()) => Ok(value),
            Err(error) => {
                ranks.close(&Failure::default());
                Err(error.into())
            }
        },
        Err(error) => {
            ranks.close(&Failure {
                message: super::message(&error),
                ..Failure::default()
            });
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_removed_with_their_values() {
        let left = |text: &str| {
            let words = text.split(' ').map(OsString::from);
            let left = without(&OWN_OPTIONS, words);
            let left: Vec<_> = left.iter().map(|word| word.to_string_lossy()).collect();
            left.join(" ")
        };
        assert_eq!(left("train --devices cpu,cpu --lr 1"), "train --lr 1");
        assert_eq!(left("train --lr 1 --devices=cuda:0,1"), "train --lr 1");
        assert_eq!(left("train --device cpu --threads 2 -q"), "train -q");
        assert_eq!(
            left("train --set model.device=x"),
            "train --set model.device=x"
        );
    }
}
