//! A plane with its border of zeros, in an order in which a strided convolution reads straight on.

use super::geometry::Geometry;

/// The layout of a bordered plane: a sheet for each remainder of y and x divided by the strides, so
/// that what a kernel element reads for the outputs of a row lies together, and the rows of outputs
/// lie one sheet row apart.
#[derive(Clone, Copy)]
pub(super) struct Bordered {
    /// Remainders of y and x.
    phases: [usize; 2],
    /// Rows and columns of a sheet.
    sheet: [usize; 2],
}

impl Bordered {
    pub(super) fn new(geometry: &Geometry) -> Self {
        let side = |axis: usize| {
            let bordered = geometry.input[axis] + 2 * geometry.padding[axis];
            bordered.div_ceil(geometry.stride[axis])
        };
        Self {
            phases: geometry.stride,
            sheet: [side(0), side(1)],
        }
    }

    pub(super) fn elements(&self) -> usize {
        self.phases[0] * self.phases[1] * self.sheet[0] * self.sheet[1]
    }

    /// From a row of outputs to the next.
    pub(super) fn columns(&self) -> usize {
        self.sheet[1]
    }

    /// Where the element of column `x` in row `y` lies; those of `x + stride`, ... follow it.
    fn at(&self, y: usize, x: usize) -> usize {
        let [phases_y, phases_x] = self.phases;
        let sheet = y % phases_y * phases_x + x % phases_x;
        (sheet * self.sheet[0] + y / phases_y) * self.sheet[1] + x / phases_x
    }

    /// Where what a kernel element reads for the first output lies.
    pub(super) fn start(&self, geometry: &Geometry, kernel_y: usize, kernel_x: usize) -> usize {
        self.at(
            kernel_y * geometry.dilation[0],
            kernel_x * geometry.dilation[1],
        )
    }

    /// Copies a plane into its border, which is zero already.
    #[inline(always)]
    pub(super) fn copy_in(&self, plane: &[f32], geometry: &Geometry, bordered: &mut [f32]) {
        let width = geometry.input[1];
        let [top, left] = geometry.padding;
        for (y, line) in plane.chunks_exact(width.max(1)).enumerate() {
            for first in 0..self.phases[1].min(width) {
                let at = self.at(y + top, first + left);
                let values = line[first..].iter().step_by(self.phases[1]);
                for (to, value) in bordered[at..].iter_mut().zip(values) {
                    *to = *value;
                }
            }
        }
    }

    /// The transpose of [`copy_in`](Self::copy_in); what is in the border is dropped.
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

    /// For every kernel element and row of outputs: `visit(element, row, first)`, where what the
    /// element reads for that row begins at `first`.
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
