//! What the four numbers of a box can mean: the one table of conventions.
//!
//! The readers of annotations, the checker and the diagnosis of detections compare numbers with an image in each row of
//! this table.

use crate::boxes::ImageSize;
use crate::text::{count, numbers};

/// The order and the meaning of the four numbers of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxOrder {
    /// The upper left point and the size, as in COCO.
    Sizes,
    /// Two corners, as in Pascal VOC.
    Corners,
    /// The center and the size, as in YOLO.
    Centers,
    /// Two corners, y before x, as in TensorFlow.
    SwappedCorners,
    /// The upper left point and the size, y before x: a box of the transposed image.
    SwappedSizes,
    /// The center and the size, y before x.
    SwappedCenters,
    /// The upper left point, and the height before the width.
    CrossedSizes,
    /// The center, and the height before the width.
    CrossedCenters,
    /// Two values of x before two of y.
    PairedCorners,
    /// The lower right corner before the upper left one.
    OppositeCorners,
}

/// Converts four numbers of one order to those of another.
type Convert = fn([f64; 4]) -> [f64; 4];

/// A row of the table of conventions.
struct Row {
    name: &'static str,
    /// Converts the numbers of a file to `[x, y, width, height]`.
    read: Convert,
    /// Converts `[x, y, width, height]` to the numbers of a file.
    write: Convert,
}

/// The table, in the order of [`BoxOrder::ALL`].
static ROWS: [Row; BoxOrder::ALL.len()] = [
    Row {
        name: "[x, y, width, height]",
        read: |numbers| numbers,
        write: |xywh| xywh,
    },
    Row {
        name: "[x1, y1, x2, y2]",
        read: |[x1, y1, x2, y2]| [x1, y1, x2 - x1, y2 - y1],
        write: |[x, y, w, h]| [x, y, x + w, y + h],
    },
    Row {
        name: "[center x, center y, width, height]",
        read: |[cx, cy, w, h]| [cx - w / 2.0, cy - h / 2.0, w, h],
        write: |[x, y, w, h]| [x + w / 2.0, y + h / 2.0, w, h],
    },
    Row {
        name: "[y1, x1, y2, x2]",
        read: |[y1, x1, y2, x2]| [x1, y1, x2 - x1, y2 - y1],
        write: |[x, y, w, h]| [y, x, y + h, x + w],
    },
    Row {
        name: "[y, x, height, width]",
        read: |[y, x, h, w]| [x, y, w, h],
        write: |[x, y, w, h]| [y, x, h, w],
    },
    Row {
        name: "[center y, center x, height, width]",
        read: |[cy, cx, h, w]| [cx - w / 2.0, cy - h / 2.0, w, h],
        write: |[x, y, w, h]| [y + h / 2.0, x + w / 2.0, h, w],
    },
    Row {
        name: "[x, y, height, width]",
        read: |[x, y, h, w]| [x, y, w, h],
        write: |[x, y, w, h]| [x, y, h, w],
    },
    Row {
        name: "[center x, center y, height, width]",
        read: |[cx, cy, h, w]| [cx - w / 2.0, cy - h / 2.0, w, h],
        write: |[x, y, w, h]| [x + w / 2.0, y + h / 2.0, h, w],
    },
    Row {
        name: "[x1, x2, y1, y2]",
        read: |[x1, x2, y1, y2]| [x1, y1, x2 - x1, y2 - y1],
        write: |[x, y, w, h]| [x, x + w, y, y + h],
    },
    Row {
        name: "[x2, y2, x1, y1]",
        read: |[x2, y2, x1, y1]| [x1, y1, x2 - x1, y2 - y1],
        write: |[x, y, w, h]| [x + w, y + h, x, y],
    },
];

impl BoxOrder {
    /// All orders; those that the usual formats and frameworks write come first.
    pub const ALL: [Self; 10] = [
        Self::Sizes,
        Self::Corners,
        Self::Centers,
        Self::SwappedCorners,
        Self::SwappedSizes,
        Self::SwappedCenters,
        Self::CrossedSizes,
        Self::CrossedCenters,
        Self::PairedCorners,
        Self::OppositeCorners,
    ];

    /// The orders of the usual formats and frameworks.
    pub const USUAL: [Self; 3] = [Self::Sizes, Self::Corners, Self::Centers];

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Returns the names of the four numbers.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Converts four numbers of this order to `[x, y, width, height]`.
    pub fn to_xywh(self, numbers: [f64; 4]) -> [f64; 4] {
        (self.row().read)(numbers)
    }

    /// Converts `[x, y, width, height]` to four numbers of this order.
    pub fn of_xywh(self, xywh: [f64; 4]) -> [f64; 4] {
        (self.row().write)(xywh)
    }

    /// Returns whether the order is one of the usual formats and frameworks.
    pub fn is_usual(self) -> bool {
        Self::USUAL.contains(&self)
    }

    /// Returns whether the boxes are those of the transposed image. In a square, as that of fractions is, they fit if and
    /// only if they fit with x and y exchanged.
    pub fn is_transposed(self) -> bool {
        matches!(
            self,
            Self::SwappedCorners | Self::SwappedSizes | Self::SwappedCenters
        )
    }
}

impl std::fmt::Display for BoxOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The unit of the numbers of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxUnit {
    /// Pixels.
    Pixels,
    /// Fractions of the image's width and height.
    Fractions,
    /// Percentages of the image's width and height.
    Percentages,
}

impl BoxUnit {
    /// Returns the numbers that are the width and the height of an image.
    pub fn whole(self, size: ImageSize) -> [f64; 2] {
        match self {
            Self::Pixels => [size.width as f64, size.height as f64],
            Self::Fractions => [1.0; 2],
            Self::Percentages => [100.0; 2],
        }
    }
}

impl std::fmt::Display for BoxUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pixels => "pixels",
            Self::Fractions => "fractions of the image size",
            Self::Percentages => "percentages of the image size",
        })
    }
}

/// The meaning of the four numbers of a box in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoxConvention {
    /// The order of the numbers.
    pub order: BoxOrder,
    /// Their unit.
    pub unit: BoxUnit,
}

impl BoxConvention {
    /// `[x, y, width, height]` in pixels, as in COCO.
    pub const SIZES: Self = Self::new(BoxOrder::Sizes, BoxUnit::Pixels);
    /// `[x1, y1, x2, y2]` in pixels, as in Pascal VOC.
    pub const CORNERS: Self = Self::new(BoxOrder::Corners, BoxUnit::Pixels);
    /// `[center x, center y, width, height]` in fractions, as in YOLO.
    pub const CENTER_FRACTIONS: Self = Self::new(BoxOrder::Centers, BoxUnit::Fractions);

    /// Creates a convention.
    pub const fn new(order: BoxOrder, unit: BoxUnit) -> Self {
        Self { order, unit }
    }
}

impl std::fmt::Display for BoxConvention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.order, self.unit)
    }
}

/// What explains boxes that do not fit their images in the convention of their format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MismatchCause {
    /// Another convention.
    Convention {
        /// The convention that they fit.
        convention: BoxConvention,
        /// Another order that they fit equally well.
        alternative: Option<BoxOrder>,
    },
    /// Some boxes have the `area` of another order.
    Mixed {
        /// That order.
        order: BoxOrder,
        /// Another order with the same areas.
        alternative: Option<BoxOrder>,
    },
    /// Another unit, in an order that cannot be inferred.
    Unit(BoxUnit),
    /// No convention of the table.
    Unexplained,
}

/// Boxes of a file that do not fit their images in the convention of its format.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConventionMismatch {
    /// What explains them.
    pub cause: MismatchCause,
    /// The convention of the format.
    pub expected: BoxConvention,
    /// The number of boxes that fit in the other convention.
    pub fitting: usize,
    /// The number of boxes that do not fit their images as the format has them, by far.
    pub misfits: usize,
    /// The number of boxes.
    pub boxes: usize,
    /// One of those that show it, with the numbers of the file.
    pub example: [f64; 4],
    /// Whether hardly any right boxes are like these.
    pub is_certain: bool,
    /// Whether the sizes of the images are known from the images themselves.
    pub are_sizes_known: bool,
    /// The number of images whose EXIF rotation exchanges width and height, as far as they were looked at.
    pub turned_images: usize,
}

impl ConventionMismatch {
    /// Returns the order in the unit of the format that the boxes fit in, if that is the cause.
    pub fn order(&self) -> Option<BoxOrder> {
        match self.cause {
            MismatchCause::Convention { convention, .. }
                if convention.unit == self.expected.unit =>
            {
                Some(convention.order)
            }
            _ => None,
        }
    }

    /// Returns whether the boxes fit in the transposed image, so that width and height of the images may be exchanged.
    pub fn is_transposed(&self) -> bool {
        match self.expected {
            BoxConvention::SIZES => self.order() == Some(BoxOrder::SwappedSizes),
            BoxConvention::CORNERS => self.order() == Some(BoxOrder::SwappedCorners),
            _ => false,
        }
    }
}

impl std::fmt::Display for ConventionMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let boxes = count(self.boxes, "box");
        let (fitting, misfits) = (self.fitting, self.misfits);
        match (self.cause, self.is_certain) {
            (MismatchCause::Unexplained, true) => write!(
                f,
                "{misfits} of {boxes} have no part in their images or a negative side"
            )?,
            (MismatchCause::Unexplained, false) => write!(
                f,
                "{misfits} of {boxes} exceed their images far or have no area"
            )?,
            (MismatchCause::Mixed { order, .. }, false) => write!(
                f,
                "{misfits} of {boxes} exceed their images far, and {fitting} of these fit as {order}"
            )?,
            (MismatchCause::Mixed { order, .. }, true) => write!(
                f,
                "{fitting} of {boxes} have the `area` of {order}, and not that of {}",
                self.expected.order
            )?,
            (MismatchCause::Unit(unit), false) => write!(
                f,
                "{fitting} of {boxes} have no number above 100 on larger images, so they may be {unit}",
            )?,
            (MismatchCause::Unit(unit), true) => write!(
                f,
                "{fitting} of {boxes} fit their images as {unit}, not as {}",
                self.expected
            )?,
            (MismatchCause::Convention { convention, .. }, true) => write!(
                f,
                "{fitting} of {boxes} fit their images as {convention}, not as {}",
                self.expected
            )?,
            (MismatchCause::Convention { convention, .. }, false) => write!(
                f,
                "{misfits} of {boxes} exceed their images far, and {fitting} fit as {convention}",
            )?,
        }
        write!(f, ", such as {}", numbers(&self.example))?;
        match self.cause {
            MismatchCause::Convention {
                convention,
                alternative: Some(alternative),
            } => write!(f, "; they fit as {alternative} in {}, too", convention.unit)?,
            MismatchCause::Unexplained => {
                f.write_str(", and no other order of the numbers explains it")?;
            }
            _ => {}
        }
        if !self.is_transposed() {
            return Ok(());
        }
        if self.are_sizes_known {
            let order = self.expected.order;
            write!(
                f,
                "; they fit as {order} of the images rotated by 90 degrees, too"
            )?;
        } else {
            f.write_str(
                "; they would fit as they are if width and height of the images were exchanged",
            )?;
        }
        if self.turned_images > 0 {
            let images = count(self.turned_images, "image");
            write!(
                f,
                " ({images} with an EXIF rotation by 90 degrees, which is applied here)"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_read_as_it_is_written_and_has_its_own_row() {
        let xywh = [3.0, 5.0, 8.0, 6.0];
        for (at, order) in BoxOrder::ALL.into_iter().enumerate() {
            assert_eq!(order as usize, at);
            assert_eq!(order.to_xywh(order.of_xywh(xywh)), xywh, "{order}");
            let same = BoxOrder::ALL
                .iter()
                .filter(|other| other.of_xywh(xywh) == order.of_xywh(xywh));
            assert_eq!(same.count(), 1, "{order}");
        }
        assert_eq!(BoxOrder::Corners.of_xywh(xywh), [3.0, 5.0, 11.0, 11.0]);
        assert_eq!(BoxOrder::Centers.of_xywh(xywh), [7.0, 8.0, 8.0, 6.0]);
        assert_eq!(
            BoxOrder::CrossedCenters.name(),
            "[center x, center y, height, width]"
        );
    }
}
