//! The sizes of one convolution, and the division of its output into tiles.

use std::ops::Range;

use super::super::panels::PANEL;
use super::Conv2dOptions;

/// Elements of an unfolded tile: 256 KiB, which leaves space in a second-level cache of 512 KiB or
/// more for the input that it is read from and the weights that it is multiplied by. Measured on one
/// thread: half of it is slower on wide layers, twice of it on narrow ones; from 1 MiB to 256 KiB a
/// 7x7 over 3 channels went from 20.7 to 16.8 ms, a 3x3 over 16 channels from 3.7 to 3.4 ms, and a
/// 3x3 over 64 channels stayed the same.
pub(super) const TILE_ELEMENTS: usize = 64 * 1024;
/// The least number of output pixels of a tile, if the output has as many: two panels of columns.
/// Each tile reads all weights once, so fewer columns mean more reads per multiplication.
pub(super) const MIN_TILE_PIXELS: usize = 96;
/// Number of output pixels below which several images share a tile, which would otherwise be narrower
/// than the panels of a product.
pub(super) const SMALL_MAP_PIXELS: usize = 128;
/// The number of tasks to aim at: two or more for each of up to eight threads, so that they finish together.
/// Fixed, because the tasks decide the order of some sums, and results must not depend on the number
/// of threads.
pub(super) const TASKS: usize = 16;

/// All sizes of one convolution; channels and filters are counted per group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) groups: usize,
    pub(super) channels: usize,
    pub(super) filters: usize,
    pub(super) input: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    pub(super) dilation: [usize; 2],
}

impl Geometry {
    pub(super) fn new(x: [usize; 4], weight: [usize; 4], options: Conv2dOptions) -> Self {
        let [batch, channels_in, height, width] = x;
        let [channels_out, channels, kernel_height, kernel_width] = weight;
        let Conv2dOptions {
            stride,
            padding,
            dilation,
            groups,
        } = options;
        assert!(
            groups > 0
                && channels_in == groups * channels
                && channels_out.is_multiple_of(groups)
                && kernel_height > 0
                && kernel_width > 0,
            "conv2d: input {x:?} and weight {weight:?} do not fit with {groups} groups"
        );
        let size = |axis: usize, input: usize, kernel: usize| {
            assert!(
                stride[axis] > 0 && dilation[axis] > 0,
                "conv2d: stride and dilation start at 1"
            );
            let padded = input + 2 * padding[axis];
            let reach = dilation[axis] * (kernel - 1) + 1;
            assert!(
                padded >= reach,
                "conv2d: weight {weight:?} is larger than the padded input {x:?}"
            );
            (padded - reach) / stride[axis] + 1
        };
        Self {
            batch,
            groups,
            channels,
            filters: channels_out / groups,
            input: [height, width],
            kernel: [kernel_height, kernel_width],
            output: [size(0, height, kernel_height), size(1, width, kernel_width)],
            stride,
            padding,
            dilation,
        }
    }

    /// Returns the input position minus `stride * output position` of a kernel element, along an axis.
    pub(super) fn offset(&self, axis: usize, kernel: usize) -> isize {
        (kernel * self.dilation[axis]) as isize - self.padding[axis] as isize
    }

    pub(super) fn input_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub(super) fn output_pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    pub(super) fn kernel_elements(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Returns the number of rows of the unfolded input: one per channel of the group and kernel
    /// position.
    pub(super) fn rows(&self) -> usize {
        self.channels * self.kernel_elements()
    }

    pub(super) fn output_shape(&self) -> [usize; 4] {
        [
            self.batch,
            self.groups * self.filters,
            self.output[0],
            self.output[1],
        ]
    }

    /// Returns whether the input already is the unfolded matrix.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    /// Returns the range of input elements of `channels` of a group in an image.
    pub(super) fn input_block(
        &self,
        image: usize,
        group: usize,
        channels: &Range<usize>,
    ) -> Range<usize> {
        let first = (image * self.groups + group) * self.channels;
        let pixels = self.input_pixels();
        (first + channels.start) * pixels..(first + channels.end) * pixels
    }

    /// Returns the offset in the output of the filters of a group in an image.
    pub(super) fn output_start(&self, image: usize, group: usize) -> usize {
        (image * self.groups + group) * self.filters * self.output_pixels()
    }

    /// Splits the output pixels of the whole batch into tiles whose unfolded form has `rows` rows.
    pub(super) fn tiles(&self, rows: usize) -> Vec<Tile> {
        let pixels = self.output_pixels();
        let wanted = (TILE_ELEMENTS / rows.max(1)).max(MIN_TILE_PIXELS);
        // Few pixels in total: smaller tiles, so that every thread gets some.
        let fair = (self.batch * pixels).div_ceil(TASKS).max(MIN_TILE_PIXELS);
        let wanted = wanted.min(fair);
        if pixels < SMALL_MAP_PIXELS {
            let images = (wanted / pixels.max(1)).clamp(1, self.batch.max(1));
            return (0..self.batch)
                .step_by(images)
                .map(|first| Tile {
                    images: first..(first + images).min(self.batch),
                    pixels: 0..pixels,
                })
                .collect();
        }
        // Tiles of equal width, in whole panels.
        let count = pixels.div_ceil(wanted);
        let width = pixels.div_ceil(count).next_multiple_of(PANEL);
        (0..self.batch)
            .flat_map(|image| {
                (0..pixels).step_by(width).map(move |start| Tile {
                    images: image..image + 1,
                    pixels: start..(start + width).min(pixels),
                })
            })
            .collect()
    }
}

/// Output pixels of one task: a range of one image, or all pixels of several images.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub(super) images: Range<usize>,
    pub(super) pixels: Range<usize>,
}

impl Tile {
    pub(super) fn columns(&self) -> usize {
        self.images.len() * self.pixels.len()
    }
}
