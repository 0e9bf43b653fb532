//! Classification data made on the spot.

use std::path::Path;

/// A folder with the files of CIFAR-10: a few pictures whose class is the brightness.
pub fn write_cifar(folder: &Path, train_pictures: usize, test_pictures: usize) {
    std::fs::create_dir_all(folder).unwrap();
    let file = |count: usize| {
        let records = (0..count).flat_map(|i| {
            let label = (i % 10) as u8;
            let pixels = (0..3072).map(move |p| label * 25 + ((p * 7 + i * 3) % 13) as u8);
            std::iter::once(label).chain(pixels)
        });
        records.collect::<Vec<u8>>()
    };
    std::fs::write(folder.join("data_batch_1.bin"), file(train_pictures)).unwrap();
    std::fs::write(folder.join("test_batch.bin"), file(test_pictures)).unwrap();
    let names = (0..10).map(|c| format!("shade{c}\n")).collect::<String>();
    std::fs::write(folder.join("batches.meta.txt"), names).unwrap();
}
