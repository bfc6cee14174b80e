# The bridge and the simulator in one small image. See docker-compose.yml.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -o /out/ ./cmd/... && mkdir /out/data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/fleetbridge /out/fleetsim /usr/local/bin/
COPY --from=build --chown=nonroot:nonroot /out/data /data
VOLUME /data
ENTRYPOINT ["/usr/local/bin/fleetbridge"]
CMD ["run", "--config", "/etc/fleetbridge/fleetbridge.yaml"]
