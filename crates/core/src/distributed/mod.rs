//! Several processes that train or evaluate one network: data parallelism.
//!
//! Each process ([`Ranks`]) computes other batches of an optimizer step, or other images of an evaluation. What they
//! exchange is combined in a fixed order, that of the batches, so the result has the same bits as that of one process
//! that computes all of them ([`gradients`], [`norms`]).
//!
//! A process that fails says so before it ends ([`Ranks::close`]), and the others end with its reason instead of
//! waiting for it. A [`Transport`] moves the bytes: MPI between processes (feature `mpi`), channels between the threads
//! of a test.

pub mod gradients;
#[cfg(feature = "mpi")]
pub mod mpi;
pub mod norms;
#[cfg(test)]
pub(crate) mod threads;

use std::borrow::Cow;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use crc32c::crc32c;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// What the ranks exchange.
    Data,
    /// The sender ends; the message is its [`Failure`], or empty if it ends because of another rank.
    Closing,
}

/// How long a rank waits for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as the transport is configured to.
    Usual,
    /// Without a limit.
    Unlimited,
}

/// Moves bytes between the processes of a run.
pub trait Transport: Debug + Send + Sync {
    /// Returns the number of this process, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of processes.
    fn size(&self) -> usize;

    /// Sends a message to each rank, and returns those of all ranks for this one, in the order of the ranks. The
    /// messages to and from this rank itself are empty. Every rank has to take part.
    fn exchange(
        &self,
        kind: MessageKind,
        outgoing: &[&[u8]],
        patience: Patience,
    ) -> Vec<(MessageKind, Vec<u8>)>;
}

/// Why a rank ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failure {
    /// The error, in one line.
    pub message: String,
    /// Whether the run can be resumed once the cause is removed.
    pub can_be_resumed: bool,
    /// Whether a single image is the cause.
    pub is_about_one_image: bool,
}

/// An error between the processes of a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DistributedError {
    /// Another process failed.
    #[error("rank {rank}: {}", failure.message)]
    Closed {
        /// The process.
        rank: usize,
        /// Its error.
        failure: Failure,
    },
    /// The processes do not agree about what they work on.
    #[error("rank {rank} has another {what} than rank 0: {other}, not {first}")]
    Different {
        /// The process.
        rank: usize,
        /// What differs.
        what: &'static str,
        /// What it has.
        other: String,
        /// What rank 0 has.
        first: String,
    },
    /// A message that cannot be read.
    #[error(
        "rank {rank} sent a message that this version of sedet does not understand ({problem})"
    )]
    Message {
        /// The sender.
        rank: usize,
        /// The problem.
        problem: String,
    },
}

/// The processes that work on one network together, seen from one of them.
#[derive(Debug, Clone, Default)]
pub struct Ranks(Option<Arc<Connected>>);

#[derive(Debug)]
struct Connected {
    transport: Box<dyn Transport>,
    /// Whether this rank has told the others that it ends.
    is_closed: AtomicBool,
}

impl Ranks {
    /// One process without others.
    pub fn alone() -> Self {
        Self(None)
    }

    /// The processes that a transport connects.
    pub fn new(transport: impl Transport + 'static) -> Self {
        let is_alone = transport.size() == 1;
        let connected = || {
            Arc::new(Connected {
                transport: Box::new(transport),
                is_closed: AtomicBool::new(false),
            })
        };
        Self((!is_alone).then(connected))
    }

    /// Returns the number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |ranks| ranks.transport.rank())
    }

    /// Returns the number of processes.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |ranks| ranks.transport.size())
    }

    /// Returns whether there is no other process.
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether this is rank 0, which shows progress and writes files.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Sends a message to each rank, and returns those of all ranks for this one, in their order. The message of this
    /// rank to itself is returned as it is given: gradients are not copied.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn exchange<'m>(
        &self,
        outgoing: &[&'m [u8]],
    ) -> Result<Vec<Cow<'m, [u8]>>, DistributedError> {
        self.exchange_with(outgoing, Patience::Usual)
    }

    /// Waits for all ranks, without a limit of time except on rank 0, which may have worked alone before.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn wait_for_first(&self) -> Result<(), DistributedError> {
        let patience = if self.is_first() {
            Patience::Usual
        } else {
            Patience::Unlimited
        };
        self.exchange_with(&vec![&[][..]; self.size()], patience)?;
        Ok(())
    }

    fn exchange_with<'m>(
        &self,
        outgoing: &[&'m [u8]],
        patience: Patience,
    ) -> Result<Vec<Cow<'m, [u8]>>, DistributedError> {
        let own = Cow::Borrowed(outgoing[self.rank()]);
        let Some(ranks) = &self.0 else {
            return Ok(vec![own]);
        };
        let mut received = Vec::with_capacity(self.size());
        let mut closed: Option<(usize, Failure)> = None;
        for (rank, (kind, message)) in ranks
            .transport
            .exchange(MessageKind::Data, outgoing, patience)
            .into_iter()
            .enumerate()
        {
            if kind == MessageKind::Closing && closed.is_none() {
                closed = Some((rank, read(rank, &message)?));
            }
            received.push(Cow::Owned(message));
        }
        if let Some((rank, failure)) = closed {
            return Err(DistributedError::Closed { rank, failure });
        }
        received[self.rank()] = own;
        Ok(received)
    }

    /// Sends the same bytes to all ranks, and returns those of all, in their order.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn gather_bytes<'m>(&self, own: &'m [u8]) -> Result<Vec<Cow<'m, [u8]>>, DistributedError> {
        self.exchange(&vec![own; self.size()])
    }

    /// Returns a value of all ranks, in their order.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn gather<T>(&self, own: T) -> Result<Vec<T>, DistributedError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.gather_with(own, Patience::Usual)
    }

    /// Returns a value of all ranks, in their order, and waits for each of them without a limit of time.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn gather_patiently<T>(&self, own: T) -> Result<Vec<T>, DistributedError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.gather_with(own, Patience::Unlimited)
    }

    fn gather_with<T>(&self, own: T, patience: Patience) -> Result<Vec<T>, DistributedError>
    where
        T: Serialize + DeserializeOwned,
    {
        if self.is_alone() {
            return Ok(vec![own]);
        }
        let text = serde_json::to_vec(&own).map_err(|error| DistributedError::Message {
            rank: self.rank(),
            problem: error.to_string(),
        })?;
        let all = self.exchange_with(&vec![text.as_slice(); self.size()], patience)?;
        let all = all.iter().enumerate();
        all.map(|(rank, bytes)| read(rank, bytes)).collect()
    }

    /// Returns whether a condition holds on any rank.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn any(&self, own: bool) -> Result<bool, DistributedError> {
        Ok(self.gather(own)?.contains(&true))
    }

    /// Returns the value of rank 0.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn of_first<T>(&self, own: T) -> Result<T, DistributedError>
    where
        T: Serialize + DeserializeOwned,
    {
        Ok(self.gather(own)?.swap_remove(0))
    }

    /// Checks that all ranks have the same value. Of several lines, the error has the first that differs.
    ///
    /// # Errors
    /// A rank has another one than rank 0, or has failed.
    pub fn check_same(
        &self,
        what: &'static str,
        own: impl Display,
    ) -> Result<(), DistributedError> {
        let mut all = self.gather(own.to_string())?.into_iter();
        let first = all.next().unwrap_or_default();
        match all.enumerate().find(|(_, other)| *other != first) {
            Some((rank, other)) => {
                let (other, first) = first_difference(&other, &first);
                Err(DistributedError::Different {
                    rank: rank + 1,
                    what,
                    other,
                    first,
                })
            }
            None => Ok(()),
        }
    }

    /// Checks that all ranks are the same program.
    ///
    /// # Errors
    /// A rank is another one, or has failed.
    pub fn check_same_program(&self) -> Result<(), DistributedError> {
        if self.is_alone() {
            return Ok(());
        }
        let file = std::env::current_exe().and_then(std::fs::read);
        let checksum = file.map_or(0, |bytes| crc32c::crc32c(&bytes));
        let version = env!("CARGO_PKG_VERSION");
        self.check_same("sedet (checksum)", format!("{version} {checksum:08x}"))
    }

    /// Tells the others that this process ends because of an error, and waits until all know. Must be called by every
    /// rank whose work ended with an error, also with one that it has from another rank. A second call has no effect.
    pub fn close(&self, failure: &Failure) {
        let Some(ranks) = &self.0 else { return };
        if ranks.is_closed.swap(true, Ordering::Relaxed) {
            return;
        }
        // Written by serde from text and flags, which cannot fail.
        let message = serde_json::to_vec(failure).unwrap_or_default();
        let outgoing = vec![message.as_slice(); self.size()];
        loop {
            // Whatever the others still sent as data is dropped; in the round after it they know.
            let received =
                ranks
                    .transport
                    .exchange(MessageKind::Closing, &outgoing, Patience::Usual);
            let mut others = received.iter().enumerate();
            if others.all(|(rank, (kind, _))| rank == self.rank() || *kind == MessageKind::Closing)
            {
                return;
            }
        }
    }
}

/// Returns the first lines of two texts that differ; the end of a text is `nothing`.
fn first_difference(a: &str, b: &str) -> (String, String) {
    let (mut a, mut b) = (a.lines(), b.lines());
    loop {
        match (a.next(), b.next()) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => {
                let [a, b] = [a, b].map(|line| line.unwrap_or("nothing").to_string());
                return (a, b);
            }
        }
    }
}

/// Work that the ranks have divided, which ends on all of them once it is to be stopped on one.
#[derive(Debug)]
pub struct SharedWork<'r> {
    ranks: &'r Ranks,
    /// Rounds after which the ranks still have to agree.
    rounds_left: usize,
    /// Finished items of this round.
    done: usize,
    is_stopped: bool,
}

impl<'r> SharedWork<'r> {
    /// Items between which the ranks agree whether to go on.
    const ROUND: usize = 8;

    /// Begins the work; `most` is the largest number of items that a rank has.
    pub fn new(ranks: &'r Ranks, most: usize) -> Self {
        Self {
            ranks,
            rounds_left: most.div_ceil(Self::ROUND),
            done: 0,
            is_stopped: false,
        }
    }

    /// Returns whether the work goes on after an item of this rank.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn goes_on(&mut self, is_stopped: bool) -> Result<bool, DistributedError> {
        self.is_stopped |= is_stopped;
        if self.ranks.is_alone() {
            return Ok(!self.is_stopped);
        }
        self.done += 1;
        if self.done < Self::ROUND {
            return Ok(true);
        }
        self.done = 0;
        self.agree()
    }

    /// Takes part in the rounds in which only other ranks have items, and returns whether the work was not stopped.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn finish(mut self) -> Result<bool, DistributedError> {
        if self.ranks.is_alone() {
            return Ok(!self.is_stopped);
        }
        while self.rounds_left > 0 {
            if !self.agree()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn agree(&mut self) -> Result<bool, DistributedError> {
        self.rounds_left = self.rounds_left.saturating_sub(1);
        Ok(!self.ranks.any(self.is_stopped)?)
    }
}

fn read<T: DeserializeOwned>(rank: usize, bytes: &[u8]) -> Result<T, DistributedError> {
    serde_json::from_slice(bytes).map_err(|error| DistributedError::Message {
        rank,
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::threads::on_threads;
    use super::*;

    #[test]
    fn values_come_in_the_order_of_the_ranks() {
        let found = on_threads(3, |ranks| {
            let all = ranks.gather((ranks.rank(), ranks.rank() == 1)).unwrap();
            let any = ranks.any(ranks.rank() == 2).unwrap();
            let first = ranks.of_first(ranks.rank() + 7).unwrap();
            (all, any, first)
        });
        for (all, any, first) in found {
            assert_eq!(all, [(0, false), (1, true), (2, false)]);
            assert!(any);
            assert_eq!(first, 7);
        }
        let alone = Ranks::alone();
        assert_eq!((alone.rank(), alone.size()), (0, 1));
        assert_eq!(alone.gather(5).unwrap(), [5]);
    }

    #[test]
    fn a_rank_with_another_value_is_named_on_every_rank() {
        let found = on_threads(3, |ranks| {
            let own = if ranks.rank() == 2 { "b" } else { "a" };
            let lines = format!("same\n{own}\nsame");
            ranks.check_same("dataset", lines).unwrap_err().to_string()
        });
        for message in found {
            assert_eq!(message, "rank 2 has another dataset than rank 0: b, not a");
        }
    }

    #[test]
    fn divided_work_ends_on_all_ranks_after_a_stop_on_one() {
        // 17 items on two ranks: 9 and 8.
        let run = |stopped_at: Option<usize>| {
            on_threads(2, |ranks| {
                let own: Vec<usize> = (ranks.rank()..17).step_by(2).collect();
                let mut work = SharedWork::new(&ranks, 9);
                for (at, item) in own.iter().enumerate() {
                    if !work.goes_on(stopped_at == Some(*item)).unwrap() {
                        return (at + 1, false);
                    }
                }
                (own.len(), work.finish().unwrap())
            })
        };
        assert_eq!(run(None), [(9, true), (8, true)]);
        assert_eq!(run(Some(3)), [(8, false), (8, false)]);
        // Only rank 0 has an item after the first round.
        assert_eq!(run(Some(16)), [(9, false), (8, false)]);
    }

    #[test]
    fn all_ranks_end_with_the_reason_of_the_one_that_failed() {
        for failing in 0..3 {
            let found = on_threads(3, |ranks| {
                let failure = Failure {
                    message: "cannot read a.jpg".into(),
                    is_about_one_image: true,
                    ..Failure::default()
                };
                ranks.any(false).unwrap();
                if ranks.rank() == failing {
                    ranks.close(&failure);
                    return None;
                }
                let error = ranks.gather(0).unwrap_err();
                ranks.close(&Failure::default());
                Some(error)
            });
            for (rank, error) in found.into_iter().enumerate() {
                match error {
                    None => assert_eq!(rank, failing),
                    Some(DistributedError::Closed { rank, failure }) => {
                        assert_eq!(rank, failing);
                        assert!(failure.is_about_one_image);
                    }
                    Some(other) => panic!("{other}"),
                }
            }
        }
    }
}
