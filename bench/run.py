#!/usr/bin/env python3
"""Times backstay beside restic, rustic and the plain pipeline, all against one S3 server on this machine, and beside borg and bupstash with a local folder.

The data is made anew from seeds (bench/data.py says what it is), every restore is compared with it, and what is not installed is left out and said. Figures are of
the whole process and its children, from start to end: wall and CPU seconds, and the peak memory of the largest process. The server, SeaweedFS, shares the processors:
its CPU seconds, requests and bytes, as it counts them itself, have columns of their own. Quote ratios: seconds depend on the machine and on what else it does.

  bench/run.py                       everything of the first table: some 15 minutes, 30 GB of room
  bench/run.py --scale 10            a tenth of the data
  bench/run.py --workloads A --tools backstay,pipeline
  bench/run.py --month               thirty daily backups, 1 % changed a day, beside restic: stored and uploaded in all
  bench/run.py --growth              backstay alone: 10^4 to 10^6 files; 1 to 20 GB; 1 to 1,000 snapshots
  bench/run.py --folder              stores in local folders instead of buckets

SeaweedFS and rclone: BACKSTAY_WEED and BACKSTAY_RCLONE, or where ./test installs them, or `weed` and `rclone` in PATH. The program: target/release/backstay, or --program.
Exit code 1 when a restore is not what was backed up, a bound that holds on every machine is passed (peak memory, bytes stored), or a program fails.
"""
import argparse, contextlib, hashlib, json, os, pathlib, shutil, sqlite3, statistics, sys, tempfile, time
import data, growth, tools
import servers

PEAK = 192      # MB, of any operation


def digest(top):
    """Names, kinds, modes, times and contents of a tree, or the content of a file."""
    total = hashlib.blake2b()
    for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
        facts = path.lstat()
        if top.is_dir():
            total.update(f"{path.relative_to(top)}\0{facts.st_mode}\0{facts.st_mtime_ns if path.is_file() and not path.is_symlink() else 0}\0".encode("utf8", "surrogateescape"))
        if path.is_symlink():
            total.update(os.readlink(path).encode())
        elif path.is_file():
            with open(path, "rb") as file:
                while piece := file.read(4 << 20):
                    total.update(piece)
    return total.hexdigest()


def rows_of(database):
    db = sqlite3.connect(database)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    total = hashlib.blake2b()
    for table in ("events", "blobs", "users"):
        for row in db.execute(f"SELECT * FROM {table} ORDER BY id"):
            total.update(repr(row).encode())
    return total.hexdigest()


class Workload:
    """Steps on one kind of data; figures are kept by step and tool."""

    def __init__(self, name, source, subject, one, steps):
        self.name, self.source, self.subject, self.one, self.steps = name, source, subject, one, steps
        self.figures, self.failures = {}, []

    def note(self, step, tool, figures):
        self.figures.setdefault(step, {}).setdefault(tool.name, []).append(figures)

    def turn(self, competitors, scratch, repeat):
        """All steps once: each by one tool after the other, so that a slow spell hits all alike."""
        gone = set()
        for step in self.steps:
            if step.startswith("changed"):
                self.subject.change(**({"hot": True} if step == "changed, hot" else {}))
            expected = digest(self.source) if step == "restore" else None
            for tool in competitors:
                if tool.name in gone:
                    continue
                try:
                    for _ in range({"unchanged": repeat, "one file": repeat, "list": repeat}.get(step, 1)):
                        self.note(step, tool, self._do(step, tool, scratch, expected))
                except tools.Failed as e:
                    self.failures.append(f"{self.name}, {step}: {e}")
                    print(f"FAILED: {self.failures[-1]}", file=sys.stderr)
                    if step not in ("check", "list", "one file"):
                        gone.add(tool.name)

    def _do(self, step, tool, scratch, expected):
        if step == "first":
            tool.anew(self.source)
        if step in ("first", "unchanged") or step.startswith("changed"):
            before = 0 if step == "first" else tool.place.megabytes()
            figures = tool.backup()
            stored = tool.place.megabytes()
            return {**figures, "stored": stored, "added": stored - before}
        if step == "restore":
            to = scratch / f"restored-{tool.name}"
            try:
                figures, found = tool.restore(to)
                if digest(found) != expected and (self.source.is_dir() or rows_of(found) != rows_of(self.source)):
                    raise tools.Failed(f"{tool.name} did not restore what was there")
            finally:
                shutil.rmtree(to, ignore_errors=True)
            return figures
        if step == "one file":
            figures = tool.one(self.one)
            if tool.output.read_bytes() != (self.source / self.one).read_bytes():
                raise tools.Failed(f"{tool.name} gave other bytes for {self.one}")
            return figures
        return tool.list() if step == "list" else tool.check()

    def median(self, step, tool, what="wall"):
        found = [f[what] for f in self.figures.get(step, {}).get(tool, []) if what in f]
        return statistics.median(found) if found else None

    def table(self):
        print(f"\n### {self.name}\n")
        print("| step | program | wall s (least to most, n) | CPU s | peak MB | server's CPU s | requests | MB sent | MB received | stored MB | added MB | backstay/this |")
        print("|---|---|---|---|---|---|---|---|---|---|---|---|")
        for step, by_tool in self.figures.items():
            for tool, runs in by_tool.items():
                walls = [r["wall"] for r in runs]
                own = self.median(step, "backstay")
                cell = lambda what, form: "" if self.median(step, tool, what) is None else format(self.median(step, tool, what), form)
                ratio = f"{own / statistics.median(walls):.2f}" if own else ""
                print(f"| {step} | {tool} | {statistics.median(walls):.2f} ({min(walls):.2f} to {max(walls):.2f}, {len(walls)}) | {cell('cpu', '.2f')} | {max(r['peak'] for r in runs):.0f} | {cell('server', '.2f')} "
                      f"| {cell('requests', '.0f')} | {cell('sent', '.1f')} | {cell('received', '.1f')} | {cell('stored', '.1f')} | {cell('added', '.1f')} | {ratio} |")


# What is to be reached: workload, step, figure, and the part of which program's.
GOALS = [
    ("first backup of A", "A", "first", "wall", {"pipeline": 0.65, "rustic": 0.3}),
    ("A, nothing changed", "A", "unchanged", "wall", {"rustic": 0.2}),
    ("A, 1 % of files changed", "A", "changed", "wall", {"rustic": 0.3}),
    ("first backup of B", "B", "first", "wall", {"pipeline": 1.0}),
    ("B, nothing changed", "B", "unchanged", "wall", {"rustic": 0.3}),
    ("B, 1 % changed at random: bytes stored", "B", "changed", "added", {"rustic": 0.08, "restic": 0.08}),
    ("B, 1 % changed mostly among the newest: bytes stored", "B", "changed, hot", "added", {"rustic": 0.4, "restic": 0.4}),
    ("B, 1 % changed at random: time", "B", "changed", "wall", {"rustic": 0.25}),
    ("first backup of C", "C", "first", "wall", {"rustic": 0.9}),
    ("restore of A (tmpfs)", "A", "restore", "wall", {"pipeline": 0.65}),
    ("restore of B", "B", "restore", "wall", {"pipeline": 1.0}),
    ("restore of C", "C", "restore", "wall", {"rustic": 1.0}),
    ("one small file out of A", "A", "one file", "wall", {"rustic": 0.1}),
    ("list snapshots", "A", "list", "wall", {"rustic": 0.1}),
    ("verify, reading all data of A", "A", "check", "wall", {"rustic": 0.5}),
    ("stored size of A, first backup", "A", "first", "stored", {"pipeline": 1.03}),
    ("stored size of B, first backup", "B", "first", "stored", {"pipeline": 1.03}),
]


def summary(workloads):
    """The table of goals; gives what holds on every machine and does not here."""
    print("\n### Figures to reach\n\n| figure | backstay | others | goal | |\n|---|---|---|---|---|")
    broken = []
    for name, workload, step, what, bounds in GOALS:
        if workload not in workloads:
            continue
        own = workloads[workload].median(step, "backstay", what)
        unit = "s" if what == "wall" else "MB"
        peers = {t: workloads[workload].median(step, t, what) for t in ("pipeline", "rustic", "restic")}
        if own is None:
            print(f"| {name} | not measured | | | |")
            continue
        ratios = {t: own / peers[t] for t in bounds if peers[t]}
        if not ratios:
            print(f"NOT RUN: {name}: nothing to compare with is installed ({', '.join(bounds)})", file=sys.stderr)
        verdict = "not compared" if not ratios else "reached" if all(r <= bounds[t] for t, r in ratios.items()) else "**not reached**"
        if what != "wall" and verdict.startswith("**"):
            broken.append(name)
        said = ", ".join(f"{t} {v:.3f} {unit}" for t, v in peers.items() if v)
        print(f"| {name} | {own:.3f} {unit} | {said} | {', '.join(f'≤ {b} × {t}: {ratios[t]:.3f}' if t in ratios else f'≤ {b} × {t}' for t, b in bounds.items())} | {verdict} |")
    peak = max((r["peak"] for w in workloads.values() for by in w.figures.values() for r in by.get("backstay", [])), default=0)
    print(f"| peak memory, any operation above | {peak:.0f} MB | | ≤ {PEAK} MB | {'reached' if peak <= PEAK else '**not reached**'} |")
    return broken + (["peak memory"] if peak > PEAK else [])


def in_memory(need):
    """A folder on a file system in memory with room for so many bytes, or None, and that is said: what a disk's file system costs would be measured then."""
    shm = pathlib.Path("/dev/shm")
    if shm.is_dir() and shutil.disk_usage(shm).free > need:
        return shm
    print(f"{shm} has no room for {need >> 20} MiB: restores of A go to a disk", file=sys.stderr)
    return None


def compare(args, work, server, stack):
    where = pathlib.Path(args.data) if args.data else work / "data"
    where.mkdir(exist_ok=True)
    scale, workloads = args.scale, {}
    if "A" in args.workloads:
        top = data.kept(lambda p: data.Tree(p / "tree", scale).make(), where, f"A{scale}") / "tree"
        small = min((p for p in top.rglob("*.py") if 5000 < p.stat().st_size < 6000), key=str).relative_to(top)
        subject = data.Tree(top, scale)
        workloads["A"] = Workload("A: an application tree", top, subject, str(small), ["first", "unchanged", "changed", "restore", "one file", "list", "check"])
    if "B" in args.workloads:
        path = data.kept(lambda p: data.Database(p / "app.db", scale).make(), where, f"B{scale}") / "app.db"
        workloads["B"] = Workload("B: a SQLite database", path, data.Database(path, scale), "", ["first", "unchanged", "changed", "changed, hot", "restore", "check"])
    if "C" in args.workloads:
        top = data.kept(lambda p: data.Large(p / "large", scale).make(), where, f"C{scale}") / "large"
        workloads["C"] = Workload("C: large files", top, data.Large(top, scale), "note.txt", ["first", "unchanged", "restore", "one file", "check"])
    for letter, workload in workloads.items():
        workload.subject.turn = int(time.time()) if args.data else 0        # data that is kept was changed by earlier runs
        competitors = tools.installed(work / letter, server, args.tools)
        data.settle(workload.source)
        memory = in_memory((3 << 30) // scale) if letter == "A" else None
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backstay-bench-", dir=memory))) if memory else work
        for turn in range(args.rounds):
            print(f"{time.strftime('%H:%M:%S')} {workload.name}, round {turn + 1}", file=sys.stderr)
            workload.turn(competitors, scratch, args.repeat)
        workload.table()
        for tool in competitors:
            tool.place.remove()
        shutil.rmtree(work / letter, ignore_errors=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({k: w.figures for k, w in workloads.items()}, indent=1))
    return summary(workloads), [f for w in workloads.values() for f in w.failures]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=1, help="so much smaller")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3, help="how often short steps are done in a round")
    parser.add_argument("--workloads", default="ABC")
    parser.add_argument("--tools", type=lambda t: t.split(","), help="which, by comma; all that are installed")
    parser.add_argument("--folder", action="store_true")
    parser.add_argument("--month", action="store_true")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--growth", nargs="?", const="files,bytes,snapshots", help="files, bytes, snapshots")
    parser.add_argument("--program", default=tools.Backstay.program)
    parser.add_argument("--dir", help="where to work")
    parser.add_argument("--data", help="folder in which data is kept for the next run")
    parser.add_argument("--json", help="file for all figures")
    args = parser.parse_args()
    venv = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "backstay-tests/venv/bin"
    for variable, name in (("BACKSTAY_WEED", "weed"), ("BACKSTAY_RCLONE", "rclone")):
        if (venv / name).exists():
            os.environ.setdefault(variable, str(venv / name))
    tools.Backstay.program = str(pathlib.Path(args.program).resolve())
    with contextlib.ExitStack() as stack:
        work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backstay-bench-", dir=args.dir)))
        server = None
        if not args.folder:
            (work / "server").mkdir()
            try:
                server = stack.enter_context(servers.weed(work / "server", metrics=True))
            except servers.NotInstalled as e:
                raise SystemExit(f"NOT RUN: {e}")
        print(f"date {time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, rounds {args.rounds}, scale 1/{args.scale}, stores in {'folders' if args.folder else 'buckets'}")
        if args.growth:
            broken, failures = growth.run(args.growth.split(","), work, server, args.scale)
        elif args.month:
            broken, failures = growth.month(work, server, args.scale, args.days)
        else:
            broken, failures = compare(args, work, server, stack)
    for what in [*broken, *failures]:
        print(f"FAILED: {what}", file=sys.stderr)
    sys.exit(1 if broken or failures else 0)


if __name__ == "__main__":
    main()
