#!/usr/bin/env bash
# How tests/golden/v0.1.0 was made, once. Golden vaults are never made again: every later build must read what this one wrote.
#   tests/golden/make.sh VERSION      makes tests/golden/VERSION with target/release/backstay; refuses when it is there
set -eu
cd "$(dirname "$0")/../.."
out=tests/golden/$1
[ ! -e "$out" ] || { echo "$out is there, and golden vaults are never changed" >&2; exit 1; }
program=$PWD/target/release/backstay
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
export HOME=$work/home; unset XDG_CONFIG_HOME XDG_STATE_HOME BACKSTAY_CONFIG
mkdir -p "$HOME" "$work/app/code/empty" "$work/app/code/deep/er"
cd "$work/app"
printf 'print("hello")\n' > code/main.py; chmod 755 code/main.py
printf 'deeper\n' > code/deep/er/file.txt; ln code/deep/er/file.txt code/deep/second-name
ln -s ../main.py code/deep/link; mkfifo code/pipe
printf 'odd' > "$(printf 'code/n\xffame\nline')"; : > code/nothing
truncate -s 3M code/sparse; printf 'end' >> code/sparse
python3 - <<'PY'
import sqlite3
db = sqlite3.connect("agent.db")
db.execute("PRAGMA journal_mode=WAL"); db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)")
db.executemany("INSERT INTO t VALUES(?,?)", ((n, f"row {n}") for n in range(500))); db.commit(); db.close()
PY
printf 'KEY=value\n' > .env; chmod 600 .env
find . -exec touch -h -d '2026-11-22T10:11:12.123456789Z' {} +
"$program" -q init --yes --kit "$work/kit.txt" >/dev/null
cat >> backstay.toml <<'TOML'

[[component]]
name = "all"
path = "code"
TOML
listing() { # every path of a restored tree: kind, mode, time, link target or SHA-256
  python3 - "$1" <<'PY'
import hashlib, os, pathlib, stat, sys
top = pathlib.Path(sys.argv[1])
for path in sorted(top.rglob("*"), key=lambda p: os.fsencode(p)):
    facts = path.lstat(); name = os.fsencode(path.relative_to(top)).hex()
    what = os.readlink(path) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "-"
    print(name, stat.filemode(facts.st_mode), facts.st_mtime_ns, what)
PY
}
components=$(grep -c '^\[\[component\]\]' backstay.toml); [ "$components" -ge 2 ]
ids=()
for round in 1 2; do
  "$program" -q backup --note "golden $round" --tag "round$round" >/dev/null
  printf '# round %s\n' "$round" >> code/main.py; rm -f code/nothing
done
mkdir -p "$OLDPWD/$out"; cd "$OLDPWD"
cp -r "$work/app/backups" "$out/store"; rm -rf "$out/store/.incoming" "$out/store/.gitignore"
(cd "$work/app" && "$program" -q kit -o "$work/kit-now.txt")
cp "$work/kit-now.txt" "$out/kit.txt"
for id in $(cd "$out/store/snapshots" && ls | sed 's/.json//'); do
  "$program" -q --kit "$out/kit.txt" --store "$PWD/$out/store" restore "$id" --to "$work/r-$id" >/dev/null
  { echo "# $id"; listing "$work/r-$id"; } >> "$out/expected.txt"
done
du -sh "$out"
