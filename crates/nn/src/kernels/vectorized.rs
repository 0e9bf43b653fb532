//! Loops compiled for what the CPU can do.

use pulp::{Arch, Simd, WithSimd};

/// Runs `work` compiled with the vector instructions of this CPU; what it calls has to be
/// `#[inline(always)]`, and so has the closure.
///
/// `work` is an `FnMut` for a reason: a closure that is called as `FnOnce` is called through an
/// adapter that is not inlined, and then runs with the instructions that every CPU has (seen
/// in the machine code of RoIAlign and of Winograd's transforms).
#[inline(always)]
pub fn vectorized<R>(work: impl FnMut() -> R) -> R {
    struct Work<F>(F);

    impl<R, F: FnMut() -> R> WithSimd for Work<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }

    Arch::new().dispatch(Work(work))
}
