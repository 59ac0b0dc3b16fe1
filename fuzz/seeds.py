#!/usr/bin/env python3
"""Makes first inputs for the fuzz targets out of the golden vault and the repository's own files, with stock age and zstd."""
import pathlib, re, shutil, subprocess, tarfile

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "tests/golden/v0.1.0"
seeds = HERE / "seeds"
shutil.rmtree(seeds, ignore_errors=True)


def put(target, name, content):
    folder = seeds / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


for target in "documents manifest_segment manifest_map index tar seek_table config kit selector".split():
    (seeds / target).mkdir(parents=True, exist_ok=True)
for n, file in enumerate([*GOLDEN.glob("store/snapshots/*"), *GOLDEN.glob("store/marks/*/*")]):
    put("documents", f"{n}", file.read_bytes())
    put("documents", f"{n}-line", file.read_bytes().split(b"\n")[0])
kit = (GOLDEN / "kit.txt").read_text()
put("kit", "golden", kit)
identity = re.search(r"AGE-SECRET-KEY-1[0-9A-Z]+", kit)
if identity and shutil.which("age") and shutil.which("zstd"):
    key = seeds / ".identity"
    key.write_text(identity[0] + "\n")
    def opened(file):
        return subprocess.run(["age", "-d", "-i", str(key), str(file)], capture_output=True, check=True).stdout
    for n, file in enumerate(GOLDEN.glob("store/manifests/*/*")):
        plain = subprocess.run(["zstd", "-dc"], input=opened(file), capture_output=True, check=True).stdout
        kind = re.search(rb'"type":"(\w+)"', plain)[1].decode()
        put({"segment": "manifest_segment", "map": "manifest_map", "index": "index"}[kind], str(n), plain)
    for n, file in enumerate(GOLDEN.glob("store/archives/*/*")):
        frames = opened(file)
        put("seek_table", f"{n}", frames[:65536])
        put("seek_table", f"{n}-end", frames[-512:])
        plain = subprocess.run(["zstd", "-dc"], input=frames, capture_output=True, check=True).stdout
        put("tar", str(n), plain[:65536])
    key.unlink()
put("config", "example", (HERE.parent / "deploy/backstay.toml").read_bytes())
for n, text in enumerate(["latest", "latest~3", "tag:stable", "@-2h", "@2026-11-17", "20261123T080000Z-abcdefgh", "latest-good", "@2026-11-17T08:00"]):
    put("selector", str(n), text)
