# The command without the viewer, in a small image:
#   docker build -t sedet .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" sedet predict --checkpoint model.safetensors photo.jpg
# The version of Rust is `rust-version` in Cargo.toml; the image has the C compiler that the build needs.
FROM rust:1.95-bookworm AS build
WORKDIR /src
# Without .git (see .dockerignore), so that `sedet --version` has no commit.
COPY . .
# The default members of the workspace include the viewer: --bin builds the command only.
RUN cargo build --release --locked --bin sedet --no-default-features

# The same Debian as in the first stage: the binary needs its C library and libgcc, which this image has. The root
# certificates for downloads are part of the binary.
FROM debian:bookworm-slim
COPY --from=build /src/target/release/sedet /usr/local/bin/sedet
COPY LICENSE-MIT LICENSE-APACHE /usr/local/share/doc/sedet/
# For runs without `--user`, and without a mounted directory.
RUN install --directory --owner=1000 --group=1000 /data
USER 1000:1000
WORKDIR /data
# Downloaded weights and named datasets are kept in the mounted directory.
ENV SEDET_DATA=/data
ENTRYPOINT ["sedet"]
