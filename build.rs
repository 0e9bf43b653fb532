//! Passes the commit, the features and the target of the build to `sedet --version`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = commit_of_checkout().or_else(commit_of_package);
    let version = env!("CARGO_PKG_VERSION");
    let short = match &commit {
        Some(commit) => format!("{version} ({})", commit.get(..9).unwrap_or(commit)),
        None => version.to_string(),
    };
    let features: Vec<&str> = [
        ("CARGO_FEATURE_VIEWER", "viewer"),
        ("CARGO_FEATURE_WGPU", "wgpu"),
        ("CARGO_FEATURE_CUDA", "cuda"),
        ("CARGO_FEATURE_MPI", "mpi"),
    ]
    .into_iter()
    .filter_map(|(variable, name)| std::env::var_os(variable).map(|_| name))
    .collect();
    let features = match features.as_slice() {
        [] => "none".to_string(),
        built => built.join(", "),
    };
    let target = std::env::var("TARGET").unwrap_or_default();
    for (name, value) in [
        ("VERSION", short),
        ("COMMIT", commit.unwrap_or_else(|| "unknown".into())),
        ("FEATURES", features),
        ("TARGET", target),
    ] {
        println!("cargo::rustc-env=SEDET_{name}={value}");
    }
}

/// Returns the commit that is checked out, or None without git or outside of a repository.
///
/// The script runs again after a commit or a checkout only: edits of the sources do not change the
/// watched files. Files that do not exist are not watched, because cargo would rerun the script in
/// every build.
fn commit_of_checkout() -> Option<String> {
    let root = std::env::var_os("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&root);
    // In a package that is unpacked below another repository, git would find that one.
    if !root.join(".git").exists() {
        return None;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(root)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_string())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let watched = ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref());
    for name in watched {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            let path = root.join(path);
            if path.is_file() {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
    Some(commit)
}

/// Returns the commit of a package from a registry: `cargo package` writes it into a file.
fn commit_of_package() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    let commit = rest.split('"').nth(1)?;
    let is_hash = commit.len() >= 9 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| commit.to_string())
}
