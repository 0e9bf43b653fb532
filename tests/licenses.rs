//! Every dependency has a license that permits what sedet's license permits.
//!
//! Known vulnerabilities of dependencies are not checked: their lists are not part of the registry, and tests do
//! not use the network.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Permissive licenses, and MPL, which does not affect programs that use the library unchanged.
const ALLOWED: [&str; 16] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MPL-2.0",
    "OFL-1.1",
    "Ubuntu-font-1.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
];

/// Packages that contain a license text and do not name it.
const UNNAMED: [(&str, &str); 1] = [("cfg_block", "Apache-2.0")];

/// Returns the license of a package of `cargo metadata`.
fn license(package: &Value) -> &str {
    let name = package["name"].as_str().unwrap_or_default();
    let unnamed = UNNAMED.iter().find(|(unnamed, _)| *unnamed == name);
    package["license"]
        .as_str()
        .or(unnamed.map(|(_, license)| *license))
        .unwrap_or("none")
}

/// Returns whether one alternative of a license expression has only allowed parts.
fn is_allowed(license: &str) -> bool {
    // Before SPDX, alternatives were separated by a slash.
    let text = license.replace('/', " OR ");
    let expression = spdx::Expression::parse_mode(&text, spdx::ParseMode::LAX);
    expression.is_ok_and(|expression| {
        expression.evaluate(|part| {
            let is_usual = part
                .license
                .id()
                .is_some_and(|id| ALLOWED.contains(&id.name));
            // An exception only adds permissions.
            is_usual
        })
    })
}

#[test]
fn every_dependency_has_a_permissive_license() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .output()
        .unwrap();
    assert!(
        metadata.status.success(),
        "{}",
        String::from_utf8_lossy(&metadata.stderr)
    );
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    // `packages` also contains those of other platforms and features, which are not downloaded.
    let used: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let packages = metadata["packages"].as_array().unwrap();
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| package["id"].as_str().is_some_and(|id| used.contains(id)))
        .filter(|package| !is_allowed(license(package)))
        .map(|package| {
            format!(
                "{} {}: {}",
                package["name"], package["version"], package["license"]
            )
        })
        .collect();
    assert!(used.len() > 100, "only {} packages", used.len());
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn a_license_that_is_not_permissive_is_refused() {
    for refused in ["GPL-3.0-only", "AGPL-3.0", "MIT AND GPL-2.0-only", "none"] {
        assert!(!is_allowed(refused), "{refused}");
    }
    for allowed in [
        "MIT/Apache-2.0",
        "(MIT OR GPL-2.0-only) AND ISC",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_allowed(allowed), "{allowed}");
    }
}
