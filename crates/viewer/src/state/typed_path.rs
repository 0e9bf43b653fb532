//! Paths as users type or paste them.

use std::path::PathBuf;

/// Returns the path that a text from a field, a terminal or a file manager denotes: without surrounding
/// spaces and quotes, `~` replaced by the home directory, and `file://` addresses decoded.
pub(crate) fn typed_path(text: &str) -> String {
    path_in_home(text, std::env::home_dir())
}

fn path_in_home(text: &str, home: Option<PathBuf>) -> String {
    let text = text.trim();
    let unquoted = ['\'', '"'].iter().find_map(|&quote| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.is_empty()).then_some(inner)
    });
    let text = unquoted.unwrap_or(text);
    if let Some(address) = text.strip_prefix("file://") {
        // The name of a host is empty or this one.
        let path = address.strip_prefix("localhost").unwrap_or(address);
        return decoded(path);
    }
    let below_home = match text.strip_prefix('~') {
        Some("") => Some(""),
        Some(rest) => rest.strip_prefix('/'),
        None => None,
    };
    match (below_home, home) {
        (Some(""), Some(home)) => home.display().to_string(),
        (Some(rest), Some(home)) => home.join(rest).display().to_string(),
        _ => text.to_owned(),
    }
}

/// Decodes `%20` and the like; what is no valid code stays.
fn decoded(address: &str) -> String {
    let bytes = address.as_bytes();
    let mut path = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = address.get(at + 1..at + 3).filter(|_| byte == b'%');
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(decoded) => {
                path.push(decoded);
                at += 3;
            }
            None => {
                path.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_quotes_and_file_addresses_are_understood() {
        let path = |text: &str| path_in_home(text, Some(PathBuf::from("/home/user")));
        assert_eq!(path(" ~/a b.jpg "), "/home/user/a b.jpg");
        assert_eq!(path("~"), "/home/user");
        assert_eq!(path("'/data/a b.jpg'"), "/data/a b.jpg");
        assert_eq!(path("\"~/runs\""), "/home/user/runs");
        assert_eq!(path("file:///data/a%20b%C3%A9.jpg"), "/data/a bé.jpg");
        assert_eq!(path("file://localhost/data/100%.jpg"), "/data/100%.jpg");
        for unchanged in ["shapes", "a~b", "~other/a", "'", "/it's", ""] {
            assert_eq!(path(unchanged), unchanged);
        }
        assert_eq!(path_in_home("~/a", None), "~/a");
    }
}
