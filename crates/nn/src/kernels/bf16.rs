//! The matrix product of bf16 numbers with 32-bit sums.
//!
//! A bf16 is the upper half of a 32-bit float: the same range, 8 bits of precision. AVX512-BF16 multiplies two pairs
//! of them and adds both products to a 32-bit sum in one instruction, at the rate of one 32-bit multiply-add: twice
//! the products per second (measured on an AMD EPYC: 110 against 56 GFLOP/s on a shared core), and half the memory
//! for weights and panels.
//!
//! The structure is that of `panels.rs`. A pair of bf16, of an even row and the next one, takes the
//! place of one element, so the depth is half of the number of rows; an odd last row is paired with zeros. Each sum
//! runs over the depth in order, so a result does not depend on the division into blocks.
//!
//! Rounding to bf16 is to the nearest, ties to even; numbers below the smallest normal one become zero, NaN stays NaN.

use std::cell::Cell;
use std::fmt;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::panels::{PANEL, Sink};
use super::vectorized::InstructionSet;

/// The precision of the multiplications of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputePrecision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bf16 with 32-bit sums in the convolutions and layers where that is faster, and 32-bit floats elsewhere: feature
    /// maps, norms, SE gates, box arithmetic and softmax.
    Bf16,
}

thread_local! {
    static AUTOCAST: Cell<ComputePrecision> = const { Cell::new(ComputePrecision::F32) };
}

/// Runs `compute` with this precision for the convolutions and linear layers that it calls on this thread, and for their
/// gradients, on whatever thread those are computed. Where the precision is not available, it is that of 32-bit floats.
///
/// This is PyTorch's `autocast`: weights and feature maps stay 32-bit floats, so a training needs no scaling of its
/// losses. What a convolution keeps of its input for the backward pass is bf16. Layers with [kept weights](super::conv2d::PackedWeights) have the precision of those.
///
/// Calls can be nested; the innermost decides. A thread of rayon's pool that waits in `compute` may run other tasks
/// meanwhile: a task that calls networks has to begin with a call of its own.
pub fn autocast<R>(precision: ComputePrecision, compute: impl FnOnce() -> R) -> R {
    struct Restore(ComputePrecision);
    impl Drop for Restore {
        fn drop(&mut self) {
            AUTOCAST.set(self.0);
        }
    }
    let _restore = Restore(AUTOCAST.replace(precision.or_f32()));
    compute()
}

impl ComputePrecision {
    /// Returns whether the kernels of this CPU multiply in this precision. Those of bf16 need AVX512-BF16.
    pub fn is_available(self) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => Bf16Cpu::get().is_some(),
        }
    }

    /// Returns the precision of [`autocast`] on this thread.
    pub(crate) fn of_autocast() -> Self {
        AUTOCAST.get()
    }

    /// Returns the proof that this CPU multiplies bf16, if this is the precision.
    pub(super) fn bf16(self) -> Option<Bf16Cpu> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Bf16Cpu::get(),
        }
    }

    /// Returns whether this is the default.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// Returns this precision if it [is available](Self::is_available), and 32-bit floats otherwise.
    #[must_use]
    pub fn or_f32(self) -> Self {
        if self.is_available() { self } else { Self::F32 }
    }
}

impl fmt::Display for ComputePrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// Two bf16: that of the even row in the lower half, that of the odd row in the upper half.
pub(super) type Pair = u32;

/// Rows of a block of a left matrix. With 3 vectors of columns they are 24 sums, which with 3 vectors of the right
/// matrix and one pair fit into the 32 registers of AVX-512.
pub(super) const ROWS: usize = 8;

/// Elements whose signs are the bits of a number, those of a vector.
pub(super) const SIGNS: usize = 16;

/// The proof that the CPU has AVX512-BF16 and that its use is not limited by the environment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bf16Cpu {
    #[cfg(target_arch = "x86_64")]
    simd: pulp::x86::V4,
    #[cfg(not(target_arch = "x86_64"))]
    never: std::convert::Infallible,
}

/// A left matrix of pairs of neighboring columns.
#[derive(Clone, Copy)]
pub(super) enum PairLeft<'a> {
    /// Blocks of [`ROWS`] rows in the order of [`Bf16Cpu::pack`], `stride` pairs apart.
    Packed { data: &'a [Pair], stride: usize },
    /// Contiguous rows, `stride` pairs apart.
    Rows { data: &'a [Pair], stride: usize },
}

/// A right matrix in panels of [`PANEL`] columns of pairs, `[columns / PANEL, depth, PANEL]`. Missing columns of the
/// last panel may have any values.
#[derive(Clone, Copy)]
pub(super) struct PairPanels<'a> {
    pub(super) data: &'a [Pair],
    /// Pairs of rows of a panel.
    pub(super) depth: usize,
    pub(super) columns: usize,
}

impl Bf16Cpu {
    /// Returns the proof, if the CPU has the instructions.
    pub(super) fn get() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let has_it = InstructionSet::in_effect() >= InstructionSet::Avx512Bf16;
            let simd = has_it.then(pulp::x86::V4::try_new).flatten()?;
            Some(Self { simd })
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = InstructionSet::in_effect();
            None
        }
    }

    /// Writes the pairs of an even row and the odd row after it, which may be missing.
    ///
    /// # Panics
    /// If the rows and `pairs` have different lengths.
    #[inline]
    pub(super) fn pair(self, even: &[f32], odd: Option<&[f32]>, pairs: &mut [Pair]) {
        assert!(even.len() == pairs.len() && odd.is_none_or(|odd| odd.len() == pairs.len()));
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            x86::pair(even, odd, pairs);
        }
        #[cfg(not(target_arch = "x86_64"))]
        match self.never {}
    }

    /// Copies a matrix `[rows, columns]` to blocks of [`ROWS`] rows in which the pairs of a column are contiguous,
    /// `[rows / ROWS, columns / 2, ROWS]`: a left matrix for [`multiply`](Self::multiply). Missing rows of the last
    /// block are zeros.
    pub(super) fn pack(self, matrix: &[f32], rows: usize, columns: usize) -> Vec<Pair> {
        let of_block = columns.div_ceil(2) * ROWS;
        let mut packed = vec![0; rows.div_ceil(ROWS) * of_block];
        packed
            .par_chunks_mut(of_block.max(1))
            .zip(matrix.par_chunks((ROWS * columns).max(1)))
            .with_min_len(4)
            .for_each(|(packed, rows)| self.pack_block(rows, columns, packed));
        packed
    }

    /// Copies the rows of one block to its pairs, of which those of missing rows are zeros.
    fn pack_block(self, rows: &[f32], columns: usize, packed: &mut [Pair]) {
        /// Pairs of a row that are computed at a time, on the stack.
        const PART: usize = 512;
        let mut line = [0; PART];
        for (r, row) in rows.chunks_exact(columns.max(1)).enumerate() {
            for (part, values) in row.chunks(2 * PART).enumerate() {
                let pairs = &mut line[..values.len().div_ceil(2)];
                self.pair_neighbors(values, pairs);
                let at = part * PART * ROWS + r;
                for (to, pair) in packed[at..].iter_mut().step_by(ROWS).zip(pairs) {
                    *to = *pair;
                }
            }
        }
    }

    /// Copies a matrix `[rows, columns]` to panels of `width` columns of pairs of two rows, `[columns / width,
    /// rows / 2, width]`, with zeros in the missing columns of the last panel: with [`PANEL`] columns a right matrix, with
    /// [`ROWS`] the left matrix that is the transpose.
    pub(super) fn panels(
        self,
        matrix: &[f32],
        [rows, columns]: [usize; 2],
        width: usize,
    ) -> Vec<Pair> {
        let depth = rows.div_ceil(2);
        let mut panels = vec![0; columns.div_ceil(width) * depth * width];
        panels
            .par_chunks_mut((depth * width).max(1))
            .enumerate()
            .with_min_len(PANEL / width)
            .for_each(|(index, panel)| {
                let part = index * width..((index + 1) * width).min(columns);
                let pairs_of_rows = matrix.chunks((2 * columns).max(1));
                for (line, rows) in panel.chunks_exact_mut(width).zip(pairs_of_rows) {
                    let (even, odd) = rows.split_at(columns);
                    let odd = (!odd.is_empty()).then(|| &odd[part.clone()]);
                    self.pair(&even[part.clone()], odd, &mut line[..part.len()]);
                }
            });
        panels
    }

    /// Copies the rows of a matrix, at most [`PANEL`], to the columns of a panel of a right matrix, which is its transpose.
    /// The missing columns keep their values.
    pub(super) fn transpose<'a>(self, rows: impl Iterator<Item = &'a [f32]>, panel: &mut [Pair]) {
        /// Pairs of a row that are computed at a time, on the stack.
        const PART: usize = 64;
        let mut line = [0; PART];
        let (lines, _) = panel.as_chunks_mut::<PANEL>();
        for (column, row) in rows.enumerate() {
            for (lines, values) in lines.chunks_mut(PART).zip(row.chunks(2 * PART)) {
                let pairs = &mut line[..values.len().div_ceil(2)];
                self.pair_neighbors(values, pairs);
                for (to, pair) in lines.iter_mut().zip(pairs) {
                    to[column] = *pair;
                }
            }
        }
    }

    /// Writes the pairs of elements 0 and 1, 2 and 3 and so on. A missing last element is zero.
    pub(super) fn pair_neighbors(self, values: &[f32], pairs: &mut [Pair]) {
        assert_eq!(values.len().div_ceil(2), pairs.len());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            x86::pair_neighbors(values, pairs);
        }
        #[cfg(not(target_arch = "x86_64"))]
        match self.never {}
    }

    /// Writes for each value whether it is positive, [`SIGNS`] bits in a number, the first in the lowest. Missing ones are zero.
    ///
    /// # Panics
    /// If `bits` has not a [`SIGNS`]th of the elements, rounded up.
    pub(super) fn signs(self, values: &[f32], bits: &mut [u16]) {
        assert_eq!(values.len().div_ceil(SIGNS), bits.len());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            x86::signs(values, bits);
        }
        #[cfg(not(target_arch = "x86_64"))]
        match self.never {}
    }

    /// Writes the values whose bit, in the order of [`signs`](Self::signs), is set, and zeros for the others.
    ///
    /// # Panics
    /// If the slices have different lengths, or there are too few bits.
    pub(super) fn select(self, bits: &[u16], values: &[f32], selected: &mut [f32]) {
        assert_eq!(values.len(), selected.len());
        assert!(bits.len() >= values.len().div_ceil(SIGNS));
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            x86::select(bits, values, selected);
        }
        #[cfg(not(target_arch = "x86_64"))]
        match self.never {}
    }

    /// Multiplies a left matrix of `rows` rows by `right` and passes the product to `sink`. As many columns of the left
    /// matrix are read as `right` has rows.
    ///
    /// # Panics
    /// If a matrix has fewer elements than its size requires.
    pub(super) fn multiply(
        self,
        left: PairLeft<'_>,
        rows: usize,
        right: PairPanels<'_>,
        sink: &mut impl Sink,
    ) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            x86::multiply(self.simd, left, rows, right, sink);
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (left, rows, right, sink);
            match self.never {}
        }
    }
}

/// The functions that are compiled with AVX512-BF16.
///
/// They use loops instead of closures: a closure is compiled without these instructions where it is not inlined.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256bh, __m256i, __m512, __m512bh, __m512i, _CMP_GT_OQ, _mm512_cmp_ps_mask,
        _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_dpbf16_ps,
        _mm512_loadu_ps, _mm512_loadu_si512, _mm512_maskz_mov_ps, _mm512_or_si512,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps,
        _mm512_storeu_si512,
    };
    use std::mem::transmute;

    use pulp::Simd as _;
    use pulp::x86::V4;

    use super::{PANEL, Pair, PairLeft, PairPanels, ROWS, Sink};

    /// Floats of a vector.
    const LANES: usize = 16;
    /// Vectors of columns in a block; see [`ROWS`].
    const VECTORS: usize = PANEL / LANES;

    /// The slices have equal lengths.
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
    pub(super) fn pair(even: &[f32], odd: Option<&[f32]>, pairs: &mut [Pair]) {
        const ZEROS: [f32; LANES] = [0.0; LANES];
        let whole = pairs.len() / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            let odd = odd.map_or(ZEROS.as_ptr(), |odd| odd[at..at + LANES].as_ptr());
            // SAFETY: both pointers are to `LANES` floats, and `pairs` has `LANES` elements from `at` on.
            unsafe {
                let pair = interleave(even[at..at + LANES].as_ptr(), odd);
                _mm512_storeu_si512(pairs[at..at + LANES].as_mut_ptr().cast(), pair);
            }
        }
        let rest = pairs.len() - whole;
        if rest > 0 {
            let (mut last_even, mut last_odd) = (ZEROS, ZEROS);
            let mut last = [0; LANES];
            last_even[..rest].copy_from_slice(&even[whole..]);
            if let Some(odd) = odd {
                last_odd[..rest].copy_from_slice(&odd[whole..]);
            }
            // SAFETY: all three are arrays of `LANES` elements.
            unsafe {
                let pair = interleave(last_even.as_ptr(), last_odd.as_ptr());
                _mm512_storeu_si512(last.as_mut_ptr().cast(), pair);
            }
            pairs[whole..].copy_from_slice(&last[..rest]);
        }
    }

    /// Rounds two vectors to bf16 and combines them to pairs.
    ///
    /// # Safety
    /// The pointers are to [`LANES`] floats.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
    unsafe fn interleave(even: *const f32, odd: *const f32) -> __m512i {
        // SAFETY: the caller promises the pointers. The transmutations are between types of the same bits.
        unsafe {
            let even = _mm512_cvtneps_pbh(_mm512_loadu_ps(even));
            let odd = _mm512_cvtneps_pbh(_mm512_loadu_ps(odd));
            let even = _mm512_cvtepu16_epi32(transmute::<__m256bh, __m256i>(even));
            let odd = _mm512_cvtepu16_epi32(transmute::<__m256bh, __m256i>(odd));
            _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd))
        }
    }

    /// `pairs` has half as many elements as `values`, rounded up.
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
    pub(super) fn pair_neighbors(values: &[f32], pairs: &mut [Pair]) {
        let (blocks, rest) = values.as_chunks::<{ 2 * LANES }>();
        for (at, block) in blocks.iter().enumerate() {
            // SAFETY: the block has two vectors, and `pairs` has one for it.
            unsafe {
                let low = _mm512_loadu_ps(block.as_ptr());
                let high = _mm512_loadu_ps(block[LANES..].as_ptr());
                let both: __m512i = transmute(_mm512_cvtne2ps_pbh(high, low));
                let to = &mut pairs[at * LANES..(at + 1) * LANES];
                _mm512_storeu_si512(to.as_mut_ptr().cast(), both);
            }
        }
        if !rest.is_empty() {
            let mut last = [0.0; 2 * LANES];
            last[..rest.len()].copy_from_slice(rest);
            let mut last_pairs = [0; LANES];
            pair_neighbors(&last, &mut last_pairs);
            let pairs = &mut pairs[blocks.len() * LANES..];
            pairs.copy_from_slice(&last_pairs[..pairs.len()]);
        }
    }

    /// `bits` has one number for each vector of `values`, rounded up.
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
    pub(super) fn signs(values: &[f32], bits: &mut [u16]) {
        let (vectors, rest) = values.as_chunks::<LANES>();
        for (vector, bits) in vectors.iter().zip(bits.iter_mut()) {
            // SAFETY: `vector` is an array of the size of a vector.
            let vector = unsafe { _mm512_loadu_ps(vector.as_ptr()) };
            *bits = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(vector, _mm512_setzero_ps());
        }
        if !rest.is_empty() {
            let positive = rest.iter().enumerate().filter(|(_, value)| **value > 0.0);
            bits[vectors.len()] = positive.map(|(lane, _)| 1 << lane).sum();
        }
    }

    /// `values` and `selected` have the same length, and `bits` one number for each of their vectors.
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
    pub(super) fn select(bits: &[u16], values: &[f32], selected: &mut [f32]) {
        let (vectors, rest) = values.as_chunks::<LANES>();
        let (selected, selected_rest) = selected.as_chunks_mut::<LANES>();
        for ((vector, selected), bits) in vectors.iter().zip(selected).zip(bits) {
            // SAFETY: both are arrays of the size of a vector.
            unsafe {
                let vector = _mm512_loadu_ps(vector.as_ptr());
                let vector = _mm512_maskz_mov_ps(*bits, vector);
                _mm512_storeu_ps(selected.as_mut_ptr(), vector);
            }
        }
        for (lane, (value, selected)) in rest.iter().zip(selected_rest).enumerate() {
            let is_set = bits[vectors.len()] >> lane & 1 == 1;
            *selected = if is_set { *value } else { 0.0 };
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
    pub(super) fn multiply(
        simd: V4,
        left: PairLeft<'_>,
        rows: usize,
        right: PairPanels<'_>,
        sink: &mut impl Sink,
    ) {
        let depth = right.depth;
        for row in (0..rows).step_by(ROWS) {
            let count = (rows - row).min(ROWS);
            match left {
                PairLeft::Packed { data, stride } => {
                    let (columns, _) = data[row / ROWS * stride..][..depth * ROWS].as_chunks();
                    blocks(simd, Columns(columns), (row, count), right, sink);
                }
                PairLeft::Rows { data, stride } => {
                    let mut lines = [&data[..0]; ROWS];
                    for (r, line) in lines.iter_mut().enumerate() {
                        // Missing rows are computed from the last one and dropped.
                        *line = &data[(row + r.min(count - 1)) * stride..][..depth];
                    }
                    blocks(simd, Lines(lines), (row, count), right, sink);
                }
            }
        }
    }

    /// A block of rows of the left matrix.
    trait LeftBlock: Copy {
        /// Returns the pairs of all rows at a depth.
        fn column(&self, depth: usize) -> [Pair; ROWS];
    }

    #[derive(Clone, Copy)]
    struct Columns<'a>(&'a [[Pair; ROWS]]);

    impl LeftBlock for Columns<'_> {
        #[inline(always)]
        fn column(&self, depth: usize) -> [Pair; ROWS] {
            self.0[depth]
        }
    }

    #[derive(Clone, Copy)]
    struct Lines<'a>([&'a [Pair]; ROWS]);

    impl LeftBlock for Lines<'_> {
        #[inline(always)]
        fn column(&self, depth: usize) -> [Pair; ROWS] {
            let mut column = [0; ROWS];
            for (pair, line) in column.iter_mut().zip(self.0) {
                *pair = line[depth];
            }
            column
        }
    }

    /// Multiplies a block of rows by all columns.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
    fn blocks(
        simd: V4,
        left: impl LeftBlock,
        (row, count): (usize, usize),
        right: PairPanels<'_>,
        sink: &mut impl Sink,
    ) {
        let depth = right.depth;
        for column in (0..right.columns).step_by(PANEL) {
            let (panel, _) = right.data[column * depth..][..depth * PANEL].as_chunks::<PANEL>();
            let at = (row, count, column);
            match (right.columns - column).div_ceil(LANES) {
                1 => block::<1>(simd, left, panel, at, sink),
                2 => block::<2>(simd, left, panel, at, sink),
                _ => block::<VECTORS>(simd, left, panel, at, sink),
            }
        }
    }

    /// Multiplies a block of rows by `V` vectors of columns, with all sums in registers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
    fn block<const V: usize>(
        simd: V4,
        left: impl LeftBlock,
        panel: &[[Pair; PANEL]],
        (row, count, column): (usize, usize, usize),
        sink: &mut impl Sink,
    ) {
        let mut sums = [[_mm512_setzero_ps(); V]; ROWS];
        for (depth, line) in panel.iter().enumerate() {
            let left = left.column(depth);
            let mut vectors = [_mm512_set1_epi32(0); V];
            for (vector, line) in vectors.iter_mut().zip(line.as_chunks::<LANES>().0) {
                // SAFETY: `line` is an array of the size of a vector.
                *vector = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
            }
            for r in 0..ROWS {
                let factor = _mm512_set1_epi32(left[r].cast_signed());
                // SAFETY: the transmutation is between types of the same bits.
                let factor: __m512bh = unsafe { transmute(factor) };
                for v in 0..V {
                    // SAFETY: as above.
                    let vector: __m512bh = unsafe { transmute(vectors[v]) };
                    sums[r][v] = _mm512_dpbf16_ps(sums[r][v], factor, vector);
                }
            }
        }
        for (r, sums) in sums.iter().take(count).enumerate() {
            let mut vectors = [simd.splat_f32s(0.0); V];
            for (vector, sum) in vectors.iter_mut().zip(sums) {
                // SAFETY: both types are sixteen floats.
                *vector = unsafe { transmute::<__m512, pulp::f32x16>(*sum) };
            }
            sink.take(simd, row + r, column, vectors);
        }
    }
}
