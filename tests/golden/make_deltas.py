#!/usr/bin/env python3
"""How tests/golden/v0.1.0-deltas was made, once. Golden vaults are never made again: every later build must read what this one wrote.

  tests/golden/make_deltas.py NAME [PROGRAM]     makes tests/golden/NAME with target/release/backstay, or PROGRAM; refuses when it is there

Six snapshots of a small application in two stores: one that stands alone, three in which parts of large files and pages of databases changed (a file of more
than 256 extents has maps), one of a single component, one that stands alone again; the second store is away for two of them. What must come back is taken from
the live files before each backup, not from what a restore gave.
"""
import hashlib, os, pathlib, shutil, sqlite3, stat, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else HERE.parent.parent / "target/release/backstay"
OUT = HERE / sys.argv[1]
BLOCK, BLOCKS = 16 << 10, 640           # the block size that a file of 10 MB has
CONFIG = """
[[component]]
name = "code"
path = "code"
exclude = ["*.tmp"]

[[component]]
name = "db"
sqlite = "agent.db"

[[component]]
name = "dump"
command = ["cat", "dump.sql"]

[[component]]
name = "settings"
paths = [".env", "other/site.conf"]

[[store]]
name = "second"
path = "../second"
"""


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def block(number, version):
    """One block, which packs well: golden vaults are committed."""
    return (f"block {number} version {version} ".encode() * 1000)[:BLOCK]


def edit(path, blocks, version):
    with open(path, "r+b") as file:
        for number in blocks:
            file.seek(number * BLOCK)
            file.write(block(number, version))


def rows(path, statement, values):
    """One transaction, after which the database is one file again."""
    db = sqlite3.connect(path)
    db.executemany(statement, values)
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def make(app):
    code = app / "code"
    write(code / "main.py", b'print("hello")\n')
    (code / "main.py").chmod(0o755)
    write(code / "deep/er/file.txt", b"deeper\n")
    os.link(code / "deep/er/file.txt", code / "deep/second-name")
    os.symlink("../main.py", code / "deep/link")
    os.mkfifo(code / "pipe")
    (code / "empty").mkdir()
    write(pathlib.Path(os.fsdecode(os.fsencode(code) + b"/n\xffame\nline")), b"odd")
    with open(code / "sparse", "wb") as file:
        file.truncate(3 << 20)
        file.seek(3 << 20)
        file.write(b"end")
    write(code / "large.bin", b"".join(block(n, 0) for n in range(BLOCKS)))
    write(code / "app.log", b"".join(b"line %d of the log\n" % n for n in range(70_000)))
    for path, mode in ((app / "agent.db", "WAL"), (code / "found.db", "DELETE")):
        db = sqlite3.connect(path)
        db.executescript(f"PRAGMA page_size=4096; PRAGMA journal_mode={mode}; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)")
        db.close()
        rows(path, "INSERT INTO t VALUES(?,?)", ((n, f"row {n} " * 20) for n in range(4000)))
    write(app / "dump.sql", b"CREATE TABLE t(a);\n" * 100)
    write(app / ".env", b"KEY=value\n")
    (app / ".env").chmod(0o600)
    write(app / "other/site.conf", b"server {}\n")


def change(app, round):
    code = app / "code"
    if round == 2:          # every second block: more extents than an entry holds, so maps
        edit(code / "large.bin", range(0, BLOCKS, 2), 2)
        with open(code / "app.log", "ab") as file:
            file.write(b"appended\n" * 1000)
        rows(app / "agent.db", "UPDATE t SET b = ? WHERE a = ?", ((f"changed {n} " * 18, n) for n in range(1000, 1040)))
        (code / "main.py").write_text('print("changed")\n')
    if round == 3:          # maps of before stay in part; a file goes, one is renamed, one is inserted into
        edit(code / "large.bin", [3, 100, 101], 3)
        (code / "deep/er/file.txt").rename(code / "deep/er/renamed.txt")
        log = (code / "app.log").read_bytes()
        (code / "app.log").write_bytes(log[:500_000] + b"inserted in the middle\n" + log[500_000:])
        rows(code / "found.db", "DELETE FROM t WHERE a % 500 = ?", [(7,)])
        os.unlink(code / "pipe")
    if round == 4:
        edit(code / "large.bin", [639], 4)
        rows(app / "agent.db", "INSERT INTO t VALUES(?,?)", ((n, f"new {n}") for n in range(5000, 5100)))
        (app / ".env").write_text("KEY=other\n")
        write(code / "not-this.tmp", b"excluded")
    if round == 5:
        rows(app / "agent.db", "UPDATE t SET b = 'only' WHERE a = ?", [(5000,)])


def listing(app, only):
    """Every path that must come back: kind, mode, time, link target or SHA-256. Of databases and lists the folders are the restore's own."""
    found = {}
    places = {"code": (app / "code", True), "db": (app / "agent.db", False), "settings/.env": (app / ".env", False), "settings/other/site.conf": (app / "other/site.conf", False)}
    for name, (top, is_tree) in places.items():
        if only and name.split("/")[0] not in only:
            continue
        for path in [top, *top.rglob("*")] if is_tree else [top]:
            if path.name.endswith(".tmp"):
                continue
            facts = path.lstat()
            what = os.readlink(path) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "-"
            inner = os.fsencode(path.relative_to(top))
            place = os.fsencode(name) + (b"" if inner == b"." else b"/" + inner) if is_tree else b"db/agent.db" if name == "db" else os.fsencode(name)
            found[place] = f"{stat.filemode(facts.st_mode)} {facts.st_mtime_ns} {what}"
    if not only:            # a command's output has no mode or time of its own
        found[b"dump/output"] = f"? ? {hashlib.sha256((app / 'dump.sql').read_bytes()).hexdigest()}"
    return "".join(f"{place.hex()} {found[place]}\n" for place in sorted(found))


def main():
    if OUT.exists():
        raise SystemExit(f"{OUT} is there, and golden vaults are never changed")
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        app, home = work / "app", work / "home"
        home.mkdir()
        app.mkdir()
        environment = {"HOME": str(home), "PATH": os.environ["PATH"], "TZ": "UTC"}

        def backstay(*words):
            done = subprocess.run([PROGRAM, "-q", *words], cwd=app, env=environment, capture_output=True, text=True)
            return done.returncode, done.stdout, done.stderr

        def well(*words):
            code, out, err = backstay(*words)
            assert code == 0, (words, code, out, err)
            return out

        make(app)
        well("init", "--yes", "--kit", str(work / "first-kit.txt"))
        config = (app / "backstay.toml").read_text()
        begin, end = config.index("[[component]]"), config.index("[[store]]")
        (app / "backstay.toml").write_text(config[:begin] + config[end:] + CONFIG)
        well("init")
        expected, options = "", {1: ["--tag", "first"], 5: ["--only", "db"], 6: ["--full", "--milestone"]}
        for round in range(1, 7):
            change(app, round)
            time.sleep(2.5)         # younger changes are not believed to be the last ones
            wanted = listing(app, ["db"] if round == 5 else None)
            away = round in (3, 4)
            if away:
                (work / "second").rename(work / "away")
            code, out, err = backstay("backup", "--note", f"golden {round}", *options.get(round, []), "--json")
            assert code == (4 if away else 0), (round, code, out, err)
            if away:
                (work / "away").rename(work / "second")
            id = out.split('"snapshot"')[1].split('"')[1]
            expected += f"# {id}\n{wanted}"
        well("kit", "-o", str(work / "kit.txt"))
        OUT.mkdir()
        for name, store in (("store", app / "backups"), ("second", work / "second")):
            shutil.copytree(store, OUT / name, ignore=shutil.ignore_patterns(".incoming", ".gitignore"))
        shutil.copy(work / "kit.txt", OUT / "kit.txt")
        (OUT / "expected.txt").write_text(expected)
    subprocess.run(["du", "-sh", OUT], check=True)


main()
