# Relaypost's images: one Dockerfile, six targets (api, worker, migrate, embedded, backup, deploy). `make build` builds them all.
#
# All of them run as user 10001 with a read-only root file system. They write to /tmp only; embedded also to /data, and
# backup to /backups.

ARG BUILDER_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm
ARG RUNTIME_IMAGE=docker.io/library/debian:12.12-slim

# ---- The four binaries ----------------------------------------------------------------------------------------------------
FROM ${BUILDER_IMAGE} AS builder
# `dev` compiles in a fraction of the time; compose.dev.yml takes it.
ARG PROFILE=release
WORKDIR /build
# Line tables would be a third of a binary. Names of functions stay, for backtraces.
ENV CARGO_INCREMENTAL=0 CARGO_NET_RETRY=10 CARGO_PROFILE_RELEASE_DEBUG=false
COPY Cargo.toml Cargo.lock ./
COPY bench/Cargo.toml bench/
COPY faults/Cargo.toml faults/
COPY testkit/Cargo.toml testkit/
COPY api api
COPY migration migration
COPY shared shared
COPY standalone standalone
COPY worker worker
# Dependencies stay compiled in a cache of the engine, so that a changed manifest costs only what it changed; in a layer of
# their own one changed line of Cargo.lock would compile them all again. The workspace's own crates are always compiled:
# cargo goes by times, and a source can be older than what was last made of another one. The three crates that are in no
# image are empty here.
RUN --mount=type=cache,id=relaypost-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=relaypost-target,target=/build/target,sharing=locked \
    for crate in bench faults testkit; do mkdir "$crate/src" && : >"$crate/src/lib.rs" || exit 1; done \
    && rm -rf target/*/.fingerprint/relaypost* \
    && cargo build --profile "$PROFILE" --locked --bins \
       -p relaypost-api -p relaypost-worker -p relaypost-migration -p relaypost \
    && mkdir /out \
    && if [ "$PROFILE" = dev ]; then made=target/debug; else made=target/$PROFILE; fi \
    && for name in relaypost relaypost-api relaypost-worker relaypost-migrate; do cp "$made/$name" /out/ || exit 1; done

# ---- What every image has -------------------------------------------------------------------------------------------------
FROM ${RUNTIME_IMAGE} AS runtime
# The certificates are those that webhooks, mail servers and identity providers are verified against.
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && groupadd --gid 10001 relaypost \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir / --shell /usr/sbin/nologin relaypost
COPY LICENSE-APACHE LICENSE-MIT /usr/share/licenses/relaypost/
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Relaypost" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Development lets anybody sign in, which a container with an open port must not do unasked.
ENV APP_ENV=production
WORKDIR /
USER 10001:10001
STOPSIGNAL SIGTERM

# ---- The images -----------------------------------------------------------------------------------------------------------
FROM runtime AS api
LABEL org.opencontainers.image.description="Relaypost's HTTP API"
COPY --from=builder /out/relaypost-api /usr/local/bin/
ENV BIND_ADDR=0.0.0.0:3000
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["relaypost-api", "health"]
ENTRYPOINT ["relaypost-api"]
CMD ["serve"]

FROM runtime AS worker
LABEL org.opencontainers.image.description="Relaypost's delivery worker"
COPY --from=builder /out/relaypost-worker /usr/local/bin/
ENV WORKER_BIND_ADDR=0.0.0.0:3001
EXPOSE 3001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["relaypost-worker", "health"]
ENTRYPOINT ["relaypost-worker"]
CMD ["serve"]

FROM runtime AS migrate
LABEL org.opencontainers.image.description="Relaypost's database schema"
COPY --from=builder /out/relaypost-migrate /usr/local/bin/
ENTRYPOINT ["relaypost-migrate"]
CMD ["up"]

FROM runtime AS embedded
LABEL org.opencontainers.image.description="Relaypost in one process, on SQLite"
COPY --from=builder /out/relaypost /usr/local/bin/
USER 0:0
RUN install -d -o 10001 -g 10001 -m 0750 /data
USER 10001:10001
ENV BIND_ADDR=0.0.0.0:3000 DATABASE_URL=sqlite:///data/relaypost.db EMAIL_PROVIDERS=file:///data/mail
VOLUME /data
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["relaypost", "health"]
ENTRYPOINT ["relaypost"]
CMD ["serve"]

FROM runtime AS backup
LABEL org.opencontainers.image.description="Backups of Relaypost's database, and the drill that proves them"
# pg_dump reads servers of its own version and older ones. A version that Debian does not have comes from PostgreSQL's
# own repository, which Debian's postgresql-common sets up.
ARG POSTGRES_VERSION=16
USER 0:0
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get -q update \
    && if ! apt-cache show "postgresql-client-${POSTGRES_VERSION}" >/dev/null 2>&1; then \
         apt-get -q install -y --no-install-recommends postgresql-common \
         && /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y; \
       fi \
    && apt-get -q install -y --no-install-recommends "postgresql-client-${POSTGRES_VERSION}" age jq sqlite3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && install -d -o 10001 -g 10001 -m 0700 /backups
COPY --from=builder /out/relaypost-migrate /usr/local/bin/
COPY scripts/backup scripts/restore-drill /opt/relaypost/scripts/
COPY scripts/lib/*.sh /opt/relaypost/scripts/lib/
USER 10001:10001
ENV BACKUP_DIR=/backups
VOLUME /backups
# The first night may be a day away.
HEALTHCHECK --interval=5m --timeout=10s --start-period=25h --retries=1 CMD ["/opt/relaypost/scripts/backup", "--healthy"]
ENTRYPOINT ["/opt/relaypost/scripts/backup"]

FROM runtime AS deploy
LABEL org.opencontainers.image.description="Checks of a running Relaypost: preflight, gate, rollout and monitor (docs/promotion.md)"
USER 0:0
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY scripts/deployment /opt/relaypost/scripts/
COPY scripts/lib/common.sh scripts/lib/images.sh /opt/relaypost/scripts/lib/
COPY scripts/deploy/*.py /opt/relaypost/scripts/deploy/
USER 10001:10001
ENTRYPOINT ["/opt/relaypost/scripts/deployment"]
CMD ["monitor"]
