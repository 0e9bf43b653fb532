//! The one place where a training step and a detection read tensors back from their device. The host waits for the device
//! at each of these reads, so they are counted, and tests limit their number and size.

use std::cell::Cell;

use burn::tensor::{Int, Tensor, TensorData};

/// Reads of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadBacks {
    /// How often the host has waited for the device.
    pub number: usize,
    /// The bytes that were read.
    pub bytes: usize,
}

thread_local! {
    static READ: Cell<ReadBacks> = const { Cell::new(ReadBacks { number: 0, bytes: 0 }) };
}

/// Returns a result with the reads of this thread for it.
pub fn counted<T>(compute: impl FnOnce() -> T) -> (T, ReadBacks) {
    let before = READ.get();
    let result = compute();
    let after = READ.get();
    let reads = ReadBacks {
        number: after.number - before.number,
        bytes: after.bytes - before.bytes,
    };
    (result, reads)
}

/// Returns the values of a float tensor, row-major.
///
/// # Panics
/// If the device is lost. Tensors here are always `f32`, whatever the user's data.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    let known = READ.get();
    READ.set(ReadBacks {
        number: known.number + 1,
        bytes: known.bytes + data.num_elements() * size_of::<f32>(),
    });
    data.try_to_vec().expect("a float tensor reads back as f32")
}

/// Returns some rows of a tensor in this order: only they are read.
///
/// # Panics
/// As [`host`].
pub(crate) fn host_rows(tensor: Tensor<2>, rows: &[usize]) -> Vec<f32> {
    if rows.is_empty() {
        return Vec::new();
    }
    let places: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    let places = TensorData::new(places, [rows.len()]);
    let places = Tensor::<1, Int>::from_data(places, &tensor.device());
    host(tensor.select(0, places))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn rows_are_read_in_their_order_and_counted() {
        let device = Device::flex();
        let tensor = Tensor::<2>::from_data([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], &device);
        let (values, reads) = counted(|| host_rows(tensor.clone(), &[2, 0, 2]));
        assert_eq!(values, [4.0, 5.0, 0.0, 1.0, 4.0, 5.0]);
        let expected = ReadBacks {
            number: 1,
            bytes: 24,
        };
        assert_eq!(reads, expected);
        let (values, reads) = counted(|| host_rows(tensor, &[]));
        assert_eq!((values.len(), reads), (0, ReadBacks::default()));
    }
}
