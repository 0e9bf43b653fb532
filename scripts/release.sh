#!/usr/bin/env bash
# Builds the command and packs it: target/dist/sedet-VERSION-TARGET.tar.gz and its SHA-256.
# Arguments go to `cargo build`, such as --no-default-features.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc --version --verbose | sed -n 's/^host: //p')
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name="sedet-$version-$target"
directory="${CARGO_TARGET_DIR:-target}"
cargo build --release --locked --bin sedet "$@"

rm -rf "$directory/dist/$name"
mkdir -p "$directory/dist/$name/completions" "$directory/dist/$name/man"
stage="$directory/dist/$name"
install -m 755 "$directory/release/sedet" "$stage/sedet"
cp README.md CHANGELOG.md CITATION.cff LICENSE-MIT LICENSE-APACHE "$stage/"
for shell in bash zsh fish powershell; do
    "$stage/sedet" completions "$shell" > "$stage/completions/sedet.$shell"
done
"$stage/sedet" man --output "$stage/man"

# The same files give the same archive.
time=$(git log -1 --format=%ct 2>/dev/null || echo 0)
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$time" \
    -C "$directory/dist" -cf - "$name" | gzip -n -9 > "$directory/dist/$name.tar.gz"
(cd "$directory/dist" && sha256sum "$name.tar.gz" > "$name.tar.gz.sha256")
echo "$directory/dist/$name.tar.gz"
