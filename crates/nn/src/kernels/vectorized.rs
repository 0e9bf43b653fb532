//! Loops compiled for several instruction sets, of which the best of the CPU is chosen at run time.

use std::fmt;
use std::sync::OnceLock;

use pulp::{Arch, Simd, WithSimd};

/// The environment variable that limits the instruction set of the kernels, for tests of the kernels of other CPUs
/// and to compare CPUs.
pub const MAX_CPU_ISA_VARIABLE: &str = "SEDET_MAX_CPU_ISA";

/// Asks the CPU to load the cache line that is this many elements after the beginning of `data`. That may be anywhere: nothing
/// is read.
///
/// The CPU follows contiguous streams by itself: prefetching the panels of `panels.rs` cost 2 % of a detector's time instead of saving
/// any. It does not follow rows that are several lines apart.
#[inline(always)]
pub(super) fn prefetch<T>(data: &[T], ahead: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect but on caches, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(data.as_ptr().wrapping_add(ahead).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, ahead);
}

/// A set of vector instructions for which the kernels are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What every CPU of the architecture has, as plain Rust without vectors of a known length.
    Baseline,
    /// AVX2 and FMA: vectors of 8 floats.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 (F, BW, CD, DQ, VL): vectors of 16 floats.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 with products of bf16 (AVX512-BF16), which only networks in bf16 use.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// NEON: vectors of 4 floats.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// The value of [`MAX_CPU_ISA_VARIABLE`] is not an instruction set of this architecture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MAX_CPU_ISA_VARIABLE}={value}: must be one of {}",
    InstructionSet::names()
)]
pub struct UnknownInstructionSet {
    value: String,
}

impl InstructionSet {
    /// All sets of this architecture, each of which includes those before it.
    pub const ALL: &[Self] = &[
        Self::Baseline,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512Bf16,
        #[cfg(target_arch = "aarch64")]
        Self::Neon,
    ];

    /// Returns the set that the kernels of this process use: the best that the CPU has, but not above
    /// [`MAX_CPU_ISA_VARIABLE`].
    ///
    /// # Errors
    /// The variable names no set. The kernels, which cannot refuse it, take it as not set: a program that wants to
    /// refuse it calls this function first.
    pub fn in_use() -> Result<Self, UnknownInstructionSet> {
        requested().clone().map(Self::below)
    }

    /// As [`in_use`](Self::in_use), where a variable that names no set is taken as not set.
    pub(super) fn in_effect() -> Self {
        Self::below(limit())
    }

    /// Returns the best set of this CPU that is not above `limit`.
    fn below(limit: Option<Self>) -> Self {
        let set = Self::of(arch_below(limit));
        #[cfg(target_arch = "x86_64")]
        if set == Self::Avx512
            && limit.is_none_or(|limit| limit >= Self::Avx512Bf16)
            && std::arch::is_x86_feature_detected!("avx512bf16")
        {
            return Self::Avx512Bf16;
        }
        set
    }

    fn of(arch: Arch) -> Self {
        match arch {
            #[cfg(target_arch = "x86_64")]
            Arch::V3(_) => Self::Avx2,
            #[cfg(target_arch = "x86_64")]
            Arch::V4(_) => Self::Avx512,
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(_) => Self::Neon,
            _ => Self::Baseline,
        }
    }

    fn parse(value: &str) -> Result<Self, UnknownInstructionSet> {
        let sets = Self::ALL.iter().copied();
        sets.into_iter()
            .find(|set| set.to_string().eq_ignore_ascii_case(value))
            .ok_or_else(|| UnknownInstructionSet {
                value: value.to_string(),
            })
    }

    fn names() -> String {
        let names: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
        names.join(", ")
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => "avx512bf16",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
        })
    }
}

/// Returns the limit that the environment sets, read once.
fn requested() -> &'static Result<Option<InstructionSet>, UnknownInstructionSet> {
    static LIMIT: OnceLock<Result<Option<InstructionSet>, UnknownInstructionSet>> = OnceLock::new();
    LIMIT.get_or_init(|| match std::env::var_os(MAX_CPU_ISA_VARIABLE) {
        // Empty is not set, as for other variables.
        Some(value) if !value.is_empty() => {
            InstructionSet::parse(&value.to_string_lossy()).map(Some)
        }
        _ => Ok(None),
    })
}

/// Returns the limit that the environment sets, if it names a set.
fn limit() -> Option<InstructionSet> {
    requested().as_ref().ok().copied().flatten()
}

/// Returns the instructions that the kernels of this process use.
pub(super) fn arch() -> Arch {
    arch_below(limit())
}

fn arch_below(limit: Option<InstructionSet>) -> Arch {
    match limit {
        Some(InstructionSet::Baseline) => Arch::Scalar,
        #[cfg(target_arch = "x86_64")]
        Some(InstructionSet::Avx2) => pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3),
        _ => Arch::new(),
    }
}

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

    arch().dispatch(Work(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_exceeded() {
        for limit in InstructionSet::ALL {
            assert!(InstructionSet::of(arch_below(Some(*limit))) <= *limit);
            assert!(InstructionSet::below(Some(*limit)) <= *limit);
        }
        assert_eq!(
            InstructionSet::of(arch_below(None)),
            InstructionSet::of(Arch::new())
        );
        assert!(InstructionSet::below(None) >= InstructionSet::of(Arch::new()));
    }

    #[test]
    fn names_of_instruction_sets_are_read_in_any_capitals() {
        for set in InstructionSet::ALL {
            assert_eq!(InstructionSet::parse(&set.to_string()), Ok(*set));
            let capitals = set.to_string().to_uppercase();
            assert_eq!(InstructionSet::parse(&capitals), Ok(*set));
        }
        let error = InstructionSet::parse("sse9").unwrap_err().to_string();
        assert!(error.starts_with("SEDET_MAX_CPU_ISA=sse9: must be one of baseline"));
    }

    /// Continuous integration runs the tests of the kernels with each limit; without this test it would not be noticed
    /// if the variable had no effect.
    #[test]
    fn the_environment_limits_the_kernels() {
        let limit = std::env::var(MAX_CPU_ISA_VARIABLE).unwrap_or_default();
        if !limit.is_empty() {
            let limit = InstructionSet::parse(&limit).unwrap();
            assert!(InstructionSet::in_effect() <= limit);
            assert!(InstructionSet::of(arch()) <= limit);
        }
        assert_eq!(InstructionSet::in_use(), Ok(InstructionSet::in_effect()));
    }
}
