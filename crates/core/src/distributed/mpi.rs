//! The transport between processes that an MPI launcher (`mpirun`, `mpiexec`, `srun`) has started.

use std::fmt;
use std::time::{Duration, Instant};

use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, Destination as _, MatchedReceiveVec as _, Source as _};
use mpi::{Tag, Threading};

use super::{MessageKind, Patience, Transport};

/// Ends this process because a rank does not answer. MPI cannot withdraw a message, so the process cannot go on.
type OnLost = fn(&LostRank) -> !;

/// A rank that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer from rank {rank} for {} s", waited.as_secs())]
pub struct LostRank {
    /// The rank.
    pub rank: usize,
    /// The time that was waited.
    pub waited: Duration,
}

/// MPI, between its start and the end of the process. Must be dropped on the thread that started it.
pub struct Mpi(Universe);

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mpi").finish_non_exhaustive()
    }
}

impl Mpi {
    /// Starts MPI; none if it was started already.
    pub fn start() -> Option<Self> {
        let (universe, _) = ::mpi::initialize_with_threading(Threading::Serialized)?;
        Some(Self(universe))
    }

    /// Returns the transport between all processes, to be used by one thread at a time. If a rank does not answer for
    /// `patience`, `on_lost` ends the process.
    pub fn transport(&self, patience: Duration, on_lost: OnLost) -> MpiTransport {
        let world = self.0.world();
        MpiTransport {
            rank: world.rank() as usize,
            size: world.size() as usize,
            patience,
            on_lost,
        }
    }

    /// Ends all processes at once.
    pub fn abort() -> ! {
        SimpleCommunicator::world().abort(1)
    }
}

impl Drop for Mpi {
    /// A process that panics would wait for the others, and they for it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            Self::abort();
        }
    }
}

/// The processes of `MPI_COMM_WORLD`.
#[derive(Debug, Clone, Copy)]
pub struct MpiTransport {
    rank: usize,
    size: usize,
    patience: Duration,
    on_lost: OnLost,
}

/// MPI's tag of a message.
const fn tag(kind: MessageKind) -> Tag {
    match kind {
        MessageKind::Data => 0,
        MessageKind::Closing => 1,
    }
}

/// The time after which a waiting rank leaves its core to others between two looks.
const EAGER: Duration = Duration::from_micros(200);

/// The time between two looks then.
const PAUSE: Duration = Duration::from_micros(100);

impl MpiTransport {
    /// Waits until `is_done`; `missing` returns the rank that is waited for.
    fn wait(&self, limit: Duration, mut is_done: impl FnMut() -> Option<usize>) {
        let begun = Instant::now();
        while let Some(rank) = is_done() {
            let waited = begun.elapsed();
            if waited > limit {
                (self.on_lost)(&LostRank { rank, waited });
            }
            if waited > EAGER {
                std::thread::sleep(PAUSE);
            }
        }
    }
}

impl Transport for MpiTransport {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(
        &self,
        kind: MessageKind,
        outgoing: &[&[u8]],
        patience: Patience,
    ) -> Vec<(MessageKind, Vec<u8>)> {
        let limit = match patience {
            Patience::Usual => self.patience,
            Patience::Unlimited => Duration::MAX,
        };
        let world = SimpleCommunicator::world();
        let others = (0..self.size).filter(|rank| *rank != self.rank);
        let others: Vec<usize> = others.collect();
        let mut received = vec![(MessageKind::Data, Vec::new()); self.size];
        ::mpi::request::multiple_scope(others.len(), |scope, requests| {
            for &rank in &others {
                let process = world.process_at_rank(rank as i32);
                requests.add(process.immediate_send_with_tag(scope, outgoing[rank], tag(kind)));
            }
            let mut missing = others.clone();
            self.wait(limit, || {
                missing.retain(|&rank| {
                    let process = world.process_at_rank(rank as i32);
                    match process.immediate_matched_probe() {
                        None => true,
                        Some(message) => {
                            let (bytes, status) = message.matched_receive_vec::<u8>();
                            let kind = if status.tag() == tag(MessageKind::Closing) {
                                MessageKind::Closing
                            } else {
                                MessageKind::Data
                            };
                            received[rank] = (kind, bytes);
                            false
                        }
                    }
                });
                missing.first().copied()
            });
            let mut sent = Vec::new();
            self.wait(limit, || {
                requests.test_some(&mut sent);
                // Which of them is missing is not told.
                (requests.incomplete() > 0).then(|| others[0])
            });
        });
        received
    }
}
