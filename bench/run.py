#!/usr/bin/env python3
"""Times backstay beside restic, rustic and the plain pipeline, each with a store in a local folder.

Data is made anew from a seed, every restore is compared with it, and what is not installed is left out and said.
Figures are whole-process: wall and CPU seconds, and the peak memory of the largest process, as the kernel accounts them.
Quote the ratios: seconds depend on the machine, and on what else it does.

  bench/run.py            data A (an application tree) and B (a SQLite database) in full size
  bench/run.py --small    a tenth of it
  bench/run.py --memory   peak memory of backup and restore on a 5 GB tree, backstay only
"""
import argparse, hashlib, json, os, pathlib, random, resource, shutil, sqlite3, statistics, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent.parent
WORDS = ("import return value request response async await def class self user session query insert select where from "
         "component render props state effect handler error result option vector string index config service").split()


def text(rng, size):
    out, length = [], 0
    while length < size:
        line = " " * rng.choice([0, 4, 8]) + " ".join(rng.choices(WORDS, k=rng.randint(3, 9))) + f" {rng.randint(0, 99999)}\n"
        out.append(line)
        length += len(line)
    return "".join(out).encode()[:size]


def make_tree(top, files, seed):
    """Code-like files, most of them small, and about a quarter of the bytes random (pictures)."""
    rng = random.Random(seed)
    pool = text(rng, 4 << 20)
    for n in range(files):
        folder = top / f"d{n % 97:02}" / f"e{n % 11:02}" / f"f{n // 3000}"
        folder.mkdir(parents=True, exist_ok=True)
        if n % 40 == 0:
            (folder / f"p{n}.jpg").write_bytes(rng.randbytes(rng.randint(60_000, 240_000)))
        else:
            size = min(int(rng.lognormvariate(8.4, 1.2)), 1 << 20)
            start = rng.randrange(len(pool) - size)
            (folder / f"s{n}.py").write_bytes(f"# {n}\n".encode() + pool[start:start + size])


def make_database(path, rows, seed):
    rng = random.Random(seed)
    db = sqlite3.connect(path)
    db.executescript("PRAGMA page_size=4096; PRAGMA journal_mode=WAL; CREATE TABLE events(id INTEGER PRIMARY KEY, user INT, body TEXT, raw BLOB);"
                     "CREATE INDEX by_user ON events(user);")
    def values():
        for n in range(rows):
            yield n, rng.randrange(50_000), " ".join(rng.choices(WORDS, k=24)), rng.randbytes(160)
    db.executemany("INSERT INTO events VALUES(?,?,?,?)", values())
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def digest(top):
    """Names, kinds, modes, times and contents of a tree."""
    total = hashlib.sha256()
    for path in sorted(pathlib.Path(top).rglob("*")):
        facts = path.lstat()
        total.update(f"{path.relative_to(top)}\0{facts.st_mode}\0{facts.st_mtime_ns if path.is_file() else 0}\0".encode("utf8", "surrogateescape"))
        if path.is_file():
            total.update(path.read_bytes())
    return total.hexdigest()


def measured(command, env, cwd, shell=False):
    """Runs a command; gives wall seconds, CPU seconds and the peak memory of its largest process in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # A helper process in between, so that the peak is this command's and not that of an earlier one.
    code = ("import json,resource,subprocess,sys,time\n"
            "b=time.monotonic();r=subprocess.run(json.loads(sys.argv[1]),shell=json.loads(sys.argv[2]),executable='/bin/bash' if json.loads(sys.argv[2]) else None,stdout=subprocess.DEVNULL,stderr=subprocess.PIPE)\n"
            "w=time.monotonic()-b;u=resource.getrusage(resource.RUSAGE_CHILDREN)\n"
            "print(json.dumps([r.returncode,w,u.ru_utime+u.ru_stime,u.ru_maxrss/1000,r.stderr.decode(errors='replace')[-800:]]))")
    run = subprocess.run([sys.executable, "-c", code, json.dumps(command), json.dumps(shell)], env=env, cwd=cwd, capture_output=True, text=True)
    returncode, wall, cpu, peak, err = json.loads(run.stdout)
    if returncode:
        raise SystemExit(f"{command} failed with {returncode}:\n{err}")
    return wall, cpu, peak


def stored(path):
    return sum(f.stat().st_size for f in pathlib.Path(path).rglob("*") if f.is_file()) / 1e6


class Tool:
    def __init__(self, name, home):
        self.name, self.home = name, home
        self.env = {**os.environ, "HOME": str(home), "RESTIC_PASSWORD": "x", "RUSTIC_PASSWORD": "x", "NO_COLOR": "1"}
        for gone in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            self.env.pop(gone, None)
        home.mkdir(parents=True)

    def do(self, command, cwd=None, shell=False):
        return measured(command, self.env, cwd or self.home, shell)


class Backstay(Tool):
    def __init__(self, home, program):
        super().__init__("backstay", home)
        self.program = program

    def prepare(self, source):
        self.source = source
        project = self.home / "project"
        project.mkdir()
        subprocess.run([self.program, "init", "--yes", str(project), "--store", str(self.home / "store")], env=self.env, check=True, capture_output=True)
        config = project / "backstay.toml"
        kind = "path" if source.is_dir() else "sqlite"
        config.write_text(config.read_text() + f'\n[[component]]\nname = "data"\n{kind} = "{source}"\n')
        self.store, self.project = self.home / "store", project

    def backup(self):
        return self.do([self.program, "-q", "backup"], self.project)

    def restore(self, to):
        figures = self.do([self.program, "-q", "restore", "latest", "--to", str(to)], self.project)
        return figures, to / "data"


class Restic(Tool):
    def __init__(self, home):
        super().__init__("restic", home)

    def prepare(self, source):
        self.source, self.store = source, self.home / "store"
        subprocess.run(["restic", "-q", "init", "-r", self.store, "--repository-version", "2"], env=self.env, check=True)

    def backup(self):
        return self.do(["restic", "-q", "backup", "-r", str(self.store), "--force", str(self.source)])

    def restore(self, to):
        figures = self.do(["restic", "-q", "restore", "latest", "-r", str(self.store), "--target", str(to)])
        return figures, pathlib.Path(f"{to}{self.source}")


class Rustic(Tool):
    def __init__(self, home):
        super().__init__("rustic", home)

    def prepare(self, source):
        self.source, self.store = source, self.home / "store"
        subprocess.run(["rustic", "-r", self.store, "init"], env=self.env, check=True, capture_output=True)

    def backup(self):
        return self.do(["rustic", "-r", str(self.store), "backup", "--force", str(self.source)])

    def restore(self, to):
        to.mkdir()
        figures = self.do(["rustic", "-r", str(self.store), "restore", f"latest:{self.source}", str(to)])
        return figures, to if self.source.is_dir() else to / self.source.name


class Pipeline(Tool):
    """What tools of the shape tar | zstd | encrypt do; no checksum, no read-back, no fsync."""
    def __init__(self, home):
        super().__init__("pipeline", home)

    def prepare(self, source):
        self.source, self.store = source, self.home / "store"
        self.store.mkdir()
        subprocess.run(["age-keygen", "-o", self.home / "key"], check=True, capture_output=True)
        self.recipient = subprocess.run(["age-keygen", "-y", self.home / "key"], check=True, capture_output=True, text=True).stdout.strip()

    def backup(self):
        out = self.store / f"{time.time_ns()}.tar.zst.age"
        return self.do(f"set -o pipefail; tar --format=posix -C {self.source.parent} -c {self.source.name} | zstd -q -T0 -3 | age -r {self.recipient} > {out}", shell=True)

    def restore(self, to):
        to.mkdir()
        last = sorted(self.store.iterdir())[-1]
        figures = self.do(f"set -o pipefail; age -d -i {self.home}/key {last} | zstd -q -d | tar -x -C {to}", shell=True)
        return figures, to / self.source.name


def tools(work, program):
    made = [Backstay(work / "backstay", program)]
    for name, programs, kind in (("pipeline", ("tar", "zstd", "age"), Pipeline), ("restic", ("restic",), Restic), ("rustic", ("rustic",), Rustic)):
        if all(shutil.which(p) for p in programs):
            made.append(kind(work / name))
        else:
            print(f"NOT RUN: {name} (not installed)")
    return made


def compare(name, source, work, program, rounds):
    print(f"\n### {name}\n")
    competitors = tools(work, program)
    for tool in competitors:
        tool.prepare(source)
    expected = digest(source) if source.is_dir() else None
    rows = {t.name: {"backup": [], "restore": []} for t in competitors}
    for turn in range(rounds):
        for tool in competitors:            # in turn, so that a slow spell hits all alike
            shutil.rmtree(tool.store, ignore_errors=True) if turn else None
            if turn:
                shutil.rmtree(tool.home); tool.home.mkdir(); tool.prepare(source)
            rows[tool.name]["backup"].append(tool.backup())
            to = work / f"restored-{tool.name}"
            figures, found = tool.restore(to)
            rows[tool.name]["restore"].append(figures)
            if expected and digest(found) != expected:
                raise SystemExit(f"{tool.name} did not restore what was there")
            if not expected:
                restored = found / source.name if found.is_dir() else found
                answer = sqlite3.connect(restored).execute("PRAGMA integrity_check").fetchone()
                assert answer == ("ok",), f"{tool.name}: {answer}"
            shutil.rmtree(to)
            rows[tool.name]["stored"] = stored(tool.store)
    own = {op: statistics.median(r[0] for r in rows["backstay"][op]) for op in ("backup", "restore")}
    print("| tool | first backup | CPU | peak MB | restore | CPU | peak MB | stored MB | backstay/this: backup, restore, stored |")
    print("|---|---|---|---|---|---|---|---|---|")
    for tool, row in rows.items():
        cells = []
        for op in ("backup", "restore"):
            wall, cpu, peak = (statistics.median(r[i] for r in row[op]) for i in range(3))
            cells += [f"{wall:.2f} s", f"{cpu:.2f} s", f"{max(r[2] for r in row[op]):.0f}"]
        ratio = [own[op] / statistics.median(r[0] for r in row[op]) for op in ("backup", "restore")]
        size = rows["backstay"]["stored"] / row["stored"]
        print(f"| {tool} | " + " | ".join(cells) + f" | {row['stored']:.0f} | {ratio[0]:.2f}, {ratio[1]:.2f}, {size:.2f} |", flush=True)


def memory(work, program, size):
    top = work / "tree"
    make_tree(top, 20_000, 5)
    rng = random.Random(6)
    have = sum(f.stat().st_size for f in top.rglob("*") if f.is_file())
    n = 0
    while have < size:
        with open(top / f"large{n}.bin", "wb") as out:
            for _ in range(64):
                out.write(rng.randbytes(4 << 20) if n % 2 else text(rng, 1 << 16) * 64)
        have += 256 << 20
        n += 1
    tool = Backstay(work / "backstay", program)
    tool.prepare(top)
    b = tool.backup()
    r, found = tool.restore(work / "restored")
    same = digest(found) == digest(top)
    print(f"{have / 1e9:.1f} GB tree: backup {b[0]:.1f} s, peak {b[2]:.0f} MB; restore {r[0]:.1f} s, peak {r[2]:.0f} MB; equal: {same}")
    if not same or max(b[2], r[2]) > 192:
        raise SystemExit("the bound of 192 MB, or equality, does not hold")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", default=str(HERE / "target/release/backstay"))
    parser.add_argument("--dir", default=None, help="where to work (needs some 12 GB for the full size)")
    args = parser.parse_args()
    scale = 10 if args.small else 1
    with tempfile.TemporaryDirectory(prefix="backstay-bench-", dir=args.dir) as scratch:
        work = pathlib.Path(scratch)
        print(f"date {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, rounds {args.rounds}, scale 1/{scale}")
        if args.memory:
            return memory(work, args.program, (5 << 30) // scale)
        tree = work / "data" / "A"
        make_tree(tree, 40_000 // scale, 1)
        compare("A: an application tree", tree, work / "a", args.program, args.rounds)
        shutil.rmtree(work / "a")
        database = work / "data" / "app.db"
        make_database(database, 4_000_000 // scale, 2)
        compare("B: a SQLite database", database, work / "b", args.program, args.rounds)


if __name__ == "__main__":
    main()
