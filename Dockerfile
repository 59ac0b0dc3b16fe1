# The program with the few libraries that it loads, as a user without rights: no shell, no package manager. docs/compose.md says how it is run.
#
#   docker build -t backstay:0.1.0 .          or: podman build, docker-compose build agent
#
# Mounts: /etc/backstay       configuration and keys, read only (backstay.toml; files of keys 0600 and of user 65532)
#         /var/lib/backstay   state, written; it has to outlive the container
#         the data            where the configuration says, read only; user 65532 must be able to read it, or give another user with --user
#         /tmp                a tmpfs, where the root file system is read only
# It ends on SIGTERM within ten seconds, as process 1, too. Dumps, hooks and checks need their programs: make an image with those, of the same
# distribution, and COPY --from=backstay:0.1.0 /usr/bin/backstay /usr/bin/ (deploy/demo/Dockerfile does).
ARG BUILD_IMAGE=rust:1.95.0-bookworm
FROM ${BUILD_IMAGE} AS build
ARG COMMIT=
WORKDIR /src
COPY . .
# Takes dist/program/backstay when it is there, and compiles otherwise.
RUN BACKSTAY_COMMIT="$COMMIT" deploy/program.sh /out/usr/bin/backstay && /out/usr/bin/backstay --version
RUN for library in $(ldd /out/usr/bin/backstay | grep -o '/[^ ]*'); do mkdir -p "/out$(dirname "$library")"; cp -L "$library" "/out$library"; done \
 && mkdir -p /out/etc/ssl/certs /out/usr/share /out/var/lib/backstay /out/etc/backstay /out/tmp \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && cp -r /usr/share/zoneinfo /out/usr/share/zoneinfo && rm -rf /out/usr/share/zoneinfo/right /out/usr/share/zoneinfo/posix \
 && printf 'root:x:0:0::/:/none\nbackstay:x:65532:65532::/var/lib/backstay:/none\n' >/out/etc/passwd \
 && printf 'root:x:0:\nbackstay:x:65532:\n' >/out/etc/group \
 && printf 'passwd: files\ngroup: files\nhosts: files dns\n' >/out/etc/nsswitch.conf \
 && chmod 0700 /out/var/lib/backstay && chmod 1777 /out/tmp && chown 65532:65532 /out/var/lib/backstay

FROM scratch
COPY --from=build /out/ /
ENV HOME=/var/lib/backstay XDG_CONFIG_HOME=/etc XDG_STATE_HOME=/var/lib BACKSTAY_CONFIG=/etc/backstay/backstay.toml
USER 65532:65532
# "unhealthy" until the first backup has ended well, and again when a person is needed (exit code 18).
HEALTHCHECK --interval=5m --timeout=1m --start-period=5m --retries=2 CMD ["/usr/bin/backstay", "--quiet", "status", "--check"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/backstay"]
CMD ["agent"]
