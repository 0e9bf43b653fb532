//! Generated classification data.

use std::path::Path;

/// Creates a directory with the files of CIFAR-10: a few images whose class is the brightness.
pub fn write_cifar(directory: &Path, train_images: usize, test_images: usize) {
    std::fs::create_dir_all(directory).unwrap();
    let file = |images: std::ops::Range<usize>| {
        let records = images.flat_map(|i| {
            let label = (i % 10) as u8;
            let pixels = (0..3072).map(move |p| label * 25 + ((p * 7 + i * 3) % 13) as u8);
            std::iter::once(label).chain(pixels)
        });
        records.collect::<Vec<u8>>()
    };
    // An incomplete training set is an error.
    for batch in 0..5 {
        let images = batch * train_images / 5..(batch + 1) * train_images / 5;
        let name = format!("data_batch_{}.bin", batch + 1);
        std::fs::write(directory.join(name), file(images)).unwrap();
    }
    std::fs::write(directory.join("test_batch.bin"), file(0..test_images)).unwrap();
    let names = (0..10).map(|c| format!("shade{c}\n")).collect::<String>();
    std::fs::write(directory.join("batches.meta.txt"), names).unwrap();
}
