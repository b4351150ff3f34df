# A static binary in an image with nothing else: no shell, no package manager, user 65532.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
# With the compiler's cache, a change compiles what depends on it, and not everything.
RUN --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.release=${VERSION}" -o /out/signet ./cmd/signet \
 && mkdir -p /out/own/state /out/own/tmp && chmod 700 /out/own/state && chmod 1777 /out/own/tmp

FROM scratch
COPY --from=build /out/signet /signet
# The roots of the system, for storage that CRLs are copied to over https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /out/own/ /
USER 65532:65532
ENV SIGNET_CONFIG=/state/signet.yaml
VOLUME /state
EXPOSE 8443 8080 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/signet", "doctor", "--health"]
ENTRYPOINT ["/signet"]
CMD ["serve"]
