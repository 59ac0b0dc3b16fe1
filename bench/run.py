#!/usr/bin/env python3
"""Times backstay beside restic, rustic and the plain pipeline, all against one S3 server on this machine, and beside borg and bupstash with a local folder.

The data is made anew from seeds (bench/data.py says what it is), every restore is compared with it, and what is not installed is left out and said. Figures are of
the whole process and its children, from start to end: wall and CPU seconds, and the peak memory of the largest process. The server, SeaweedFS, shares the processors:
its CPU seconds, requests and bytes, as it counts them itself, have columns of their own. Quote ratios: seconds depend on the machine and on what else it does.

  bench/run.py                       A, B and C: some 15 minutes, 30 GB of room
  bench/run.py --all                 the whole table of figures to reach, in one run: A, B and C, a million files, the month with data of an eighth (--month-scale)
  bench/run.py --all --rounds A3,B2,C1
  bench/run.py --scale 10            a tenth of the data
  bench/run.py --workloads A --tools backstay,pipeline
  bench/run.py --month               thirty daily backups, 1 % changed a day, beside restic: stored and uploaded in all
  bench/run.py --growth              backstay alone: 10^4 to 10^6 files; 1 to 20 GB; 1 to 1,000 snapshots
  bench/run.py --folder              stores in local folders instead of buckets

SeaweedFS and rclone: BACKSTAY_WEED and BACKSTAY_RCLONE, or where ./test installs them, or `weed` and `rclone` in PATH. The program: target/release/backstay, or --program.
Tables are printed, and --json is written, when a part ends; each figure goes to stderr at once, so that a run which is cut off leaves what it had. A part that fails is told, and the next goes on.
Exit code 1 when a restore is not what was backed up, a bound that holds on every machine is passed (peak memory, bytes stored), or a program fails.
"""
import argparse, contextlib, functools, hashlib, json, os, pathlib, platform, re, shlex, shutil, sqlite3, statistics, subprocess, sys, tempfile, time, traceback
import data, growth, tools
import servers


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
        print(f"{time.strftime('%H:%M:%S')} {self.name[0]}, {step}, {tool.name}: {figures['wall']:.2f} s, {figures['peak']:.0f} MB", file=sys.stderr)

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


def compared(name, own, unit, peers, bounds):
    """A row of the table of goals: a figure, and what part of other programs' it may be. Gives whether it is more."""
    if own is None:
        print(f"| {name} | not measured | | | |")
        return False
    ratios = {t: own / peers[t] for t in bounds if peers.get(t)}
    if not ratios:
        print(f"NOT RUN: {name}: nothing to compare with is installed ({', '.join(bounds)})", file=sys.stderr)
    verdict = "not compared" if not ratios else "reached" if all(r <= bounds[t] for t, r in ratios.items()) else "**not reached**"
    said = ", ".join(f"{t} {v:.3f} {unit}" for t, v in peers.items() if v)
    print(f"| {name} | {own:.3f} {unit} | {said} | {', '.join(f'≤ {b} × {t}: {ratios[t]:.3f}' if t in ratios else f'≤ {b} × {t}' for t, b in bounds.items())} | {verdict} |")
    return verdict.startswith("**")


def limited(name, own, unit, limit, beside=""):
    """A row of the table of goals: a figure with a limit of its own. Gives whether it is more."""
    if own is None:
        print(f"| {name} | not measured | | ≤ {limit} {unit} | |")
        return False
    print(f"| {name} | {own:.4g} {unit} | {beside} | ≤ {limit} {unit} | {'reached' if own <= limit else '**not reached**'} |")
    return own > limit


def rows_of_files(figures):
    """Goals for the most files. What holds on every machine of them, growth.py has said."""
    count = max(figures, default=growth.FILES[-1])
    most, fewest = figures.get(count, {}), min(figures, default=0)
    limited(f"{count:,} files: nothing changed", most["nothing changed"]["wall"] if most else None, "s", growth.SECONDS_MANY)
    limited(f"{count:,} files: peak memory, any operation", max((f["peak"] for f in most.values()), default=None), "MB", growth.peak_bound(count))
    asked, least = (f.get("ls", {}).get("requests") for f in (most, figures.get(fewest, {})))
    if asked is None:
        print(f"| {count:,} files: `ls` of one folder | not measured | | | |")
    else:
        limited(f"{count:,} files: `ls` of one folder", asked, "requests", int(least) + growth.MORE_REQUESTS, f"{least:.0f} with {fewest:,} files")


def rows_of_month(letter, totals, args):
    for what, said in (("sent", "uploaded"), ("stored", "stored")):
        peers = {t: total[what] or None for t, total in totals.items()}
        own = peers.pop("backstay", None)
        compared(f"{args.days} days of {letter}, 1 % changed a day, data 1/{month_scale(args)}: {said}", own, "MB", peers, {"restic": 1.0})


def peaks(measured):
    """Of all of backstay's operations but those on very many files, which have a goal of their own."""
    for name, of in measured.items():
        if isinstance(of, Workload):
            yield from (r["peak"] for by in of.figures.values() for r in by.get("backstay", []))
        elif name in growth.KINDS:
            yield from (f["peak"] for count, by in of.items() if name != "files" or count <= growth.MANY for f in by.values())
        elif of:
            yield of["backstay"]["peak"]


def summary(measured, args):
    """The table of goals; gives what holds on every machine and does not here."""
    print("\n### Figures to reach\n\n| figure | backstay | others | goal | |\n|---|---|---|---|---|")
    broken = []
    for name, letter, step, what, bounds in GOALS:
        if letter in measured:
            own, *others = (measured[letter].median(step, t, what) if measured[letter] else None for t in ("backstay", "pipeline", "rustic", "restic"))
            if compared(name, own, "s" if what == "wall" else "MB", dict(zip(("pipeline", "rustic", "restic"), others)), bounds) and what != "wall":
                broken.append(name)
    if "files" in measured:
        rows_of_files(measured["files"])
    for letter in "AB":
        if f"month {letter}" in measured:
            rows_of_month(letter, measured[f"month {letter}"], args)
    if limited(f"peak memory, any {'other ' * ('files' in measured)}operation", max(peaks(measured), default=None), "MB", growth.PEAK):
        broken.append("peak memory")
    return broken


def in_memory(need):
    """A folder on a file system in memory with room for so many bytes, or None, and that is said: what a disk's file system costs would be measured then."""
    shm = pathlib.Path("/dev/shm")
    if shm.is_dir() and shutil.disk_usage(shm).free > need:
        return shm
    print(f"{shm} has no room for {need >> 20} MiB: restores of A go to a disk", file=sys.stderr)
    return None


def workload(letter, where, scale):
    """A, B or C, whose data is made unless it is there."""
    if letter == "A":
        top = data.kept(lambda p: data.Tree(p / "tree", scale).make(), where, f"A{scale}") / "tree"
        small = min((p for p in top.rglob("*.py") if 5000 < p.stat().st_size < 6000), key=str).relative_to(top)
        return Workload("A: an application tree", top, data.Tree(top, scale), str(small), ["first", "unchanged", "changed", "restore", "one file", "list", "check"])
    if letter == "B":
        path = data.kept(lambda p: data.Database(p / "app.db", scale).make(), where, f"B{scale}") / "app.db"
        return Workload("B: a SQLite database", path, data.Database(path, scale), "", ["first", "unchanged", "changed", "changed, hot", "restore", "check"])
    top = data.kept(lambda p: data.Large(p / "large", scale).make(), where, f"C{scale}") / "large"
    return Workload("C: large files", top, data.Large(top, scale), "note.txt", ["first", "unchanged", "restore", "one file", "check"])


def compare(work, server, letter, args):
    """A, B or C with all programs. Gives its workload, and what failed."""
    where = pathlib.Path(args.data) if args.data else work / "data"
    where.mkdir(exist_ok=True)
    done = workload(letter, where, args.scale)
    done.subject.turn = int(time.time()) if args.data else 0        # data that is kept was changed by earlier runs
    competitors = tools.installed(work, server, args.tools)
    data.settle(done.source)
    memory = in_memory((3 << 30) // args.scale) if letter == "A" else None
    with tempfile.TemporaryDirectory(prefix="backstay-bench-", dir=memory or work) as scratch:
        for turn in range(args.rounds[letter]):
            print(f"{time.strftime('%H:%M:%S')} {done.name}, round {turn + 1}", file=sys.stderr)
            done.turn(competitors, pathlib.Path(scratch), args.repeat)
    done.table()
    for tool in competitors:
        tool.place.remove()
    return done, done.failures


def month_scale(args):
    return args.month_scale if args.all else args.scale


def parts(args):
    """What is to be measured: names, and functions that take a folder of their own and the server, and give figures and what is broken."""
    if args.all or not (args.growth or args.month):
        for letter in filter(args.workloads.count, "ABC"):
            yield letter, functools.partial(compare, letter=letter, args=args)
    for kind, measure in growth.KINDS.items():
        if kind in (args.growth or "files" * args.all).split(","):
            yield kind, functools.partial(measure, scale=args.scale)
    if args.all or args.month:
        for letter in "AB":
            yield f"month {letter}", functools.partial(growth.month, name=letter, scale=month_scale(args), days=args.days)


def keep(args, said, measured, broken):
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"about": said, "broken": broken, **{name: getattr(of, "figures", of) for name, of in measured.items()}}, indent=1))


def measure_all(args, work, server, said):
    """One part after the other, also after one that failed. Gives figures by the name of the part, and what is broken."""
    measured, broken = {}, []
    for name, part in parts(args):
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr)
        place = work / name.replace(" ", "-")
        place.mkdir()
        try:
            measured[name], found = part(place, server)
        except Exception as e:
            traceback.print_exc()
            measured[name], found = {}, [f"{name}: {type(e).__name__}: {e}"]
        broken += found
        shutil.rmtree(place, ignore_errors=True)
        keep(args, said, measured, broken)
    return measured, broken


def about(args):
    """When, with what and on what it was measured."""
    program = subprocess.run([tools.Backstay.program, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()
    processor = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return [f"date {time.strftime('%Y-%m-%d')}, {', '.join(program)}: `bench/run.py {shlex.join(sys.argv[1:])}`",
            f"{platform.system()} {platform.release()}, {processor[1] if processor else platform.machine()}, {os.cpu_count()} processors",
            ", ".join(tools.versions()),
            f"rounds {', '.join(f'{letter} {count}' for letter, count in args.rounds.items())}, scale 1/{args.scale}, stores in {'folders' if args.folder else 'buckets'}"]


def rounds(text):
    """How often each workload is done: a number for all, or one each, as in A3,B2,C1."""
    found = dict.fromkeys("ABC", 3)
    for part in text.split(","):
        letters, number = (part[0], part[1:]) if part[:1].isalpha() else ("ABC", part)
        if letters not in "ABC":
            raise ValueError
        found |= dict.fromkeys(letters, int(number))
    return found


def main():
    sys.stdout.reconfigure(line_buffering=True)     # what is there when a run is cut off is not lost
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="A, B and C, growth by files, and the month")
    parser.add_argument("--scale", type=int, default=1, help="so much smaller")
    parser.add_argument("--month-scale", type=int, default=8, help="so much smaller in the month of --all")
    parser.add_argument("--rounds", type=rounds, default="3", help="how often: a number, or one for each workload, as in A3,B2,C1")
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
        said = about(args)
        print("\n".join(said))
        measured, broken = measure_all(args, work, server, said)
        broken += summary(measured, args)
        keep(args, said, measured, broken)
    for what in broken:
        print(f"FAILED: {what}", file=sys.stderr)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
