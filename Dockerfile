# Small images without a shell, for amd64, arm64 and armv7; BuildKit (Docker 23, or DOCKER_BUILDKIT=1):
#
#   docker build -t fleetbridge .
#   docker build -t fleetsim --target fleetsim .
#   docker build -t nats-server --target nats .        # of the version in go.mod, for several bridges
#   docker build --platform linux/arm/v7 .
#
# make images makes the same for all three without an engine (deploy/images reads this file).
# The compiler runs on the machine that builds, whatever it builds for. docs/docker.md tells how to run them.
# A tag may move: docs/docker.md tells how to build from a digest.
ARG GO_IMAGE=golang:1.26-bookworm

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"
COPY . .
ARG VERSION="" COMMIT=""
# BuildKit fills these in from --platform; a default here would win over that.
ARG TARGETOS
ARG TARGETARCH
ARG TARGETVARIANT
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    export GOOS=$TARGETOS GOARCH=$TARGETARCH && \
    if [ "$GOARCH" = arm ]; then export GOARM=${TARGETVARIANT#v}; fi && \
    go build -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /out/bin/ ./cmd/fleetbridge ./cmd/fleetsim && \
    mkdir -p /out/data /out/etc && \
    echo 'fleetbridge:x:65532:65532::/data:/sbin/nologin' >/out/etc/passwd && echo 'fleetbridge:x:65532:' >/out/etc/group

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build-nats
WORKDIR /src
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"
COPY go.mod go.sum ./
ARG TARGETOS
ARG TARGETARCH
ARG TARGETVARIANT
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    export GOOS=$TARGETOS GOARCH=$TARGETARCH && \
    if [ "$GOARCH" = arm ]; then export GOARM=${TARGETVARIANT#v}; fi && \
    go build -ldflags "-s -w" -o /out/nats-server github.com/nats-io/nats-server/v2

FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/etc/ /etc/
USER 65532:65532

FROM base AS fleetsim
COPY --from=build /out/bin/fleetsim /usr/local/bin/fleetsim
EXPOSE 1883 8080
ENTRYPOINT ["/usr/local/bin/fleetsim"]
CMD ["--mqtt", "0.0.0.0:1883", "--http", "0.0.0.0:8080", "--auto-create"]

FROM base AS nats
COPY --from=build-nats /out/nats-server /usr/local/bin/nats-server
COPY --from=build --chown=65532:65532 /out/data /data
VOLUME /data
EXPOSE 4222 6222
ENTRYPOINT ["/usr/local/bin/nats-server"]
CMD ["--config", "/etc/nats/nats.conf"]

FROM base AS fleetbridge
COPY --from=build /out/bin/fleetbridge /usr/local/bin/fleetbridge
COPY --from=build --chown=65532:65532 /out/data /data
VOLUME /data
EXPOSE 4222 9321 9322
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/fleetbridge", "healthcheck", "--config", "/etc/fleetbridge/fleetbridge.yaml"]
ENTRYPOINT ["/usr/local/bin/fleetbridge"]
CMD ["run", "--config", "/etc/fleetbridge/fleetbridge.yaml"]
