#!/usr/bin/env bash
# Builds the program with the feature cuda, and starts it where there is neither CUDA nor a GPU: it must link, and say in one
# line what is missing. The kernels are not run.
#
# A dependency of burn's CUDA backend links LLVM, which its build script would download from GitHub. The same library comes
# from PyPI here: two wheels of 94 MB, whose checksums are below. Needs python3 with pip, a linker for C++ and 6 GB; takes about 25
# CPU-minutes at first.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/llvm.txt" <<'END'
mlc-llvm-static==23.1.1 --hash=sha256:ec9a3eccf37361b558230cb78cf9acc854a8a92772303f8574cb09600de62969
mlc-llvm-static-extra-targets==23.1.1 --hash=sha256:bfceb27198a4647c469033154fe63cb9ff7dd55ddf223a97e15ad7a26012d3e3
END
if ! python3 -m pip download --quiet --no-deps --require-hashes -r "$work/llvm.txt" -d "$work" >"$work/log" 2>&1; then
    echo "NOT TESTED: a program with cuda (no LLVM from PyPI: $(tail -1 "$work/log"))"
    exit 0
fi
for wheel in "$work"/*.whl; do
    python3 -m zipfile -e "$wheel" "$work/llvm"
done
# The directory in which the build script looks before it downloads.
version=$(grep -A 1 '^name = "tracel-llvm-bundler"$' Cargo.lock | sed -n 's/^version = "\(.*\)"$/\1/p')
export XDG_DATA_HOME="$work/data"
mkdir -p "$XDG_DATA_HOME/tracel"
mv "$work/llvm/mlc_llvm_static/static" "$XDG_DATA_HOME/tracel/tracel-llvm-$version"
touch "$XDG_DATA_HOME/tracel/tracel-llvm-$version/.tracel-llvm-installed"
chmod +x "$XDG_DATA_HOME/tracel/tracel-llvm-$version"/bin/*

# Without optimization: it is only started. DOCS_RS would keep LLVM out of the program.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/cuda}" CARGO_PROFILE_DEV_DEBUG=false CARGO_PROFILE_DEV_OPT_LEVEL=0
# Without nvcc, the newest bindings would be chosen, which need the newest driver.
export CUDARC_CUDA_VERSION=12080
env -u DOCS_RS cargo build --package sedet --no-default-features --features cuda
sedet=$(realpath "$CARGO_TARGET_DIR/debug/sedet")

"$sedet" --version | grep -qx 'features: cuda'
"$sedet" doctor >"$work/doctor"
if grep -q '^cuda  *works' "$work/doctor"; then
    echo "a program with cuda starts, and finds a GPU"
    exit 0
fi
grep -A 2 '^cuda  *no ' "$work/doctor" | grep -q 'no NVIDIA driver or no GPU found'
if "$sedet" predict assets/shapes-detections.jpg --checkpoint assets/shapes-se-resnet18.safetensors --device cuda \
    --output "$work/out" >"$work/stdout" 2>"$work/error"; then
    echo "predict on cuda succeeded without a GPU"
    exit 1
fi
grep -q '^error: .*no cuda device: no NVIDIA driver or no GPU found' "$work/error"
if grep -q 'panicked' "$work/error"; then
    cat "$work/error"
    exit 1
fi
echo "a program with cuda links, starts, and says that there is no GPU"
