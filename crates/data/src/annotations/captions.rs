//! Captions of images and the like: no boxes, and no lists of splits.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::annotations::image_files::has_extension;

/// Returns whether a file has captions or questions, by its name or in COCO's structure.
pub(crate) fn is_of_captions(path: &Path) -> bool {
    const WORDS: [&str; 7] = [
        "caption",
        "captions",
        "captioning",
        "question",
        "questions",
        "answers",
        "vqa",
    ];
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.to_lowercase();
    let mut words = stem.split(|character: char| !character.is_alphabetic());
    words.any(|word| WORDS.contains(&word)) || has_extension(path, "json") && is_without_boxes(path)
}

/// Returns whether the annotations of a file in COCO's structure have neither boxes nor categories: they are captions, or
/// questions. The first annotations show it, which come behind the list of all images in most files. A list of categories
/// means boxes, with keys that are wrong perhaps.
pub(crate) fn is_without_boxes(path: &Path) -> bool {
    const CHUNK: u64 = 1 << 20;
    const LIST: &str = "\"annotations\"";
    const OF_BOXES: [&str; 2] = ["\"bbox\"", "\"category_id\""];
    let Ok(mut file) = File::open(path) else {
        return false;
    };
    // The key may be divided by the end of a chunk, and annotations are looked at from the key on.
    let mut text = String::new();
    let mut has_categories = false;
    loop {
        let mut bytes = Vec::new();
        let is_read = file.by_ref().take(CHUNK).read_to_end(&mut bytes).is_ok();
        let is_end = !is_read || (bytes.len() as u64) < CHUNK;
        text += &String::from_utf8_lossy(&bytes);
        has_categories |= text.contains("\"categories\"");
        if OF_BOXES.iter().any(|key| text.contains(key)) {
            return false;
        }
        if let Some(at) = text.find(LIST)
            && (is_end || text.len() - at >= CHUNK as usize)
        {
            let annotations = &text[at..];
            return annotations.contains("\"image_id\"")
                && (annotations.contains("\"caption\"") || !has_categories);
        }
        if is_end {
            return false;
        }
        if !text.contains(LIST) {
            let start = text.len().saturating_sub(LIST.len());
            let start = (start..=text.len()).find(|at| text.is_char_boundary(*at));
            text.drain(..start.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_recognized_by_their_name_or_content() {
        const COCO: &str = r#"{"images":[{"id":1,"file_name":"a.jpg"}],
            "annotations":[{"id":1,"image_id":1,"caption":"a train"}]}"#;
        const BOXES: &str = r#"{"images":[{"id":1,"file_name":"a.jpg"}],
            "annotations":[{"id":1,"image_id":1,"category_id":1,"bbox":[1,2,3,4]}]}"#;
        let dir = tempfile::tempdir().unwrap();
        for (name, text, expected) in [
            ("captions_train2017.json", "[]", true),
            ("train_captions.txt", "", true),
            ("v2_questions_val.json", "", true),
            ("train.json", COCO, true),
            ("train.json", BOXES, false),
            ("train.json", r#"["a.jpg"]"#, false),
            ("captured.txt", "", false),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(is_of_captions(&path), expected, "{name}: {text}");
        }
    }
}
