# syntax=docker/dockerfile:1

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --release --bin lizards \
    && cp target/release/lizards /usr/local/bin/lizards

FROM debian:12.12-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/lizards lizards
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/lizards /usr/local/bin/lizards
USER 10001
WORKDIR /var/lib/lizards
ENV LIZARDS_DATA_DIR=/var/lib/lizards
ENTRYPOINT ["lizards"]
CMD ["--help"]
