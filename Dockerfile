# The toolchain is the one of rust-toolchain.toml. That file stays out of the image: it also asks for
# clippy and rustfmt, which a build does not need.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
# For `bursar --version`, because the repository is not copied: `--build-arg BURSAR_COMMIT=$(git rev-parse --short=12 HEAD)`.
ARG BURSAR_COMMIT=
# What only drives the build need not be fast.
ENV CARGO_PROFILE_BENCH_LTO=off CARGO_PROFILE_BENCH_CODEGEN_UNITS=16
# Downloads and compiled dependencies outlive a change of the source. Without the `touch`, cargo would take a
# binary of other sources for this one's where those were built later than these were written.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    touch build.rs src/lib.rs src/main.rs crates/*/src/lib.rs \
    && benches/side_by_side/build \
    && cp target/side_by_side/bursar /bursar \
    && mkdir /journal

# glibc, so that names resolve as on any host (/etc/nsswitch.conf, /etc/hosts, DNS); CA certificates, time
# zones, and no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /bursar /bursar
# A volume that is new there is Bursar's own: `journal: {path: /var/lib/bursar}`.
COPY --from=build --chown=65532:65532 /journal /var/lib/bursar
COPY LICENSE-MIT LICENSE-APACHE /licenses/
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 3128 9128
# For every command.
ENV BURSAR_CONFIG=/etc/bursar/proxy.yaml
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/bursar", "health"]
ENTRYPOINT ["/bursar"]
CMD ["run"]
