//! Looking at SE units while a network computes.
//!
//! The networks know nothing of it: inside of [`record`], every [`SeUnit`](super::se::SeUnit) that
//! this thread runs notes what it did, in the order of the forward pass. Outside, noting costs the
//! look at one flag.

use std::cell::RefCell;

use burn::tensor::Tensor;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The gates.
    Gates,
    /// Also the maps before and after they were applied: as much memory as the maps themselves.
    GatesAndMaps,
}

/// What one unit did in one forward pass.
#[derive(Debug, Clone)]
pub struct RecordedUnit {
    /// `[batch, channels, 1, 1]`, or `[batch, channels, height, width]` of a unit that does not
    /// squeeze.
    pub gates: Tensor<4>,
    /// With [`Depth::GatesAndMaps`].
    pub maps: Option<ScaledMaps>,
}

/// The map that a unit was given, and what it made of it: `[batch, channels, height, width]`.
#[derive(Debug, Clone)]
pub struct ScaledMaps {
    /// Its input.
    pub before: Tensor<4>,
    /// Its output.
    pub after: Tensor<4>,
}

struct Recorder {
    depth: Depth,
    units: Vec<RecordedUnit>,
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Takes the recorder away again, also when a forward pass panics.
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
        // Nothing is left for the destructor to put back.
        std::mem::forget(self);
        recorder.map_or_else(Vec::new, |recorder| recorder.units)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        RECORDER.set(self.outer.take());
    }
}

/// Do `work` on this thread and return what every SE unit did meanwhile, in order.
pub fn record<T>(depth: Depth, work: impl FnOnce() -> T) -> (T, Vec<RecordedUnit>) {
    let session = Session::begin(depth);
    let result = work();
    (result, session.end())
}

/// A unit has computed these gates. `before` is the map they were applied to and `after` what came
/// of it, where [`wants_maps`] says so.
pub(super) fn note(gates: Tensor<4>, before: Option<Tensor<4>>, after: Option<&Tensor<4>>) {
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(recorder) = recorder {
            let maps = before.zip(after).map(|(before, after)| ScaledMaps {
                before,
                after: after.clone(),
            });
            recorder.units.push(RecordedUnit { gates, maps });
        }
    });
}

/// Whether somebody wants the maps.
pub(super) fn wants_maps() -> bool {
    RECORDER.with_borrow(|recorder| {
        let depth = recorder.as_ref().map(|recorder| recorder.depth);
        depth == Some(Depth::GatesAndMaps)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::se::SeConfig;
    use burn::tensor::{Device, Distribution};

    fn unit_and_map() -> (crate::nn::se::SeUnit, Tensor<4>) {
        let device = Device::flex();
        let unit = SeConfig::new(2).init(4, &device);
        let map = Tensor::random([2, 4, 3, 5], Distribution::Normal(0.0, 1.0), &device);
        (unit, map)
    }

    #[test]
    fn a_recording_holds_every_unit_in_order_and_ends_with_its_work() {
        let (unit, map) = unit_and_map();
        let (after, recorded) = record(Depth::GatesAndMaps, || {
            let once = unit.forward(map.clone());
            unit.forward(once)
        });
        assert_eq!(recorded.len(), 2);
        assert_eq!(recorded[0].gates.dims(), [2, 4, 1, 1]);
        let maps = recorded[0].maps.clone().unwrap();
        let product = maps.before * recorded[0].gates.clone();
        assert_eq!(product.into_data(), maps.after.into_data());
        let last = recorded[1].maps.clone().unwrap().after;
        assert_eq!(last.into_data(), after.into_data());
        unit.forward(map.clone());
        let ((), recorded) = record(Depth::Gates, || {
            unit.forward(map);
        });
        assert_eq!(recorded.len(), 1);
        assert!(recorded[0].maps.is_none());
    }

    #[test]
    fn an_inner_recording_takes_its_units_for_itself_and_a_panic_ends_it() {
        let (unit, map) = unit_and_map();
        let ((), outer) = record(Depth::Gates, || {
            let ((), inner) = record(Depth::Gates, || {
                unit.forward(map.clone());
            });
            assert_eq!(inner.len(), 1);
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                record(Depth::Gates, || panic!("on purpose"))
            }));
            assert!(panicked.is_err());
            unit.forward(map.clone());
        });
        assert_eq!(outer.len(), 1);
        assert!(RECORDER.with_borrow(Option::is_none));
    }
}
