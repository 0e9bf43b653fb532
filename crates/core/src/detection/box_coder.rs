//! Encoding of boxes as offsets from a reference box (R-CNN's parametrization), and decoding.

use serde::{Deserialize, Serialize};

use sedet_data::boxes::BoxXyxy;

/// Limit of `dw` and `dh` in decoding, `log(1000 / 16)`; prevents overflow of `exp`.
pub(crate) const MAX_LOG_SCALE: f32 = 4.135_166_6;

/// Encodes `(dx, dy, dw, dh)` times `weights`; torchvision's `BoxCoder`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BoxCoder {
    /// Multipliers of dx, dy, dw, dh.
    pub weights: [f32; 4],
}

impl BoxCoder {
    /// The coder of the RPN.
    pub const RPN: Self = Self { weights: [1.0; 4] };
    /// The coder of the RoI heads.
    pub const ROI: Self = Self {
        weights: [10.0, 10.0, 5.0, 5.0],
    };

    /// Returns the deltas from `reference` (an anchor or a proposal) to `target`.
    pub fn encode(&self, reference: BoxXyxy, target: BoxXyxy) -> [f32; 4] {
        let [wx, wy, ww, wh] = self.weights;
        let (rw, rh) = (reference.width(), reference.height());
        let (rx, ry) = (reference.x1 + 0.5 * rw, reference.y1 + 0.5 * rh);
        let (tw, th) = (target.width(), target.height());
        let (tx, ty) = (target.x1 + 0.5 * tw, target.y1 + 0.5 * th);
        [
            wx * (tx - rx) / rw,
            wy * (ty - ry) / rh,
            ww * (tw / rw).ln(),
            wh * (th / rh).ln(),
        ]
    }

    /// Returns the box at `deltas` from `reference`.
    pub fn decode(&self, reference: BoxXyxy, deltas: [f32; 4]) -> BoxXyxy {
        let [wx, wy, ww, wh] = self.weights;
        let (rw, rh) = (reference.width(), reference.height());
        let (rx, ry) = (reference.x1 + 0.5 * rw, reference.y1 + 0.5 * rh);
        let (dx, dy) = (deltas[0] / wx, deltas[1] / wy);
        let dw = (deltas[2] / ww).min(MAX_LOG_SCALE);
        let dh = (deltas[3] / wh).min(MAX_LOG_SCALE);
        let (cx, cy) = (dx * rw + rx, dy * rh + ry);
        let (half_w, half_h) = (0.5 * (dw.exp() * rw), 0.5 * (dh.exp() * rh));
        BoxXyxy::new(cx - half_w, cy - half_h, cx + half_w, cy + half_h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_box() -> impl Strategy<Value = BoxXyxy> {
        (0.0f32..500.0, 0.0f32..500.0, 2.0f32..300.0, 2.0f32..300.0)
            .prop_map(|(x, y, w, h)| BoxXyxy::from_xywh([x, y, w, h]))
    }

    proptest! {
        #[test]
        fn decoding_an_encoded_box_gives_the_box(
            reference in any_box(), target in any_box(), roi in any::<bool>()
        ) {
            // Beyond a factor of 62.5 decoding clamps on purpose.
            prop_assume!(target.width() / reference.width() < 60.0);
            prop_assume!(target.height() / reference.height() < 60.0);
            let coder = if roi { BoxCoder::ROI } else { BoxCoder::RPN };
            let back = coder.decode(reference, coder.encode(reference, target));
            for (a, b) in [(back.x1, target.x1), (back.y1, target.y1), (back.x2, target.x2), (back.y2, target.y2)] {
                prop_assert!((a - b).abs() < 0.05, "{back:?} {target:?}");
            }
        }

        #[test]
        fn decoding_any_finite_deltas_gives_a_finite_box(
            reference in any_box(), d in proptest::array::uniform4(-1e6f32..1e6)
        ) {
            prop_assert!(BoxCoder::RPN.decode(reference, d).is_finite());
        }
    }
}
