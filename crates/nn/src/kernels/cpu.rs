//! What the CPU kernels share: output buffers that are not zeroed first, scratch memory that each
//! thread keeps, and matrix products on parts of buffers.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};
use pulp::Simd;
use rayon::prelude::*;

/// Fewer elements than this are not worth a task of their own in an element-wise pass.
pub(super) const ELEMENTS_PER_TASK: usize = 16 * 1024;

/// Returns whether the CPU kernels can take these tensors. Others take the portable form.
pub(super) fn all_f32<'a>(tensors: impl IntoIterator<Item = &'a FlexTensor>) -> bool {
    let mut tensors = tensors.into_iter();
    tensors.all(|tensor| tensor.dtype() == DType::F32)
}

/// A tensor of 32-bit floats whose elements lie in row-major order without gaps.
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

/// The shape of a tensor that the caller knows to have `N` dimensions.
pub(super) fn dims<const N: usize>(tensor: &FlexTensor) -> [usize; N] {
    tensor.shape().dims::<N>()
}

/// A buffer in the making: allocated, not initialized.
///
/// Zeroing a buffer that is overwritten anyway costs a pass over memory, which is about what the
/// element-wise kernels here cost as a whole.
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

    /// The elements, to be written.
    pub(super) fn slots(&mut self) -> &mut [MaybeUninit<f32>] {
        &mut self.buffer.spare_capacity_mut()[..self.elements]
    }

    /// A handle through which several tasks write their own parts.
    pub(super) fn shared(&mut self) -> SharedOutput<'_> {
        SharedOutput {
            start: self.buffer.as_mut_ptr(),
            elements: self.elements,
            owner: PhantomData,
        }
    }

    /// The finished buffer.
    ///
    /// # Safety
    /// Every element has been written.
    pub(super) unsafe fn into_vec(mut self) -> Vec<f32> {
        // SAFETY: the capacity is at least `elements`, and the caller has written them all.
        unsafe { self.buffer.set_len(self.elements) };
        self.buffer
    }

    /// The finished buffer as a tensor.
    ///
    /// # Safety
    /// Every element has been written.
    pub(super) unsafe fn into_tensor<const N: usize>(self, shape: [usize; N]) -> FlexTensor {
        // SAFETY: passed on to the caller.
        tensor(unsafe { self.into_vec() }, shape)
    }
}

/// A tensor that owns `data`.
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
/// express; hence the pointer.
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
    /// The handle of a buffer that is already initialized.
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
        // SAFETY: the elements lie inside the buffer by the assertion, a vector is nothing but its
        // elements, and the caller promises the rest.
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
        // SAFETY: the elements lie inside the buffer by the assertion, the caller promises the
        // rest; a copy does not read the old elements.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.add(start), values.len());
        }
    }

    /// The part from `start` on, as a matrix of `rows` x `columns` with `row_stride` elements from
    /// one row to the next.
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
            // SAFETY: `start` lies within the buffer by the assertion.
            start: unsafe { self.start.add(start) },
            rows,
            columns,
            row_stride,
            owner: PhantomData,
        }
    }
}

/// A matrix to be written, inside a larger buffer. Rows are contiguous.
pub(super) struct OutputMatrix<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    owner: PhantomData<&'a mut [f32]>,
}

impl OutputMatrix<'_> {
    /// Row `index`.
    ///
    /// # Safety
    /// The row has been written, and no other task holds it.
    pub(super) unsafe fn row(&mut self, index: usize) -> &mut [f32] {
        assert!(index < self.rows);
        // SAFETY: the matrix lies inside its buffer (checked when it was made), the caller
        // promises the rest.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(index * self.row_stride), self.columns)
        }
    }

    /// Fills row `index` with a copy of `values`.
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

/// A matrix to be read, inside a larger buffer.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix with contiguous rows, `row_stride` elements apart.
    pub(super) fn rows(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The transposed matrix.
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

/// `out = left * right`, or `out += left * right` when `accumulate`; on the calling thread.
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
    // SAFETY: all three matrices lie inside their buffers (checked above and when `out` was made),
    // strides are those of the matrices, and the caller promises that `out` is ours.
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

/// Lends scratch buffers of the given lengths, with unspecified contents. Each thread keeps its
/// buffers, so that a task does not pay for fresh memory pages.
///
/// `work` must not start parallel work: a stolen task would find the buffers lent out.
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

/// Elements summed in single precision before a partial sum goes to double precision.
const SUM_CHUNK: usize = 4096;
/// Partial sums kept side by side, for the vector unit; fixed, so that the order of a sum is.
const LANES: usize = 16;

/// The sum of all `term(a, b)`, in a fixed order.
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

/// The sum of `values`, in a fixed order.
pub(super) fn sum(values: &[f32]) -> f64 {
    sum_of(values, values, |value, _| value)
}

/// Makes a tensor of `shape` (`[batch, channels, height, width]`) element by element from `inputs`
/// of that shape; `map` gets the channel of a plane and returns the function for its elements.
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

/// One value per channel of `[batch, channels, height, width]`: the sum over the batch of
/// `of_plane(plane)`, where planes are counted as they lie in memory.
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
