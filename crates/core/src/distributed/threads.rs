//! Ranks as threads of one process, for tests.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::{MessageKind, Patience, Ranks, Transport};

type Message = (MessageKind, Vec<u8>);

#[derive(Debug)]
struct Channels {
    rank: usize,
    to: Vec<Sender<Message>>,
    from: Vec<Mutex<Receiver<Message>>>,
}

impl Transport for Channels {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn exchange(&self, kind: MessageKind, outgoing: &[&[u8]], _: Patience) -> Vec<Message> {
        for (rank, (to, bytes)) in self.to.iter().zip(outgoing).enumerate() {
            if rank != self.rank {
                to.send((kind, bytes.to_vec())).unwrap();
            }
        }
        let from = self.from.iter().enumerate();
        from.map(|(rank, from)| {
            if rank == self.rank {
                (MessageKind::Data, Vec::new())
            } else {
                from.lock().unwrap().recv().unwrap()
            }
        })
        .collect()
    }
}

/// Runs work on a number of ranks, and returns the results in their order.
pub(crate) fn on_threads<R: Send>(size: usize, work: impl Fn(Ranks) -> R + Sync) -> Vec<R> {
    let mut senders: Vec<Vec<Sender<Message>>> = (0..size).map(|_| Vec::new()).collect();
    let mut receivers: Vec<Vec<Mutex<Receiver<Message>>>> = (0..size).map(|_| Vec::new()).collect();
    for from in senders.iter_mut() {
        for to in receivers.iter_mut() {
            let (sender, receiver) = channel();
            from.push(sender);
            to.push(Mutex::new(receiver));
        }
    }
    let ends = senders.into_iter().zip(receivers).enumerate();
    let ranks: Vec<Ranks> = ends
        .map(|(rank, (to, from))| Ranks::new(Channels { rank, to, from }))
        .collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = ranks
            .into_iter()
            .map(|ranks| scope.spawn(|| work(ranks)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}
