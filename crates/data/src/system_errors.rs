//! Errors of the operating system in plain words.
//!
//! Every message for users goes through [`plain`]: on the console, in the log of a run and in reports.

/// Wordings of Linux, and plainer ones.
const PLAIN: [(&str, &str); 20] = [
    ("No such file or directory (os error 2)", "file not found"),
    ("cannot be read: file not found", "file not found"),
    (
        "not written: file not found",
        "not written: its directory does not exist",
    ),
    (
        "cannot create the directory: file not found",
        "cannot create the directory: a part of its path does not exist",
    ),
    (
        "Input/output error (os error 5)",
        "the disk reports an error",
    ),
    ("Cannot allocate memory (os error 12)", "not enough memory"),
    ("Permission denied (os error 13)", "permission denied"),
    ("Operation not permitted (os error 1)", "permission denied"),
    ("File exists (os error 17)", "it exists already"),
    (
        "Not a directory (os error 20)",
        "a part of the path is a file",
    ),
    ("Is a directory (os error 21)", "is a directory"),
    ("cannot be read: is a directory", "is a directory"),
    (
        "Too many open files (os error 24)",
        "too many open files (see `ulimit -n`)",
    ),
    (
        "File too large (os error 27)",
        "too large for the file system",
    ),
    (
        "No space left on device (os error 28)",
        "no space is left on the disk",
    ),
    (
        "Read-only file system (os error 30)",
        "the file system is read-only",
    ),
    ("File name too long (os error 36)", "the name is too long"),
    (
        "Too many levels of symbolic links (os error 40)",
        "symbolic links that lead in a circle",
    ),
    (
        "Stale file handle (os error 116)",
        "the network file system no longer has the file",
    ),
    (
        "Disk quota exceeded (os error 122)",
        "the disk quota is exceeded",
    ),
];

/// Replaces the operating system's wording of common causes, and removes its error numbers from others.
pub fn plain(message: &str) -> String {
    const NUMBER: &str = " (os error ";
    let mut plain = message.to_owned();
    for (wording, plainer) in PLAIN {
        if plain.contains(wording) {
            plain = plain.replace(wording, plainer);
        }
    }
    while let Some(start) = plain.find(NUMBER) {
        let digits = plain[start + NUMBER.len()..].find(')');
        let Some(digits) = digits else {
            break;
        };
        plain.replace_range(start..start + NUMBER.len() + digits + 1, "");
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_of_the_operating_system_are_in_plain_words() {
        let missing = std::fs::read("no/such/file").unwrap_err();
        for (message, expected) in [
            (
                format!("a.pth: cannot be read: {missing}"),
                "a.pth: file not found",
            ),
            (
                format!("b/c.st: checkpoint not written: {missing}"),
                "b/c.st: checkpoint not written: its directory does not exist",
            ),
        ] {
            assert_eq!(plain(&message), expected);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_message_has_an_error_number() {
        for number in 1..=133 {
            let error = std::io::Error::from_raw_os_error(number);
            let found = plain(&format!("a.json: {error}; and {error}"));
            assert!(!found.contains("os error"), "{found}");
            assert!(found.starts_with("a.json: "), "{found}");
        }
        let full = std::io::Error::from_raw_os_error(28);
        assert_eq!(
            plain(&format!("a.json: not written: {full}")),
            "a.json: not written: no space is left on the disk"
        );
    }
}
