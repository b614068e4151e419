# syntax=docker/dockerfile:1

FROM rust:1-bookworm AS builder
WORKDIR /build
COPY . .
# What cargo fetched and built stays in caches of the builder, not in layers: a change of the source then compiles only
# the source, and a change of one dependency only what hangs on it. The binary is copied out, since caches are not kept.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked \
    && install -D -s -m 755 target/release/onair /out/onair

FROM debian:bookworm-slim
# Only ffmpeg and OpenSSL: the server itself is one binary, and carries the authorities that it believes (for ACME) with it.
# The drivers that draw on a graphics card, a third of what ffmpeg brings along, are never loaded here.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ffmpeg libssl3 \
    && rm -rf /var/lib/apt/lists/* /usr/lib/*/dri /usr/lib/*/libLLVM-* /usr/lib/*/libz3.* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin onair \
    && install -d -o onair -g onair /recordings
COPY --from=builder /out/onair /usr/local/bin/onair
COPY --chmod=755 scripts/healthcheck /usr/local/bin/onair-healthcheck

# By number, so that an orchestrator can tell that it is not root.
USER 10001:10001
WORKDIR /recordings
ENV ONAIR_RECORD_DIR=/recordings
VOLUME /recordings
EXPOSE 8080/tcp 8189/udp 8189/tcp
# Broadcasters and viewers are told, recordings are closed: within 10 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=5s CMD ["onair-healthcheck"]
ENTRYPOINT ["onair"]
