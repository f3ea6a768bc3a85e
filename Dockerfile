# The image of inference-scaler: one static binary, as nobody, on nothing. `docker
# buildx build --platform linux/amd64,linux/arm64 .` makes both; `make image` makes
# the same without a container engine, with a bill of materials.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# The repository too: the binary tells its version of it.
COPY . .
ARG TARGETOS TARGETARCH
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH make build BIN=/out/inference-scaler LDFLAGS='-s -w'

FROM scratch
LABEL org.opencontainers.image.title="inference-scaler" \
      org.opencontainers.image.description="A KEDA external scaler for GPU inference fleets" \
      org.opencontainers.image.source="https://github.com/inference-scaler/inference-scaler" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/inference-scaler /inference-scaler
USER 65532:65532
EXPOSE 9090 8080 4317 4318
ENTRYPOINT ["/inference-scaler"]
CMD ["serve"]
