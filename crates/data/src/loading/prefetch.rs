//! Prefetching: threads prepare indexed items ahead of their use, in bounded memory.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::DataError;

/// The limits of a prefetcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefetchLimits {
    /// Number of threads that prepare items.
    pub threads: usize,
    /// Maximum number of items that are being prepared or wait to be taken.
    pub items: usize,
}

impl PrefetchLimits {
    /// The next images are decoded while a network, which takes longer and uses all threads, computes.
    pub const AHEAD_OF_NETWORK: Self = Self {
        threads: 1,
        items: 3,
    };

    /// Returns the number of useful threads: at least one, and at most the number of items.
    fn useful_threads(self, count: usize) -> usize {
        self.threads.max(1).min(self.items.max(1)).min(count)
    }
}

/// Iterator over items that its threads prepare, in order. Dropping it stops the threads, each
/// after its current item.
#[derive(Debug)]
pub(crate) struct Prefetch<T> {
    queue: Arc<Queue<T>>,
    workers: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts preparing the items with these indices. `prepare` receives the index and a flag that
    /// is set when the result is no longer needed.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub(crate) fn start(
        numbers: Range<usize>,
        limits: PrefetchLimits,
        prepare: impl Fn(usize, &AtomicBool) -> T + Send + Sync + 'static,
    ) -> Result<Self, DataError> {
        let count = limits.useful_threads(numbers.len());
        let mut prefetch = Self {
            queue: Arc::new(Queue::new(numbers, limits)),
            workers: Vec::with_capacity(count),
        };
        let prepare = Arc::new(prepare);
        for index in 0..count {
            let (queue, prepare) = (prefetch.queue.clone(), prepare.clone());
            let worker = thread_builder(index)
                .spawn(move || queue.work(&*prepare))
                .map_err(|source| DataError::Threads { source })?;
            prefetch.workers.push(worker);
        }
        Ok(prefetch)
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.take()
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        self.queue.abandon();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of `prepare`, so there is no result to report here.
            let _ = worker.join();
        }
    }
}

/// Calls `consume` with an iterator over `prepare(0)`, `prepare(1)`, ... `prepare(count - 1)`, which
/// threads prepare ahead. Unlike the loaders' threads these may borrow, and they end with the call.
///
/// # Errors
/// The operating system refuses a thread.
///
/// # Panics
/// A panic of `prepare` is resumed when the item is taken.
pub fn with_prefetch<T: Send, R>(
    count: usize,
    limits: PrefetchLimits,
    prepare: impl Fn(usize) -> T + Sync,
    consume: impl FnOnce(&mut dyn Iterator<Item = T>) -> R,
) -> Result<R, DataError> {
    let queue = Queue::new(0..count, limits);
    let prepare = |number: usize, _: &AtomicBool| prepare(number);
    std::thread::scope(|scope| {
        // Dropped on every exit of the scope, also by a panic of `consume`; otherwise the scope
        // would wait forever for threads that wait for their items to be taken.
        let mut items = Scoped(&queue);
        for index in 0..limits.useful_threads(count) {
            thread_builder(index)
                .spawn_scoped(scope, || queue.work(&prepare))
                .map_err(|source| DataError::Threads { source })?;
        }
        Ok(consume(&mut items))
    })
}

struct Scoped<'a, T>(&'a Queue<T>);

impl<T> Iterator for Scoped<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for Scoped<'_, T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn thread_builder(index: usize) -> Builder {
    Builder::new().name(format!("loader {index}"))
}

/// State shared by the consumer and the threads.
#[derive(Debug)]
struct Queue<T> {
    end: usize,
    limit: usize,
    progress: Mutex<Progress<T>>,
    /// Signaled when an item was taken, so that another one may be started.
    taken: Condvar,
    /// Signaled when an item is ready.
    ready: Condvar,
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct Progress<T> {
    next_to_begin: usize,
    next_to_take: usize,
    finished: BTreeMap<usize, Result<T, Panic>>,
}

/// The payload of a caught panic.
type Panic = Box<dyn Any + Send>;

impl<T> Queue<T> {
    fn new(numbers: Range<usize>, limits: PrefetchLimits) -> Self {
        Self {
            end: numbers.end,
            limit: limits.items.max(1),
            progress: Mutex::new(Progress {
                next_to_begin: numbers.start,
                next_to_take: numbers.start,
                finished: BTreeMap::new(),
            }),
            taken: Condvar::new(),
            ready: Condvar::new(),
            abandoned: AtomicBool::new(false),
        }
    }

    /// Waits until the limit allows another item and returns its index; `None` at the end.
    fn begin(&self) -> Option<usize> {
        let mut progress = lock(&self.progress);
        loop {
            if self.abandoned.load(Ordering::Relaxed) || progress.next_to_begin >= self.end {
                return None;
            }
            if progress.next_to_begin < progress.next_to_take + self.limit {
                progress.next_to_begin += 1;
                return Some(progress.next_to_begin - 1);
            }
            progress = self
                .taken
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Prepares items until none remains.
    fn work(&self, prepare: &impl Fn(usize, &AtomicBool) -> T) {
        while let Some(number) = self.begin() {
            // A panic must not leave the consumer waiting for this item.
            let item = catch_unwind(AssertUnwindSafe(|| prepare(number, &self.abandoned)));
            lock(&self.progress).finished.insert(number, item);
            self.ready.notify_all();
        }
    }

    /// Waits for the next item.
    fn take(&self) -> Option<T> {
        let mut progress = lock(&self.progress);
        let number = progress.next_to_take;
        if number >= self.end {
            return None;
        }
        let item = loop {
            if let Some(item) = progress.finished.remove(&number) {
                break item;
            }
            progress = self
                .ready
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        };
        progress.next_to_take += 1;
        drop(progress);
        self.taken.notify_one();
        Some(item.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    fn abandon(&self) {
        {
            // Set under the lock, so that no thread is between its check and its wait.
            let _progress = lock(&self.progress);
            self.abandoned.store(true, Ordering::Relaxed);
        }
        self.taken.notify_all();
    }
}

/// Locks a mutex, ignoring poisoning, because its data is valid at every moment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    const LIMITS: PrefetchLimits = PrefetchLimits {
        threads: 3,
        items: 4,
    };

    #[test]
    fn items_come_in_order_however_long_each_takes() {
        let prepare = |number: usize| {
            std::thread::sleep(Duration::from_micros((number * 7919 % 13) as u64 * 100));
            number * number
        };
        let collect = |items: &mut dyn Iterator<Item = usize>| items.collect::<Vec<_>>();
        let items = with_prefetch(40, LIMITS, prepare, collect).unwrap();
        assert_eq!(items, (0..40).map(|n| n * n).collect::<Vec<_>>());
        let items = Prefetch::start(30..40, LIMITS, move |number, _| prepare(number)).unwrap();
        assert_eq!(
            items.collect::<Vec<_>>(),
            (30..40).map(|n| n * n).collect::<Vec<_>>()
        );
        assert!(
            with_prefetch(0, LIMITS, prepare, collect)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn no_more_items_than_the_limit_are_ahead_and_leaving_early_stops_the_threads() {
        let begun = AtomicUsize::new(0);
        let prepare = |_| begun.fetch_add(1, Ordering::SeqCst);
        with_prefetch(1000, LIMITS, prepare, |items| {
            for taken in 1..=5 {
                items.next();
                std::thread::sleep(Duration::from_millis(5));
                assert!(begun.load(Ordering::SeqCst) <= taken + LIMITS.items);
            }
        })
        .unwrap();
        assert!(begun.load(Ordering::SeqCst) <= 5 + LIMITS.items);
    }

    #[test]
    fn a_panic_in_a_thread_reaches_the_consumer_and_one_in_the_consumer_ends_the_threads() {
        let in_thread = catch_unwind(|| {
            let prepare = |number| assert!(number != 3, "number 3");
            with_prefetch(10, LIMITS, prepare, |items| items.count())
        });
        let message = in_thread.unwrap_err();
        assert_eq!(message.downcast_ref::<&str>(), Some(&"number 3"));
        let in_consumer = catch_unwind(|| {
            with_prefetch(
                10,
                LIMITS,
                |number| number,
                |items| {
                    items.next();
                    panic!("enough");
                },
            )
        });
        assert!(in_consumer.is_err());
    }
}
