//! Recording of gates and feature maps of SE units, and forward passes with other gates.
//!
//! Inside [`record`], every [`SeUnit`](super::se::SeUnit) that runs on this thread is recorded, in the
//! order of the forward pass; inside [`edit_gates`] it applies other gates than its own. Networks need no support
//! for either. Outside, a unit checks two thread-local flags.

use std::cell::RefCell;

use super::norm::{SharedPass, replace_shared};
use burn::tensor::{Device, Tensor};

use crate::kernels::bf16::{ComputePrecision, autocast};

/// The amount of data recorded for each unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The gates.
    Gates,
    /// The gates, and the feature maps before and after them. Keeps all these feature maps in memory.
    GatesAndFeatureMaps,
}

/// The record of one unit in one forward pass.
#[derive(Debug, Clone)]
pub struct RecordedUnit {
    /// `[batch, channels, 1, 1]`, or `[batch, channels, height, width]` for a unit without squeeze.
    pub gates: Tensor<4>,
    /// With [`Depth::GatesAndFeatureMaps`].
    pub feature_maps: Option<ScaledFeatureMaps>,
}

/// Input and output of a unit, `[batch, channels, height, width]`.
#[derive(Debug, Clone)]
pub struct ScaledFeatureMaps {
    /// The input.
    pub before: Tensor<4>,
    /// The input times the gates.
    pub after: Tensor<4>,
}

struct Recorder {
    depth: Depth,
    units: Vec<RecordedUnit>,
}

/// The function of [`edit_gates`].
type Edit = Box<dyn FnMut(usize, Tensor<4>) -> Tensor<4> + Send>;

struct Editor {
    edit: Edit,
    /// The number of units that have run.
    units: usize,
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
    static EDITOR: RefCell<Option<Editor>> = const { RefCell::new(None) };
}

/// Removes the recorder when dropped, also when a forward pass panics.
struct Session {
    outer: Option<Recorder>,
}

impl Session {
    fn begin(depth: Depth) -> Self {
        let recorder = Recorder {
            depth,
            units: Vec::new(),
        };
        Self {
            outer: RECORDER.replace(Some(recorder)),
        }
    }

    fn end(mut self) -> Vec<RecordedUnit> {
        let recorder = RECORDER.replace(self.outer.take());
        // The outer recorder is restored already.
        std::mem::forget(self);
        recorder.map_or_else(Vec::new, |recorder| recorder.units)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        RECORDER.set(self.outer.take());
    }
}

/// Runs `work` on this thread and returns its result and the record of every SE unit in order.
///
/// A recording inside another one takes its units for itself.
pub fn record<T>(depth: Depth, work: impl FnOnce() -> T) -> (T, Vec<RecordedUnit>) {
    let session = Session::begin(depth);
    let result = work();
    (result, session.end())
}

/// Restores the outer editor when dropped, also when a forward pass panics.
struct Editing {
    outer: Option<Editor>,
}

impl Drop for Editing {
    fn drop(&mut self) {
        EDITOR.set(self.outer.take());
    }
}

/// Runs `work` on this thread with other gates: `edit` receives the number of each SE unit in the order of its calls,
/// from 0, and its gates, and returns the gates that it applies. A recording has these.
///
/// This is how gates become variables of a gradient (`edit` adds zeros that require one), and how a channel is switched
/// off (`edit` replaces its gate). Inside another call, only the inner function is applied.
///
/// # Shapes
/// `edit` receives and returns gates as in [`RecordedUnit::gates`].
pub fn edit_gates<T>(
    edit: impl FnMut(usize, Tensor<4>) -> Tensor<4> + Send + 'static,
    work: impl FnOnce() -> T,
) -> T {
    let editor = Editor {
        edit: Box::new(edit),
        units: 0,
    };
    let _editing = Editing {
        outer: EDITOR.replace(Some(editor)),
    };
    work()
}

/// Returns the gates that a unit applies, given those that it has computed.
pub(super) fn edited(gates: Tensor<4>) -> Tensor<4> {
    EDITOR.with_borrow_mut(|editor| match editor {
        Some(editor) => {
            let unit = editor.units;
            editor.units += 1;
            (editor.edit)(unit, gates)
        }
        None => gates,
    })
}

/// Runs a forward pass on a thread of rayon's pool, where the CPU kernels compute, with the recording, the
/// [`edit_gates`], the [`autocast`] and the [`keeping_statistics`](super::norm::keeping_statistics) of this thread. On other devices than the CPU, `work` runs on this thread.
///
/// A kernel that is called from outside of the pool wakes a thread of the pool and is woken by it: 20 us for
/// each of the hundred kernels of a classifier, measured with two threads.
pub fn on_thread_pool<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    if *device != Device::flex() {
        return work();
    }
    let own = (RECORDER.take(), EDITOR.take());
    let shared = replace_shared(SharedPass::default());
    let precision = ComputePrecision::of_autocast();
    let (result, (recorder, editor), shared) = rayon::scope(|_| {
        // This may be the calling thread, or one that waits inside of another recording or autocast.
        let outer = (RECORDER.replace(own.0), EDITOR.replace(own.1));
        let outer_shared = replace_shared(shared);
        let result = autocast(precision, work);
        let own = (RECORDER.replace(outer.0), EDITOR.replace(outer.1));
        (result, own, replace_shared(outer_shared))
    });
    RECORDER.set(recorder);
    EDITOR.set(editor);
    replace_shared(shared);
    result
}

/// Adds a unit to the recording, if there is one. `before` and `after` are the feature maps before and
/// after the gates, if [`needs_feature_maps`].
pub(super) fn add(gates: Tensor<4>, before: Option<Tensor<4>>, after: Option<&Tensor<4>>) {
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(recorder) = recorder {
            let feature_maps = before.zip(after).map(|(before, after)| ScaledFeatureMaps {
                before,
                after: after.clone(),
            });
            recorder.units.push(RecordedUnit {
                gates,
                feature_maps,
            });
        }
    });
}

/// Returns whether feature maps are recorded.
pub(super) fn needs_feature_maps() -> bool {
    RECORDER.with_borrow(|recorder| {
        let depth = recorder.as_ref().map(|recorder| recorder.depth);
        depth == Some(Depth::GatesAndFeatureMaps)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::se::SeConfig;
    use burn::tensor::Distribution;

    fn unit_and_feature_map() -> (crate::nn::se::SeUnit, Tensor<4>) {
        let device = Device::flex();
        let unit = SeConfig::new(2).init(4, &device);
        let x = Tensor::random([2, 4, 3, 5], Distribution::Normal(0.0, 1.0), &device);
        (unit, x)
    }

    #[test]
    fn a_recording_follows_its_work_to_the_thread_pool() {
        let (unit, x) = unit_and_feature_map();
        let outside = std::thread::current().id();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        let ((), inside) = record(Depth::Gates, || {
            unit.forward(x.clone());
            on_thread_pool(&Device::flex(), || {
                assert_ne!(std::thread::current().id(), outside);
                unit.forward(x.clone());
            });
            unit.forward(x.clone());
        });
        assert_eq!(inside.len(), 3);
        // A thread of a pool does not leave it, and its recording goes on.
        let count = pool.install(|| {
            let here = std::thread::current().id();
            let ((), units) = record(Depth::Gates, || {
                on_thread_pool(&Device::flex(), || {
                    assert_eq!(std::thread::current().id(), here);
                    unit.forward(x.clone());
                });
            });
            units.len()
        });
        assert_eq!(count, 1);
    }

    #[test]
    fn a_recording_has_every_unit_in_order_and_ends_with_its_closure() {
        let (unit, x) = unit_and_feature_map();
        let (after, recorded) = record(Depth::GatesAndFeatureMaps, || {
            let once = unit.forward(x.clone());
            unit.forward(once)
        });
        assert_eq!(recorded.len(), 2);
        assert_eq!(recorded[0].gates.dims(), [2, 4, 1, 1]);
        let first = recorded[0].feature_maps.clone().unwrap();
        let product = first.before * recorded[0].gates.clone();
        assert_eq!(product.into_data(), first.after.into_data());
        let last = recorded[1].feature_maps.clone().unwrap().after;
        assert_eq!(last.into_data(), after.into_data());
        unit.forward(x.clone());
        let ((), recorded) = record(Depth::Gates, || {
            unit.forward(x);
        });
        assert_eq!(recorded.len(), 1);
        assert!(recorded[0].feature_maps.is_none());
    }

    #[test]
    fn edited_gates_are_applied_on_any_thread_and_recorded() {
        let (unit, x) = unit_and_feature_map();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        let own = unit.gates(x.clone());
        let work = || {
            unit.forward(x.clone());
            on_thread_pool(&Device::flex(), || unit.forward(x.clone()))
        };
        let edit = |unit: usize, gates: Tensor<4>| gates + unit as f32;
        let (after, recorded) = record(Depth::Gates, || edit_gates(edit, work));
        let [first, second] = [&recorded[0], &recorded[1]].map(|unit| unit.gates.clone());
        assert_eq!(first.into_data(), own.clone().into_data());
        let expected = own.clone() + 1.0;
        assert_eq!(second.into_data(), expected.clone().into_data());
        assert_eq!(
            after.into_data(),
            (x.clone() * expected.clone()).into_data()
        );
        // A thread of a pool does not leave it.
        let inside = pool.install(|| edit_gates(edit, work));
        assert_eq!(inside.into_data(), (x.clone() * expected).into_data());
        assert_eq!(
            unit.forward(x.clone()).into_data(),
            (x * own).into_data(),
            "the end of the closure"
        );
        let panicked = std::panic::catch_unwind(|| edit_gates(edit, || panic!("on purpose")));
        assert!(panicked.is_err());
        assert!(EDITOR.with_borrow(Option::is_none));
    }

    #[test]
    fn a_nested_recording_is_separate_and_a_panic_ends_it() {
        let (unit, x) = unit_and_feature_map();
        let ((), outer) = record(Depth::Gates, || {
            let ((), inner) = record(Depth::Gates, || {
                unit.forward(x.clone());
            });
            assert_eq!(inner.len(), 1);
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                record(Depth::Gates, || panic!("on purpose"))
            }));
            assert!(panicked.is_err());
            unit.forward(x.clone());
        });
        assert_eq!(outer.len(), 1);
        assert!(RECORDER.with_borrow(Option::is_none));
    }
}
