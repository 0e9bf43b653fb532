#!/usr/bin/env bash
# Builds the Dockerfile without a registry and runs the image as docs/install.md says. Needs buildah, mmdebstrap and root,
# and a release build of the command. Cargo in the first stage is a stand-in that puts this build in its place: the
# compilation itself is the same as everywhere.
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
binary="${CARGO_TARGET_DIR:-target}/release/sedet"
work=$(mktemp -d)
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
run() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }
trap 'run rm --all > /dev/null || true; rm -rf "$work"' EXIT

release=$(sed -n 's/^FROM debian:\(.*\)-slim$/\1/p' Dockerfile)
mmdebstrap --quiet --variant=minbase "$release" "$work/root"
container=$(run from scratch)
run copy -q "$container" "$work/root" / > /dev/null
run commit -q "$container" "docker.io/library/debian:$release-slim" > /dev/null

mkdir "$work/stand-in"
cp "$binary" "$work/stand-in/sedet"
cat > "$work/stand-in/cargo" <<'CARGO'
#!/bin/sh
set -e
[ "$*" = "build --release --locked --bin sedet --no-default-features" ]
for path in Cargo.toml Cargo.lock build.rs src/main.rs crates/core/Cargo.toml assets configs; do [ -e "$path" ]; done
[ ! -e .git ] && [ ! -e target ]
mkdir -p target/release
cp /usr/local/bin/stand-in target/release/sedet
CARGO
chmod +x "$work/stand-in/cargo"
container=$(run from --pull-never "docker.io/library/debian:$release-slim")
run copy -q "$container" "$work/stand-in/cargo" /usr/local/bin/cargo > /dev/null
run copy -q "$container" "$work/stand-in/sedet" /usr/local/bin/stand-in > /dev/null
run commit -q "$container" "docker.io/library/$(sed -n 's/^FROM \(rust:[^ ]*\) AS build$/\1/p' Dockerfile)" > /dev/null

# What is not ignored, with a target directory that .dockerignore has to keep out.
mkdir "$work/context"
git ls-files --cached --others --exclude-standard -z | xargs -0 cp --parents --no-dereference --target-directory "$work/context"
mkdir "$work/context/target" "$work/context/.git"
(cd "$work/context" && run bud --pull-never --quiet --tag sedet . > /dev/null)

container=$(run from --pull-never localhost/sedet)
mkdir "$work/data"
cp "$repository/assets/shapes-se-resnet18.safetensors" "$work/data/model.safetensors"
"$binary" data shapes --quiet --output "$work/scenes" --train-images 1 --val-images 1
find "$work/scenes" -name '*.png' -o -name '*.jpg' | head -1 | xargs -I{} cp {} "$work/data/photo.png"
chown -R 1234:1234 "$work/data"
run run --user 1234:1234 --volume "$work/data:/data" "$container" -- \
    sedet predict --checkpoint model.safetensors photo.png --output detections
[ "$(stat --format=%u "$work/data/detections/predictions.json")" = 1234 ]
# The default user writes to the directory of the image.
run run "$container" -- sh -c 'sedet data shapes --output scenes --train-images 1 --val-images 1 && [ "$(id -u)" = 1000 ]'
echo "the Dockerfile builds, and the image predicts and writes"
