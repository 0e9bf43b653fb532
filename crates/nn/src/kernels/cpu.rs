//! Tools of the CPU kernels: output buffers that are not zeroed first, scratch memory that each thread
//! keeps, matrix products on parts of buffers, and sums in a fixed order.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};
use pulp::Simd;
use rayon::prelude::*;

/// The least number of elements of a task in an element-wise pass: 64 KiB per tensor, which take
/// several microseconds, against which starting a task costs little.
pub(super) const ELEMENTS_PER_TASK: usize = 16 * 1024;

/// Returns whether the CPU kernels can take these tensors. Others take the portable form.
pub(super) fn all_f32<'a>(tensors: impl IntoIterator<Item = &'a FlexTensor>) -> bool {
    let mut tensors = tensors.into_iter();
    tensors.all(|tensor| tensor.dtype() == DType::F32)
}

/// A tensor of 32-bit floats whose elements are in row-major order without gaps.
pub(super) struct Contiguous(FlexTensor);

impl Contiguous {
    pub(super) fn new(tensor: FlexTensor) -> Self {
        Self(tensor.to_contiguous())
    }

    pub(super) fn data(&self) -> &[f32] {
        let elements = self.0.layout().num_elements();
        &self.0.storage::<f32>()[..elements]
    }
}

/// Returns the shape of a tensor that the caller knows to have `N` dimensions.
pub(super) fn dims<const N: usize>(tensor: &FlexTensor) -> [usize; N] {
    tensor.shape().dims::<N>()
}

/// An allocated buffer that is not initialized.
///
/// Zeroing a buffer that is overwritten anyway costs a pass over memory, about as much as a whole
/// element-wise kernel.
pub(super) struct Output {
    buffer: Vec<f32>,
    elements: usize,
}

impl Output {
    pub(super) fn new(elements: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(elements),
            elements,
        }
    }

    /// Returns the elements for writing.
    pub(super) fn slots(&mut self) -> &mut [MaybeUninit<f32>] {
        &mut self.buffer.spare_capacity_mut()[..self.elements]
    }

    /// Returns a handle through which several tasks write their own parts.
    pub(super) fn shared(&mut self) -> SharedOutput<'_> {
        SharedOutput {
            start: self.buffer.as_mut_ptr(),
            elements: self.elements,
            owner: PhantomData,
        }
    }

    /// Returns the initialized buffer.
    ///
    /// # Safety
    /// Every element has been written.
    pub(super) unsafe fn into_vec(mut self) -> Vec<f32> {
        // SAFETY: the capacity is at least `elements`, and the caller has written them all.
        unsafe { self.buffer.set_len(self.elements) };
        self.buffer
    }

    /// Returns the initialized buffer as a tensor.
    ///
    /// # Safety
    /// Every element has been written.
    pub(super) unsafe fn into_tensor<const N: usize>(self, shape: [usize; N]) -> FlexTensor {
        // SAFETY: passed on to the caller.
        tensor(unsafe { self.into_vec() }, shape)
    }
}

/// Returns a tensor that owns `data`.
pub(super) fn tensor<const N: usize>(data: Vec<f32>, shape: [usize; N]) -> FlexTensor {
    assert_eq!(
        data.len(),
        shape.iter().product::<usize>(),
        "shape {shape:?}"
    );
    FlexTensor::new(
        Bytes::from_elems(data),
        Layout::contiguous(Shape::from(shape)),
        DType::F32,
    )
}

/// A buffer that tasks on several threads write, each its own elements.
///
/// The parts of two tasks may interleave (the same columns of every row), which slices cannot
/// express. Hence the pointer.
#[derive(Clone, Copy)]
pub(super) struct SharedOutput<'a> {
    start: *mut f32,
    elements: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: the handle only gives out pointers; whoever writes through them promises (in an `unsafe`
// block) that no other task touches the same elements.
unsafe impl Send for SharedOutput<'_> {}
unsafe impl Sync for SharedOutput<'_> {}

impl<'a> SharedOutput<'a> {
    /// Returns the handle of a buffer that is already initialized.
    pub(super) fn of(buffer: &'a mut [f32]) -> Self {
        Self {
            start: buffer.as_mut_ptr(),
            elements: buffer.len(),
            owner: PhantomData,
        }
    }

    /// Writes vectors from `start` on.
    ///
    /// # Safety
    /// No other task touches these elements.
    #[inline(always)]
    pub(super) unsafe fn write_vectors<S: Simd, const V: usize>(
        &self,
        start: usize,
        vectors: [S::f32s; V],
    ) {
        let count = V * S::F32_LANES;
        assert!(
            start <= self.elements && count <= self.elements - start,
            "the vectors end outside their buffer"
        );
        // SAFETY: the elements are inside the buffer by the assertion, a vector is an array of floats,
        // and the caller promises the rest.
        unsafe {
            self.start
                .add(start)
                .cast::<[S::f32s; V]>()
                .write_unaligned(vectors);
        }
    }

    /// Writes `values` from `start` on.
    ///
    /// # Safety
    /// No other task touches these elements.
    #[inline(always)]
    pub(super) unsafe fn write(&self, start: usize, values: &[f32]) {
        assert!(
            start <= self.elements && values.len() <= self.elements - start,
            "the values end outside their buffer"
        );
        // SAFETY: the elements are inside the buffer by the assertion, and the caller promises the
        // rest. A copy does not read the old elements.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.add(start), values.len());
        }
    }

    /// Returns the part from `start` on as a matrix of `rows` x `columns`, with rows `row_stride`
    /// elements apart.
    pub(super) fn matrix(
        &self,
        start: usize,
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> OutputMatrix<'a> {
        let end = start + rows.saturating_sub(1) * row_stride + columns;
        assert!(end <= self.elements, "the matrix ends outside its buffer");
        OutputMatrix {
            // SAFETY: `start` is inside the buffer by the assertion.
            start: unsafe { self.start.add(start) },
            rows,
            columns,
            row_stride,
            owner: PhantomData,
        }
    }
}

/// A matrix for writing, inside a larger buffer. Rows are contiguous.
pub(super) struct OutputMatrix<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    owner: PhantomData<&'a mut [f32]>,
}

impl OutputMatrix<'_> {
    /// Returns row `index`.
    ///
    /// # Safety
    /// The row has been written, and no other task holds it.
    pub(super) unsafe fn row(&mut self, index: usize) -> &mut [f32] {
        assert!(index < self.rows);
        // SAFETY: the matrix is inside its buffer (checked by `SharedOutput::matrix`), and the caller
        // promises the rest.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(index * self.row_stride), self.columns)
        }
    }

    /// Copies `values` to row `index`.
    ///
    /// # Safety
    /// No other task touches the row.
    pub(super) unsafe fn copy_row(&mut self, index: usize, values: &[f32]) {
        assert!(index < self.rows && values.len() == self.columns);
        // SAFETY: as in `row`; a copy does not read the old elements.
        unsafe {
            std::ptr::copy_nonoverlapping(
                values.as_ptr(),
                self.start.add(index * self.row_stride),
                self.columns,
            );
        }
    }
}

/// A matrix for reading, inside a larger buffer.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Returns a matrix with contiguous rows, `row_stride` elements apart.
    pub(super) fn rows(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// Returns the transposed matrix.
    pub(super) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn assert_inside(&self) {
        if self.rows > 0 && self.columns > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride;
            assert!(last < self.data.len(), "the matrix ends outside its buffer");
        }
    }
}

/// Computes `out = left * right`, or `out += left * right` if `accumulate`, on the calling thread.
///
/// # Safety
/// No other task touches the elements of `out`; with `accumulate` they have been written.
pub(super) unsafe fn multiply(
    out: &mut OutputMatrix<'_>,
    left: Matrix<'_>,
    right: Matrix<'_>,
    accumulate: bool,
) {
    assert!(
        out.rows == left.rows && out.columns == right.columns && left.columns == right.rows,
        "matrix sizes"
    );
    left.assert_inside();
    right.assert_inside();
    // SAFETY: all three matrices are inside their buffers (checked above and by
    // `SharedOutput::matrix`), the strides are those of the matrices, and the caller promises that no
    // other task touches `out`.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            left.columns,
            out.start,
            1,
            out.row_stride as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with scratch buffers of the given lengths and unspecified contents. Each thread keeps
/// its buffers, so that a task does not wait for the kernel to clear new pages.
///
/// `work` must not start parallel work: a task that this thread runs meanwhile would borrow the
/// same buffers and panic.
pub(super) fn with_scratch<const N: usize, R>(
    lengths: [usize; N],
    work: impl FnOnce([&mut [f32]; N]) -> R,
) -> R {
    SCRATCH.with_borrow_mut(|buffers| {
        buffers.resize_with(buffers.len().max(N), Vec::new);
        for (buffer, length) in buffers.iter_mut().zip(lengths) {
            if buffer.len() < length {
                buffer.resize(length, 0.0);
            }
        }
        let mut buffers = buffers.iter_mut();
        work(lengths.map(|length| {
            let buffer: &mut [f32] = buffers.next().map_or(&mut [], Vec::as_mut_slice);
            &mut buffer[..length]
        }))
    })
}

/// Elements summed in single precision before a partial sum is added in double precision: 256 for each
/// of the [`LANES`], which keeps the relative error of a partial sum below 256 roundings.
const SUM_CHUNK: usize = 4096;
/// Number of parallel partial sums: one vector of AVX-512, or several shorter ones. Fixed, so that the
/// order of a sum is the same on every CPU.
const LANES: usize = 16;

/// Returns the sum of all `term(a, b)`, in a fixed order.
#[inline(always)]
pub(super) fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    assert_eq!(a.len(), b.len());
    let chunk_sum = |(a, b): (&[f32], &[f32])| {
        let (a_vectors, a_rest) = a.as_chunks::<LANES>();
        let (b_vectors, b_rest) = b.as_chunks::<LANES>();
        let mut lanes = [0.0f32; LANES];
        for (a, b) in a_vectors.iter().zip(b_vectors) {
            for lane in 0..LANES {
                lanes[lane] += term(a[lane], b[lane]);
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b)).sum();
        lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>() + f64::from(rest)
    };
    a.chunks(SUM_CHUNK)
        .zip(b.chunks(SUM_CHUNK))
        .map(chunk_sum)
        .sum()
}

/// Returns the sum of `values`, in a fixed order.
pub(super) fn sum(values: &[f32]) -> f64 {
    sum_of(values, values, |value, _| value)
}

/// Computes a tensor of `shape` (`[batch, channels, height, width]`) element by element from `inputs` of
/// that shape. `map` receives the channel of a plane and returns the function of its elements.
pub(super) fn map_planes<const N: usize, F: Fn([f32; N]) -> f32>(
    shape: [usize; 4],
    inputs: [&[f32]; N],
    map: impl Fn(usize) -> F + Sync,
) -> FlexTensor {
    let [batch, channels, height, width] = shape;
    let pixels = height * width;
    let mut output = Output::new(batch * channels * pixels);
    output
        .slots()
        .par_chunks_mut(pixels.max(1))
        .with_min_len(ELEMENTS_PER_TASK.div_ceil(pixels.max(1)))
        .enumerate()
        .for_each(|(plane, slots)| {
            let element = map(plane % channels);
            let planes = inputs.map(|input| &input[plane * pixels..][..slots.len()]);
            for (index, slot) in slots.iter_mut().enumerate() {
                slot.write(element(std::array::from_fn(|input| planes[input][index])));
            }
        });
    // SAFETY: the planes cover the buffer, and every slot is written.
    unsafe { output.into_tensor(shape) }
}

/// Returns one value per channel of `[batch, channels, height, width]`: the sum of `of_plane(range)`
/// over the planes of that channel, whose elements are `range` of the tensor.
pub(super) fn sum_planes(
    shape: [usize; 4],
    of_plane: impl Fn(Range<usize>) -> f64 + Sync,
) -> Vec<f32> {
    let [batch, channels, height, width] = shape;
    let pixels = height * width;
    (0..channels)
        .into_par_iter()
        .with_min_len(ELEMENTS_PER_TASK.div_ceil((batch * pixels).max(1)))
        .map(|channel| {
            let sum: f64 = (0..batch)
                .map(|image| (image * channels + channel) * pixels)
                .map(|start| of_plane(start..start + pixels))
                .sum();
            sum as f32
        })
        .collect()
}
