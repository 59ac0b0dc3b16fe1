#!/usr/bin/env bash
# Makes what is given to others, in dist/VERSION: the program in a .tar.gz and a .deb, an image where there is an engine, SHA256SUMS and its signature.
#
#   deploy/release.sh                      compiles; nothing is signed
#   deploy/release.sh --key FILE           signs with this SSH key (ssh-keygen -Y sign); FILE.pub may be one of an agent's
#   PROGRAM=target/release/backstay deploy/release.sh --to DIR       packs a program that is there
#
# The same commit, program and day (SOURCE_DATE_EPOCH, else that of the commit) give the same bytes, but for the image. docs/releases.md says how it is checked.
set -eu -o pipefail
cd "$(dirname "$0")/.."
key='' to=''
while [ $# -gt 0 ]; do
  case $1 in
    --key) key=$2; shift 2 ;;
    --to) to=$2; shift 2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
to=${to:-dist/$version}
commit=$(git rev-parse HEAD 2>/dev/null || echo "${BACKSTAY_COMMIT:-}")
if [ -z "${PROGRAM:-}" ] && [ -n "$(git status --porcelain 2>/dev/null)" ]; then echo 'there are changes that are in no commit: commit them first' >&2; exit 1; fi
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}" LC_ALL=C TZ=UTC
[ ! -e "$to" ] || { echo "$to is there already: a release is made once" >&2; exit 1; }
umask 022
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$to"; to=$(cd "$to" && pwd)

if [ -n "${PROGRAM:-}" ]; then
  cp "$PROGRAM" "$work/backstay"
else
  COMPILE=1 BACKSTAY_COMMIT="$commit" deploy/program.sh "$work/backstay"
fi
program=$work/backstay
chmod 755 "$program"
# What it says itself: static, or the oldest glibc that has all it calls.
glibc=$(grep -aoE 'GLIBC_2\.[0-9]+' "$program" | sort -uV | tail -1 | cut -d_ -f2 || true)
if ldd "$program" 2>&1 | grep -qE 'statically linked|not a dynamic'; then
  glibc=''; echo 'static: no library is needed'
else
  echo "needs glibc $glibc or newer: the target for musl is not installed here, so no static program was made"
fi
case $(uname -m) in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; *) machine=$(uname -m) ;; esac

packed() { # packed FOLDER: a tar of it whose bytes hang on nothing but its content
  tar --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$(dirname "$1")" -cf - "$(basename "$1")" | gzip -9n
}

# What goes beside the program, made by the program itself where it can.
share=$work/share
mkdir -p "$share/man" "$share/completions"
"$program" man "$share/man" >/dev/null
for shell in bash zsh fish; do "$program" completions $shell >"$share/completions/backstay.$shell"; done

folder=$work/backstay-$version
mkdir -p "$folder"
cp "$program" README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$folder"
cp -r docs "$share/man" "$share/completions" "$folder"
cp -r deploy/systemd "$folder/systemd"
packed "$folder" >"$to/backstay-$version-linux-$machine.tar.gz"

if command -v dpkg-deb >/dev/null; then
  deb=$work/deb doc=$work/deb/usr/share/doc/backstay
  mkdir -p "$deb/DEBIAN" "$deb/usr/bin" "$deb/usr/lib/systemd/system" "$deb/usr/share/man/man1" "$deb/usr/share/bash-completion/completions" \
    "$deb/usr/share/zsh/vendor-completions" "$deb/usr/share/fish/vendor_completions.d" "$doc"
  install -m 755 "$program" "$deb/usr/bin/backstay"
  for unit in deploy/systemd/backstay*; do sed 's|/usr/local/bin/|/usr/bin/|g' "$unit" >"$deb/usr/lib/systemd/system/$(basename "$unit")"; done
  for page in "$share"/man/*.1; do gzip -9n <"$page" >"$deb/usr/share/man/man1/$(basename "$page").gz"; done
  cp "$share/completions/backstay.bash" "$deb/usr/share/bash-completion/completions/backstay"
  cp "$share/completions/backstay.zsh" "$deb/usr/share/zsh/vendor-completions/_backstay"
  cp "$share/completions/backstay.fish" "$deb/usr/share/fish/vendor_completions.d/backstay.fish"
  cp -r README.md CHANGELOG.md docs deploy/backstay.toml "$doc"
  { echo 'License: MIT OR Apache-2.0'; echo; cat LICENSE-MIT; echo; cat LICENSE-APACHE; } >"$doc/copyright"
  {
    printf 'Package: backstay\nVersion: %s\nArchitecture: %s\nSection: admin\nPriority: optional\n' "$version" "$machine"
    printf 'Maintainer: the makers of backstay <backstay@example.invalid>\n'
    [ -z "$glibc" ] || printf 'Depends: libc6 (>= %s), libgcc-s1\n' "$glibc"
    printf 'Suggests: age, zstd, python3\nInstalled-Size: %s\n' "$(du -sk --apparent-size "$deb/usr" | cut -f1)"
    printf 'Description: backup agent for people who run their own application\n'
    printf ' Encrypted, signed, incremental snapshots of folders, live SQLite databases and dumps, and\n the way back. No unit is started by itself: /usr/share/doc/backstay/docs/agent.md.\n'
  } >"$deb/DEBIAN/control"
  (cd "$deb" && find usr -type f | sort | xargs -d '\n' md5sum) >"$deb/DEBIAN/md5sums"
  find "$deb" -type d -exec chmod 755 {} + && find "$deb" -type f ! -path '*/bin/*' -exec chmod 644 {} +
  find "$deb" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Zxz --build "$deb" "$to/backstay_${version}_$machine.deb" >/dev/null
else
  echo 'no .deb: dpkg-deb is not installed'
fi

if docker info >/dev/null 2>&1; then
  # Of the program that was made above; BUILD_IMAGE as in the Dockerfile: its glibc must be as new as this machine's.
  place=$work/image
  mkdir -p "$place/deploy" "$place/dist/program"
  cp Dockerfile .dockerignore Cargo.toml "$place"
  cp deploy/program.sh "$place/deploy"
  cp "$program" "$place/dist/program/backstay"
  docker build -q -t "backstay:$version" ${BUILD_IMAGE:+--build-arg "BUILD_IMAGE=$BUILD_IMAGE"} "$place" >/dev/null
  docker save "backstay:$version" | gzip -9n >"$to/backstay-$version-image-$machine.tar.gz"
else
  echo 'no image: no engine answers'
fi

(cd "$to" && sha256sum -- * >"$work/sums" && mv "$work/sums" SHA256SUMS && chmod 644 SHA256SUMS)
if [ -n "$key" ]; then
  ssh-keygen -q -Y sign -f "$key" -n backstay-release "$to/SHA256SUMS"
else
  echo 'nothing is signed: no --key'
fi
ls -l "$to"
