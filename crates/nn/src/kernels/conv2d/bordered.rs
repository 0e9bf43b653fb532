//! A plane with its border of zeros, in an order that a strided convolution reads contiguously.

use super::geometry::Geometry;

/// The layout of a bordered plane: one subplane for each remainder of y and x divided by the strides.
/// The inputs that a kernel element reads for a row of outputs are contiguous, and those for the next
/// row of outputs are one row of the subplane further.
#[derive(Clone, Copy)]
pub(super) struct Bordered {
    /// Number of remainders of y and x.
    phases: [usize; 2],
    /// Rows and columns of a subplane.
    subplane: [usize; 2],
}

impl Bordered {
    pub(super) fn new(geometry: &Geometry) -> Self {
        let side = |axis: usize| {
            let bordered = geometry.input[axis] + 2 * geometry.padding[axis];
            bordered.div_ceil(geometry.stride[axis])
        };
        Self {
            phases: geometry.stride,
            subplane: [side(0), side(1)],
        }
    }

    pub(super) fn elements(&self) -> usize {
        self.phases[0] * self.phases[1] * self.subplane[0] * self.subplane[1]
    }

    /// Returns the distance from a row of outputs to the next.
    pub(super) fn columns(&self) -> usize {
        self.subplane[1]
    }

    /// Returns the offset of column `x` in row `y`, which columns `x + stride`, `x + 2 stride`, ...
    /// follow.
    fn at(&self, y: usize, x: usize) -> usize {
        let [phases_y, phases_x] = self.phases;
        let subplane = y % phases_y * phases_x + x % phases_x;
        (subplane * self.subplane[0] + y / phases_y) * self.subplane[1] + x / phases_x
    }

    /// Returns the offset of the input that a kernel element reads for the first output.
    pub(super) fn start(&self, geometry: &Geometry, kernel_y: usize, kernel_x: usize) -> usize {
        self.at(
            kernel_y * geometry.dilation[0],
            kernel_x * geometry.dilation[1],
        )
    }

    /// Returns the offsets of the inputs that the kernel elements read for the first output, row by row.
    pub(super) fn starts(&self, geometry: &Geometry) -> Vec<usize> {
        let [height, width] = geometry.kernel;
        let elements = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
        elements.map(|(y, x)| self.start(geometry, y, x)).collect()
    }

    /// Returns the number of outputs, with the surplus columns between their rows.
    pub(super) fn outputs(&self, geometry: &Geometry) -> usize {
        // The last row of outputs has no surplus columns.
        match geometry.output {
            [0, _] | [_, 0] => 0,
            [height, width] => (height - 1) * self.columns() + width,
        }
    }

    /// Copies a plane into `bordered`, whose border is zero already.
    #[inline(always)]
    pub(super) fn copy_in(&self, plane: &[f32], geometry: &Geometry, bordered: &mut [f32]) {
        let width = geometry.input[1];
        let [top, left] = geometry.padding;
        for (y, line) in plane.chunks_exact(width.max(1)).enumerate() {
            for first in 0..self.phases[1].min(width) {
                let at = self.at(y + top, first + left);
                let line = &line[first..];
                let to = &mut bordered[at..][..line.len().div_ceil(self.phases[1])];
                match self.phases[1] {
                    1 => to.copy_from_slice(line),
                    2 => {
                        // The usual stride, in a form that compiles to vector shuffles.
                        let (pairs, last) = line.as_chunks::<2>();
                        for (to, pair) in to.iter_mut().zip(pairs) {
                            *to = pair[0];
                        }
                        to[pairs.len()..].copy_from_slice(last);
                    }
                    stride => {
                        for (to, value) in to.iter_mut().zip(line.iter().step_by(stride)) {
                            *to = *value;
                        }
                    }
                }
            }
        }
    }

    /// Copies a plane out of `bordered`, without its border.
    #[inline(always)]
    pub(super) fn copy_out(&self, bordered: &[f32], geometry: &Geometry, plane: &mut [f32]) {
        let width = geometry.input[1];
        let [top, left] = geometry.padding;
        for (y, line) in plane.chunks_exact_mut(width.max(1)).enumerate() {
            for first in 0..self.phases[1].min(width) {
                let at = self.at(y + top, first + left);
                let values = line[first..].iter_mut().step_by(self.phases[1]);
                for (to, value) in values.zip(&bordered[at..]) {
                    *to = *value;
                }
            }
        }
    }

    /// Calls `visit(element, row, first)` for every kernel element and row of outputs. The inputs that
    /// the element reads for that row begin at offset `first`.
    #[inline(always)]
    pub(super) fn visit(&self, geometry: &Geometry, mut visit: impl FnMut(usize, usize, usize)) {
        let [kernel_height, kernel_width] = geometry.kernel;
        for row in 0..geometry.output[0] {
            for kernel_y in 0..kernel_height {
                for kernel_x in 0..kernel_width {
                    let start = self.start(geometry, kernel_y, kernel_x);
                    let first = start + row * self.columns();
                    visit(kernel_y * kernel_width + kernel_x, row, first);
                }
            }
        }
    }
}
