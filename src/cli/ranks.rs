//! The processes that an MPI launcher has started.

use std::cell::RefCell;
use std::time::Duration;

use sedet_core::distributed::{Failure, Ranks};

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
    let size = |name: &&str| std::env::var(name).ok()?.parse::<usize>().ok();
    SIZES.iter().find_map(size).unwrap_or(1)
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

    let patience = patience()?;
    if launched() < 2 {
        return Ok(Connection { _mpi: None });
    }
    let mpi = Mpi::start();
    if let Some(mpi) = &mpi {
        let ranks = Ranks::new(mpi.transport(patience, |lost| {
            console::unmute();
            problem!("error: rank {}: {lost}", ranks().rank());
            problem!(
                "hint: {RANK_TIMEOUT} is the number of seconds to wait; the last checkpoint is intact, and `sedet \
                 train --resume` continues from it"
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
    Ok(Connection { _mpi: mpi })
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
            format!("{RANK_TIMEOUT}={text} is not a number of seconds above 0"),
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
            "start it without mpirun or srun; train, and eval with a checkpoint, work in several processes",
        )),
    }
}

/// Waits until all ranks have finished, and returns an error on all if one has failed.
pub(super) fn conclude<T>(done: anyhow::Result<T>) -> anyhow::Result<T> {
    let ranks = ranks();
    match done {
        Ok(value) => match ranks.gather(()) {
            Ok(_) => Ok(value),
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
