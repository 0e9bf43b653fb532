//! The image decoder.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sedet::loading::decode::{decode_image_bytes, image_size_of_bytes, inspect_image_bytes};

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.jpg");
    let size = image_size_of_bytes(bytes, path);
    let _ = inspect_image_bytes(bytes, path);
    if let (Ok(size), Ok(image)) = (size, decode_image_bytes(bytes, path)) {
        assert_eq!(
            (size.width, size.height),
            (image.width() as usize, image.height() as usize)
        );
    }
});
