#!/bin/sh
# Makes the program for others, at the path that is given. With dist/program/backstay (deploy/release.sh puts it there for an image) it takes that; otherwise, or with
# COMPILE=1, it compiles: for musl, without any shared library, where rustup has that target; else for this machine's glibc.
#
# Not with glibc's static part: such a program loads the modules of /etc/nsswitch.conf when it asks for a user's name, and with libnss_systemd, which is
# usual on servers, it dies of it.
set -eu
cd "$(dirname "$0")/.."
to=$1
ready=dist/program/backstay
mkdir -p "$(dirname "$to")"
if [ -z "${COMPILE:-}" ] && [ -x "$ready" ]; then
  cp "$ready" "$to"
else
  machine=$(uname -m) folder=${CARGO_TARGET_DIR:-target}
  target=$machine-unknown-linux-gnu
  if [ -d "$(rustc --print sysroot)/lib/rustlib/$machine-unknown-linux-musl" ] && command -v musl-gcc >/dev/null; then target=$machine-unknown-linux-musl; fi
  # No path of this machine gets into it.
  RUSTFLAGS="--remap-path-prefix=$PWD=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    cargo build --quiet --release --locked --features gcs,azure --target "$target" --target-dir "$folder"
  cp "$folder/$target/release/backstay" "$to"
fi
chmod 0755 "$to"
