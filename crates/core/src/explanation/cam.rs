//! LayerCAM (Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", 2021).

use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::excitation::ChannelMap;
use sedet_data::boxes::BoxXyxy;

/// The class activation map of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerCam {
    /// The layer, such as `C4` or `P3`.
    pub layer: String,
    /// The map, at least 0 everywhere, in units of the score. It is not scaled: pytorch-grad-cam divides it by its largest
    /// value and resizes it to the input.
    pub map: ChannelMap,
}

impl LayerCam {
    /// Returns the largest value.
    pub fn largest(&self) -> f32 {
        self.map.values.iter().copied().fold(0.0, f32::max)
    }

    /// Returns the share of the map's sum inside of a box in the image, 0 to 1; none for a map of zeros. Cells at the
    /// border of the box count by the part of their area inside.
    pub fn share_inside(&self, box_in_image: BoxXyxy, seen: BoxXyxy) -> Option<f64> {
        let ChannelMap {
            height,
            width,
            values,
            box_in_seen,
        } = &self.map;
        let cells = box_in_seen.scale(seen.width(), seen.height());
        // The overlap of each row or column with the box, as a share of its size.
        let overlaps = |start: f32, end: f32, count: usize, low: f32, high: f32| -> Vec<f64> {
            let size = f64::from(end - start) / count as f64;
            let edge = |cell: usize| f64::from(start) + size * cell as f64;
            let inside = |cell| edge(cell + 1).min(high.into()) - edge(cell).max(low.into());
            (0..count)
                .map(|cell| (inside(cell) / size).clamp(0.0, 1.0))
                .collect()
        };
        let (left, top) = (seen.x1, seen.y1);
        let BoxXyxy { x1, y1, x2, y2 } = box_in_image;
        let rows = overlaps(top + cells.y1, top + cells.y2, *height, y1, y2);
        let columns = overlaps(left + cells.x1, left + cells.x2, *width, x1, x2);
        let (mut inside, mut all) = (0.0, 0.0);
        for (row, values) in rows.iter().zip(values.chunks((*width).max(1))) {
            for (column, &value) in columns.iter().zip(values) {
                all += f64::from(value);
                inside += f64::from(value) * row * column;
            }
        }
        (all > 0.0).then(|| inside / all)
    }
}

/// Returns the LayerCAM of a layer: the sum over its channels of the activation times the positive part of the gradient,
/// where that is positive. This is `LayerCAM` of pytorch-grad-cam before it scales the map.
///
/// # Shapes
/// - `activation`, and `gradient`, that of the score: `[1, channels, height, width]`
/// - result: `[1, 1, height, width]`
pub(crate) fn layer_cam(activation: Tensor<4>, gradient: Tensor<4>) -> Tensor<4> {
    relu((relu(gradient) * activation).sum_dim(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn cam(values: &[f32], width: usize, box_in_seen: BoxXyxy) -> LayerCam {
        LayerCam {
            layer: "C2".into(),
            map: ChannelMap {
                height: values.len() / width,
                width,
                values: values.to_vec(),
                box_in_seen,
            },
        }
    }

    #[test]
    fn negative_gradients_and_negative_sums_count_nothing() {
        let device = Device::flex();
        let tensor = |values: [[[[f32; 3]; 1]; 2]; 1]| Tensor::<4>::from_data(values, &device);
        let activation = tensor([[[[2.0, -3.0, 5.0]], [[1.0, 1.0, 1.0]]]]);
        let gradient = tensor([[[[0.5, 1.0, -1.0]], [[-4.0, 2.0, 0.5]]]]);
        let found = layer_cam(activation, gradient);
        assert_eq!(found.dims(), [1, 1, 1, 3]);
        let found: Vec<f32> = found.into_data().iter::<f32>().collect();
        // 2 * 0.5; -3 * 1 + 1 * 2 is negative; 1 * 0.5.
        assert_eq!(found, [1.0, 0.0, 0.5]);
    }

    #[test]
    fn the_share_inside_counts_cells_at_the_border_by_their_area() {
        let all = BoxXyxy::new(0.0, 0.0, 1.0, 1.0);
        let seen = BoxXyxy::new(10.0, 0.0, 30.0, 20.0);
        let map = cam(&[1.0, 2.0, 3.0, 4.0], 2, all);
        let share = |x1, y1, x2, y2| map.share_inside(BoxXyxy::new(x1, y1, x2, y2), seen);
        assert_eq!(share(10.0, 0.0, 30.0, 20.0), Some(1.0));
        assert_eq!(share(20.0, 0.0, 30.0, 10.0), Some(0.2));
        // Half of the columns of the second, a quarter of the fourth.
        assert_eq!(share(25.0, 0.0, 90.0, 15.0), Some((1.0 + 1.0) / 10.0));
        assert_eq!(share(0.0, 0.0, 9.0, 9.0), Some(0.0));
        assert_eq!(map.largest(), 4.0);
        // Two columns of 16 pixels over a region of 20.
        let wide = cam(&[1.0, 1.0], 2, BoxXyxy::new(0.0, 0.0, 1.6, 1.0));
        let second = wide.share_inside(BoxXyxy::new(26.0, 0.0, 42.0, 20.0), seen);
        assert_eq!(second.map(|share| (share * 1e6).round()), Some(0.5e6));
        let zero = cam(&[0.0; 4], 2, all);
        assert_eq!(zero.share_inside(seen, seen), None);
    }
}
