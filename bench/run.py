#!/usr/bin/env python3
"""Times backstay beside restic, rustic and the plain pipeline, each with a store in a local folder.

Data is made anew from a seed, every restore is compared with it, and what is not installed is left out and said.
Figures are whole-process: wall and CPU seconds, and the peak memory of the largest process, as the kernel accounts them.
Quote the ratios: seconds depend on the machine, and on what else it does.

  bench/run.py            data A (an application tree) and B (a SQLite database) in full size
  bench/run.py --small    a tenth of it
  bench/run.py --s3       the same with a bucket: SeaweedFS on this machine, whose CPU is a column of its own (BACKSTAY_WEED, or weed in PATH)
  bench/run.py --memory   peak memory of backup and restore on a 5 GB tree, backstay only
"""
import argparse, contextlib, hashlib, json, os, pathlib, random, re, resource, shutil, sqlite3, statistics, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "tests/tools"))
import servers
from s3 import S3

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


class Folder:
    """Where a tool keeps its backups: a folder."""
    server = None

    def __init__(self, home):
        self.path = home / "store"

    def empty(self):
        shutil.rmtree(self.path, ignore_errors=True)

    def megabytes(self):
        return sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file()) / 1e6


class Bucket:
    """The same in a bucket of a server on this machine. A new one each time: what a server still tidies up of an old one is not counted."""
    def __init__(self, endpoint, server, name):
        self.endpoint, self.server, self.prefix, self.count = endpoint, server, name, 0
        self.s3 = S3(endpoint, servers.ACCESS, servers.SECRET)
        self.environment = {"AWS_ACCESS_KEY_ID": servers.ACCESS, "AWS_SECRET_ACCESS_KEY": servers.SECRET, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
                            "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_W_TYPE": "s3", "RCLONE_CONFIG_W_PROVIDER": "SeaweedFS", "RCLONE_CONFIG_W_ENDPOINT": endpoint, "RCLONE_CONFIG_W_ENV_AUTH": "true"}

    def empty(self):
        if self.count:
            for key in self._listed("Key"):
                self.s3.ask("DELETE", f"{self.name}/{key}")
            self.s3.ask("DELETE", self.name)
        self.count += 1
        self.name = f"bench-{self.prefix}-{self.count}"
        answer = self.s3.ask("PUT", self.name)
        if answer.status != 200:
            raise SystemExit(f"the bucket {self.name} cannot be made: {answer}")
        self.s3.ask("PUT", f"{self.name}/first", body=b"x")     # the server makes a bucket's volumes at its first put
        self.s3.ask("DELETE", f"{self.name}/first")

    def _listed(self, tag):
        found, token = [], None
        while True:
            page = self.s3.ask("GET", self.name, {"list-type": "2", **({"continuation-token": token} if token else {})})
            found += page.all(tag)
            token = page.one("NextContinuationToken")
            if not token:
                return found

    def megabytes(self):
        return sum(map(int, self._listed("Size"))) / 1e6


def cpu_of(server):
    """CPU seconds that a process has taken, ended children of it included."""
    if not server:
        return 0.0
    fields = pathlib.Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Tool:
    def __init__(self, name, home, place):
        self.name, self.home, self.place = name, home, place
        self.env = {**os.environ, "HOME": str(home), "RESTIC_PASSWORD": "x", "RUSTIC_PASSWORD": "x", "NO_COLOR": "1"}
        for gone in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            self.env.pop(gone, None)
        self.env |= getattr(place, "environment", {})
        home.mkdir(parents=True)

    def do(self, command, cwd=None, shell=False):
        before = cpu_of(self.place.server)
        return *measured(command, self.env, cwd or self.home, shell), cpu_of(self.place.server) - before

    def anew(self):
        """An empty home and an empty store."""
        shutil.rmtree(self.home)
        self.home.mkdir()
        self.place.empty()


class Backstay(Tool):
    def __init__(self, home, place, program):
        super().__init__("backstay", home, place)
        self.program = program

    def prepare(self, source):
        self.source = source
        project = self.home / "project"
        project.mkdir()
        folder = self.place.path if isinstance(self.place, Folder) else self.home / "unused"
        subprocess.run([self.program, "init", "--yes", str(project), "--store", str(folder)], env=self.env, check=True, capture_output=True)
        config = project / "backstay.toml"
        kind = "path" if source.is_dir() else "sqlite"
        text = config.read_text() + f'\n[[component]]\nname = "data"\n{kind} = "{source}"\n'
        if isinstance(self.place, Bucket):      # the folder that init made is no store of the project any more
            text, changed = re.subn(rf'^path = "{re.escape(str(folder))}".*$', f'url = "s3://{self.place.name}/vault"\nendpoint = "{self.place.endpoint}"', text, flags=re.M)
            assert changed == 1, f"one store was expected in\n{text}"
            shutil.rmtree(self.home / ".local", ignore_errors=True)
        config.write_text(text)
        if isinstance(self.place, Bucket):
            subprocess.run([self.program, "init", "--yes", str(project)], env=self.env, check=True, capture_output=True)
        self.project = project

    def backup(self):
        return self.do([self.program, "-q", "backup"], self.project)

    def restore(self, to):
        figures = self.do([self.program, "-q", "restore", "latest", "--to", str(to)], self.project)
        return figures, to / "data"


class Restic(Tool):
    def __init__(self, home, place):
        super().__init__("restic", home, place)

    def prepare(self, source):
        self.source = source
        self.store = self.place.path if isinstance(self.place, Folder) else f"s3:{self.place.endpoint}/{self.place.name}/vault"
        subprocess.run(["restic", "-q", "init", "-r", self.store, "--repository-version", "2"], env=self.env, check=True)

    def backup(self):
        return self.do(["restic", "-q", "backup", "-r", str(self.store), "--force", str(self.source)])

    def restore(self, to):
        figures = self.do(["restic", "-q", "restore", "latest", "-r", str(self.store), "--target", str(to)])
        return figures, pathlib.Path(f"{to}{self.source}")


class Rustic(Tool):
    def __init__(self, home, place):
        super().__init__("rustic", home, place)

    def prepare(self, source):
        self.source = source
        self.command = ["rustic", "-r", str(self.place.path)] if isinstance(self.place, Folder) else ["rustic", "-P", self._profile()]
        subprocess.run([*self.command, "init"], env=self.env, check=True, capture_output=True)

    def _profile(self):
        """Its store in a bucket comes from a file, which keeps keys out of arguments."""
        place = self.place
        options = {"bucket": place.name, "root": "/vault", "endpoint": place.endpoint, "region": "us-east-1", "access_key_id": servers.ACCESS, "secret_access_key": servers.SECRET}
        text = '[repository]\nrepository = "opendal:s3"\n\n[repository.options]\n' + "".join(f'{k} = "{v}"\n' for k, v in options.items())
        (self.home / "bench.toml").write_text(text)
        return str(self.home / "bench")

    def backup(self):
        return self.do([*self.command, "backup", "--force", str(self.source)])

    def restore(self, to):
        to.mkdir()
        figures = self.do([*self.command, "restore", f"latest:{self.source}", str(to)])
        return figures, to if self.source.is_dir() else to / self.source.name


class Pipeline(Tool):
    """What tools of the shape tar | zstd | encrypt do; no checksum, no read-back, no fsync."""
    def __init__(self, home, place):
        super().__init__("pipeline", home, place)

    def prepare(self, source):
        self.source = source
        if isinstance(self.place, Folder):
            self.place.path.mkdir()
        subprocess.run(["age-keygen", "-o", self.home / "key"], check=True, capture_output=True)
        self.recipient = subprocess.run(["age-keygen", "-y", self.home / "key"], check=True, capture_output=True, text=True).stdout.strip()

    def backup(self):
        self.last = f"{time.time_ns()}.tar.zst.age"
        out = f"> {self.place.path}/{self.last}" if isinstance(self.place, Folder) else f"| {self._rclone()} rcat w:{self.place.name}/{self.last}"
        return self.do(f"set -o pipefail; tar --format=posix -C {self.source.parent} -c {self.source.name} | zstd -q -T0 -3 | age -r {self.recipient} {out}", shell=True)

    def _rclone(self):
        return servers.program("BACKSTAY_RCLONE", "rclone")

    def restore(self, to):
        to.mkdir()
        read, file = ("", f"{self.place.path}/{self.last}") if isinstance(self.place, Folder) else (f"{self._rclone()} cat w:{self.place.name}/{self.last} |", "")
        figures = self.do(f"set -o pipefail; {read} age -d -i {self.home}/key {file} | zstd -q -d | tar -x -C {to}", shell=True)
        return figures, to / self.source.name


def tools(work, program, bucket):
    """`bucket` is the endpoint and the process of a server, or None."""
    def place(name):
        return Bucket(*bucket, f"{work.name}-{name}") if bucket else Folder(work / name)
    made = [Backstay(work / "backstay", place("backstay"), program)]
    rclone = ("rclone",) if bucket and not os.environ.get("BACKSTAY_RCLONE") else ()
    for name, programs, kind in (("pipeline", ("tar", "zstd", "age", *rclone), Pipeline), ("restic", ("restic",), Restic), ("rustic", ("rustic",), Rustic)):
        if all(shutil.which(p) for p in programs):
            made.append(kind(work / name, place(name)))
        else:
            print(f"NOT RUN: {name} (not installed)")
    return made


def compare(name, source, work, program, rounds, bucket):
    print(f"\n### {name}{', in a bucket' if bucket else ''}\n")
    competitors = tools(work, program, bucket)
    expected = digest(source) if source.is_dir() else None
    rows = {t.name: {"backup": [], "restore": []} for t in competitors}
    for turn in range(rounds):
        for tool in competitors:            # in turn, so that a slow spell hits all alike
            tool.anew()
            tool.prepare(source)
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
            rows[tool.name]["stored"] = tool.place.megabytes()
    own = {op: statistics.median(r[0] for r in rows["backstay"][op]) for op in ("backup", "restore")}
    server = " server's CPU |" if bucket else ""
    print(f"| tool | first backup | CPU | peak MB |{server} restore | CPU | peak MB |{server} stored MB | backstay/this: backup, restore, stored |")
    print("|---|---|---|---|---|---|---|---|---|" + "---|---|" * bool(bucket))
    for tool, row in rows.items():
        cells = []
        for op in ("backup", "restore"):
            wall, cpu, peak = (statistics.median(r[i] for r in row[op]) for i in range(3))
            cells += [f"{wall:.2f} s", f"{cpu:.2f} s", f"{max(r[2] for r in row[op]):.0f}"]
            if bucket:
                cells.append(f"{statistics.median(r[3] for r in row[op]):.2f} s")
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
    tool = Backstay(work / "backstay", Folder(work / "backstay"), program)
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
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", default=str(HERE / "target/release/backstay"))
    parser.add_argument("--dir", default=None, help="where to work (needs some 12 GB for the full size)")
    args = parser.parse_args()
    scale = 10 if args.small else 1
    with contextlib.ExitStack() as stack:
        work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backstay-bench-", dir=args.dir)))
        bucket = None
        if args.s3:
            (work / "server").mkdir()
            try:
                bucket = stack.enter_context(servers.weed(work / "server"))
            except servers.NotInstalled as e:
                raise SystemExit(f"NOT RUN: {e}")
        print(f"date {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, rounds {args.rounds}, scale 1/{scale}")
        if args.memory:
            return memory(work, args.program, (5 << 30) // scale)
        tree = work / "data" / "A"
        make_tree(tree, 40_000 // scale, 1)
        compare("A: an application tree", tree, work / "a", args.program, args.rounds, bucket)
        shutil.rmtree(work / "a")
        database = work / "data" / "app.db"
        make_database(database, 4_000_000 // scale, 2)
        compare("B: a SQLite database", database, work / "b", args.program, args.rounds, bucket)


if __name__ == "__main__":
    main()
