//! Loops compiled for the vector instructions of the CPU at run time.

use pulp::{Arch, Simd, WithSimd};

/// Runs `work` compiled with the vector instructions of this CPU.
///
/// The closure and every function that it calls must be `#[inline(always)]`: code that is not inlined
/// is compiled with the instructions that every CPU has.
///
/// `work` is an `FnMut` because a closure called as `FnOnce` goes through an adapter that is not
/// inlined (seen in the machine code of RoIAlign and of Winograd's transforms).
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
