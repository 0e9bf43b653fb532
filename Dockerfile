# The command without the viewer, in a small image:
#   docker build -t sedet .
#   docker run --rm -v "$PWD:/data" sedet predict --checkpoint model.safetensors photo.jpg
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --no-default-features

FROM debian:bookworm-slim
COPY --from=build /src/target/release/sedet /usr/local/bin/sedet
COPY LICENSE-MIT LICENSE-APACHE /usr/local/share/doc/sedet/
WORKDIR /data
ENTRYPOINT ["sedet"]
