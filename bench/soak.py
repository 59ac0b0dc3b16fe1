#!/usr/bin/env python3
"""Soak: an application that changes all the time, an agent that stays, backups every few seconds, restores that are compared, prunes, and faults.

    python3 bench/soak.py target/release/backstay [--minutes 30] [--store weed|folder] [--every 5] [--seed 1]      (./test --soak does it)

Two stores: a bucket of SeaweedFS (BACKSTAY_WEED; with `--store folder` a second folder) and a folder, which as root lies on a small tmpfs of its own. Every restore is
compared: with a copy that was taken while nothing was written, or with what the application knows of itself: every file says its version, and must have been so at some
moment between the begin and the end of the backup; the database has exactly the rows 1 to N of a moment in that time. The agent runs all the while, with a schedule of every minute, a status page that is read three times a second, and a webhook that it tells of the faults.

Ends with 1 on any mismatch, any exit code that the faults do not explain, or when the agent grows: when the straight line through the second half of its samples rises by
more than 4 MB of memory, 3 descriptors or 3 threads from the middle to the end. As it is for a machine without anybody: nothing is asked. Ends all that it started.
"""
import argparse, collections, contextlib, errno, hashlib, http.server, json, os, pathlib, random, re, shutil, signal, sqlite3, subprocess, sys, tempfile, threading, time, traceback, urllib.request
from datetime import datetime

HERE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "tests/tools"))
import servers
from s3 import S3

GROWTH_KB, GROWTH_FDS, GROWTH_THREADS = 4096, 3, 3
PAGES = ("", "status.json", "metrics")
RETENTION = "[retention]\nkeep_last = 6\nmin_keep = 3\n"
CONFIG = """
[schedule]
timezone = "UTC"
backup = ["* * * * *"]
verify = "*/7 * * * *"
prune = "*/11 * * * *"
[agent]
textfile = "{top}/metrics.prom"
page = "127.0.0.1:0"
[notify]
failure = [{{ webhook = "http://127.0.0.1:{webhook}/hook" }}]
"""


class Mismatch(Exception):
    pass


class App:
    """Files and a database that are written all the time, each saying by itself what it must be."""

    def __init__(self, top, seed):
        self.top, self.random, self.lock, self.ends = top, random.Random(seed), threading.Lock(), threading.Event()
        self.files, self.count, self.writes = collections.defaultdict(list), [(0.0, 0)], 0
        (top / "files").mkdir(parents=True)
        (top / "tmp").mkdir()
        with self.database() as db:
            db.executescript("PRAGMA journal_mode=WAL; CREATE TABLE log(n INTEGER PRIMARY KEY, text TEXT); CREATE TABLE state(k INTEGER PRIMARY KEY, v INTEGER);")
            db.executemany("INSERT INTO state VALUES (?, 0)", [(k,) for k in range(50)])
        for n in range(150):
            self.write(f"{n:03}")
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def database(self):
        return sqlite3.connect(self.top / "app.db", timeout=60)

    @staticmethod
    def content(name, version):
        own = random.Random(f"{name}:{version}")
        return f"{name} {version}\n".encode() + own.randbytes(own.choice((200, 3000, 40_000)))

    @staticmethod
    def text(n):
        return hashlib.sha256(f"row {n}".encode()).hexdigest() * 4

    def write(self, name):
        log = self.files[name]
        version = (max((v for _, v in log if v), default=0)) + 1
        new = self.top / "tmp" / name
        new.write_bytes(self.content(name, version))
        # Between these two it is old or new: both moments are noted, so that either is right.
        begun = time.time()
        new.rename(self.top / "files" / name)
        log.append((begun, version))

    def remove(self, name):
        begun = time.time()
        (self.top / "files" / name).unlink(missing_ok=True)
        self.files[name].append((begun, None))

    def insert(self, db):
        n = self.count[-1][1] + 1
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO log VALUES (?, ?)", (n, self.text(n)))
        db.execute("UPDATE state SET v = v + 1 WHERE k = ?", (self.random.randrange(50),))
        begun = time.time()
        db.execute("COMMIT")
        self.count.append((begun, n))

    def run(self):
        db = self.database()
        db.isolation_level = None
        while not self.ends.wait(0.03):
            with self.lock:
                name, what = f"{self.random.randrange(200):03}", self.random.random()
                if what < 0.5:
                    self.insert(db)
                elif what < 0.9:
                    self.write(name)
                else:
                    self.remove(name)
                self.writes += 1
        db.close()

    def compare(self, restored, begun, ended):
        """What was restored against what was true at some moment from `begun` to `ended`."""
        found = {path.name: path.read_bytes() for path in (restored / "app/files").iterdir()} if (restored / "app/files").exists() else {}
        with self.lock:
            logs, counts = {name: list(log) for name, log in self.files.items()}, list(self.count)
        # Writing takes a moment after it was begun.
        during = lambda log: {v for (at, v), (until, _) in zip(log, log[1:] + [(float("inf"), None)]) if at <= ended and until + 0.5 >= begun} | (
            {None} if not log or log[0][0] + 0.5 >= begun else set())
        for name in sorted(set(logs) | set(found)):
            version = int(found[name].split(b"\n", 1)[0].split()[1]) if name in found else None
            if version not in during(logs.get(name, [])):
                raise Mismatch(f"file {name}: version {version}, but from {begun:.1f} to {ended:.1f} it was {during(logs.get(name, []))}")
            if version and found[name] != self.content(name, version):
                raise Mismatch(f"file {name} of version {version} has other bytes")
        least, most = (max((n for at, n in counts if at + slack <= moment), default=0) for moment, slack in ((begun, 0.5), (ended, 0.0)))
        rows = self.rows(next(restored.rglob("app.db")))
        if not least <= rows <= most:
            raise Mismatch(f"the database has {rows} rows, and there were {least} to {most}")

    def rows(self, path):
        db = sqlite3.connect(path)
        try:
            if db.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                raise Mismatch(f"{path} is not sound")
            rows = db.execute("SELECT n, text FROM log ORDER BY n").fetchall()
            if any(row != (n, self.text(n)) for n, row in enumerate(rows, 1)) or db.execute("SELECT sum(v) FROM state").fetchone()[0] != len(rows):
                raise Mismatch(f"{path} holds rows that were never there together")
            return len(rows)
        finally:
            db.close()


class Sampler(threading.Thread):
    """Memory, descriptors and threads of a process, every two seconds."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.samples, self.begun = pid, [], time.time()
        self.start()

    def run(self):
        while True:
            try:
                status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
                number = lambda name: int(status.split(f"{name}:")[1].split()[0])
                self.samples.append((time.time() - self.begun, number("VmRSS"), len(os.listdir(f"/proc/{self.pid}/fd")), number("Threads")))
            except (OSError, IndexError):
                return
            time.sleep(2)

    def rise(self, which):
        """By how much the straight line through the second half rises."""
        half = self.samples[len(self.samples) // 2:]
        if len(half) < 5:
            return 0.0
        xs, ys = [s[0] for s in half], [s[which] for s in half]
        mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
        slope = sum((x - mx) * (y - my) for x, y in zip(xs, ys)) / sum((x - mx) ** 2 for x in xs)
        return slope * (xs[-1] - xs[0])


class Hook(http.server.ThreadingHTTPServer):
    """A webhook that counts what it is told."""

    def __init__(self):
        told = self.told = collections.Counter()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                told[json.loads(self.rfile.read(int(self.headers["Content-Length"])))["event"]] += 1
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Reader(threading.Thread):
    """Reads the page as a browser, a program and Prometheus do, each time with a new connection."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.read, self.failed, self.ends = url, 0, [], threading.Event()
        self.start()

    def run(self):
        while not self.ends.wait(1):
            for path in PAGES:
                try:
                    with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                        if not answer.read():
                            raise ValueError("an empty answer")
                    self.read += 1
                except (OSError, ValueError) as error:
                    self.failed.append(f"/{path}: {error!r}")


class Soak:
    def __init__(self, args, top):
        self.args, self.top, self.random = args, top, random.Random(args.seed)
        self.program, self.done, self.known, self.exact = os.path.abspath(args.program), collections.Counter(), {}, {}
        self.slowest, self.agent, self.sampler, self.mounted, self.weed = collections.Counter(), None, None, False, None
        self.hook, self.reader = Hook(), None
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("BACKSTAY_", "AWS_"))} | {"HOME": str(top / "home"), "AWS_ACCESS_KEY_ID": servers.ACCESS, "AWS_SECRET_ACCESS_KEY": servers.SECRET, "AWS_EC2_METADATA_DISABLED": "true"}

    # --- places
    def set_up(self):
        (self.top / "home").mkdir()
        self.stick = self.top / "stick"
        self.stick.mkdir()
        if os.geteuid() == 0:
            self.mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", self.stick], capture_output=True).returncode == 0
        self.app = App(self.top / "project/app", self.args.seed)
        bucket = self.args.store == "weed"
        if bucket:
            self.weed_home, self.ports = self.top / "w", servers.weed_ports()
            (self.weed_home / "data").mkdir(parents=True)
            self.weed = servers.start_weed(self.weed_home, self.ports)
            endpoint = f"http://127.0.0.1:{self.ports['s3.port']}"
            self.env |= {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}
            answer = S3(endpoint, servers.ACCESS, servers.SECRET).ask("PUT", "soak")
            if answer.status != 200:
                raise SystemExit(f"the bucket cannot be made: {answer}")
        first = "s3://soak/vault" if bucket else str(self.top / "first")
        self.run("init", "--yes", "--store", first, codes=(0,))
        config = self.top / "project/backstay.toml"
        text = config.read_text()
        begin, end = text.index("[[component]]"), text.index("[[store]]")
        parts = '[[component]]\nname = "app"\npath = "app"\nexclude = ["tmp/", "app.db-*"]\n[[component]]\nname = "db"\nsqlite = "app/app.db"\n\n'
        text = text[:begin] + parts + text[end:]
        text = re.sub(r"(?ms)^\[retention\]\n.*?(?=^\[|\Z)", RETENTION, text)
        # A bucket is pruned a day later, which is too late here.
        text = text.replace("[[store]]", '[[store]]\nprune = "elsewhere"', 1) if bucket else text
        config.write_text(text + f'\n[[store]]\nname = "stick"\npath = "{self.stick}/vault"\n' + CONFIG.format(top=self.top, webhook=self.hook.server_port))
        self.run("init", codes=(0,))
        self.first = json.loads(self.run("status", "--json", codes=(0,)).stdout)["stores"][0]["name"]

    def tear_down(self):
        self.app.ends.set()
        if self.reader:
            self.reader.ends.set()
        self.hook.shutdown()
        if self.agent and self.agent.poll() is None:
            os.killpg(self.agent.pid, signal.SIGKILL)
            self.agent.wait()
        if self.weed:
            servers.end_weed(self.weed, self.ports)
        if self.mounted:
            subprocess.run(["umount", "-l", self.stick])

    # --- running
    def command(self, *words):
        return [self.program, *words]

    def run(self, *words, codes=None, wait=True):
        words = [*words, "--wait=5m"] if wait and words[0] in ("backup", "prune", "sync", "verify") else words
        begun = time.monotonic()
        ran = subprocess.run(self.command(*words), cwd=self.top / "project", env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        took = time.monotonic() - begun
        self.done[words[0]] += 1
        self.slowest[words[0]] = max(self.slowest[words[0]], took)
        if codes is not None and ran.returncode not in codes:
            raise Mismatch(f"{' '.join(words)} ended with {ran.returncode}, not {codes}:\n{ran.stdout[-1500:]}{ran.stderr[-3000:]}")
        return ran

    def start_agent(self):
        log = open(self.top / "agent.log", "ab")
        self.agent = subprocess.Popen(self.command("agent"), cwd=self.top / "project", env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()
        self.sampler, self.reader = Sampler(self.agent.pid), Reader(self.page())

    def page(self):
        until = time.time() + 60
        while time.time() < until and self.agent.poll() is None:
            page = json.loads(self.run("status", "--json").stdout)["schedule"]["page"]
            if page:
                return page
            time.sleep(0.2)
        raise Mismatch("the agent shows no page")

    def backup(self, codes=(0,)):
        begun = time.time()
        ran = self.run("backup", "--json", codes=codes)
        if ran.returncode in (0, 4):
            self.known[json.loads(ran.stdout)["snapshot"]] = (begun, time.time())
        return ran

    def backup_exact(self):
        """A copy taken while nobody writes."""
        with self.app.lock:
            self.backup()
            snapshot = list(self.known)[-1]
            to = self.top / f"exact-{snapshot}"
            subprocess.run(["cp", "-a", self.app.top, to], check=True)
        self.exact[snapshot] = to
        for old in list(self.exact)[:-3]:
            shutil.rmtree(self.exact.pop(old))

    def restore(self, snapshot, store):
        to = self.top / "restored"
        shutil.rmtree(to, ignore_errors=True)
        self.run("restore", snapshot, "--to", str(to), "--store", store, codes=(0,))
        begun, ended = self.known[snapshot]
        self.app.compare(to, begun, ended)
        if snapshot in self.exact:
            facts = lambda top: {str(p.relative_to(top)): (p.stat().st_mode, p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(top.rglob("*")) if p.is_file()}
            was, now = facts(self.exact[snapshot] / "files"), facts(to / "app/files")
            if was != now:
                raise Mismatch(f"snapshot {snapshot} from {store}: {sorted(set(was) ^ set(now)) or [n for n in was if was[n] != now[n]][:5]} differ from the copy")
            self.done["compared with a copy"] += 1
        self.done["compared with the application's own word"] += 1

    def listed(self, store):
        rows = json.loads(self.run("list", "--json", "--store", store, codes=(0,)).stdout)["snapshots"]
        moment = lambda text: datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
        for row in rows:        # those of the agent, too
            if row["complete"] and row["id"] not in self.known:
                self.known[row["id"]] = (moment(row["started"]) - 1, moment(row["finished"]) + 1)
        # Whole ones, proved or not: what is restored is compared either way.
        whole = [row["id"] for row in rows if row["complete"] and row["void"] is None and row["id"] in self.known]
        self.done["looks at a store without a proved snapshot"] += not any(row["good"] for row in rows)
        if not whole:
            raise Mismatch(f"no snapshot is in {store}: {json.dumps(rows)[-3000:]}")
        return whole

    # --- faults: each ends with everything as it was
    def whole_again(self):
        for store in (self.first, "stick"):
            self.run("sync", codes=(0,))
            newest = self.backup() and list(self.known)[-1]
            if newest not in self.listed(store):
                raise Mismatch(f"snapshot {newest} is not in {store} after a fault was over")

    def fault_server(self):
        servers.end_weed(self.weed, self.ports)
        try:
            self.backup(codes=(4,))
        finally:
            self.weed = servers.start_weed(self.weed_home, self.ports)

    def fault_kill(self):
        child = subprocess.Popen(self.command("backup", "--wait=5m"), cwd=self.top / "project", env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(self.random.uniform(0.02, 1.5))
        child.kill()
        child.wait()

    def fault_job(self):
        """The agent's own job dies."""
        until = time.time() + 65
        while time.time() < until:
            children = []
            for task in pathlib.Path(f"/proc/{self.agent.pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError):    # a thread that answered a reader of the page is gone
                    children += (task / "children").read_text().split()
            for child in children:
                try:
                    if b"__look" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
                        continue        # looks at stores for the page, and is no job
                    os.kill(int(child), signal.SIGKILL)
                except (FileNotFoundError, ProcessLookupError):
                    continue
                return True
            time.sleep(0.05)
        return False                # no job in all that time

    def fault_full(self):
        ballast = self.stick / "ballast"
        try:
            self.fill(ballast)
            self.backup(codes=(4,))
        finally:
            ballast.unlink()

    def fill(self, ballast):
        """Two pages are left: less than the objects of the smallest backup, also right after one of the agent's."""
        for _ in range(100):
            room = shutil.disk_usage(self.stick).free
            with open(ballast, "wb") as file:
                try:
                    return os.posix_fallocate(file.fileno(), 0, max(room - 8192, 1))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise       # else one of the agent's runs took some of it since it was measured
        raise RuntimeError("the stick could not be filled")

    def fault_damage(self):
        """An archive that the newest record names: as long as that record is there the damage must be found."""
        newest = max((self.stick / "vault/snapshots").iterdir(), key=lambda p: p.name)
        text = newest.read_text()
        archives = [p for p in sorted((self.stick / "vault").rglob("*.tar.zst.age")) if p.name.split(".")[0] in text]
        victim = self.random.choice(archives)
        try:
            victim.chmod(0o600)
            data = bytearray(victim.read_bytes())
            data[len(data) // 2] ^= 1
            victim.write_bytes(data)
        except FileNotFoundError:
            return False            # a prune was faster
        code = self.run("verify", "--read-data", codes=(13, 0)).returncode
        if code == 0 and newest.exists():
            raise Mismatch(f"{victim.name} was damaged and {newest.name} needs it, and verify found nothing")
        self.run("sync", "--read-data", codes=(0, 13))
        self.run("verify", "--read-data", codes=(0,))

    # --- the whole
    def soak(self):
        faults = ["kill", "job", "damage"] + ["server"] * bool(self.weed) + ["full"] * self.mounted
        if not self.mounted:
            print("NOT RUN: a full disk (needs root and a tmpfs)")
        self.backup()
        self.start_agent()
        ends, turn = time.time() + self.args.minutes * 60, 0
        while time.time() < ends:
            turn += 1
            self.backup_exact() if turn % 4 == 0 else self.backup()
            store = self.random.choice((self.first, "stick"))
            there = self.listed(store)
            self.restore(self.random.choice(there), store)
            if turn % 3 == 0:
                name = faults[turn // 3 % len(faults)]
                if getattr(self, f"fault_{name}")() is not False:
                    self.done[f"fault: {name}"] += 1
                self.whole_again()
            if turn % 5 == 0:
                self.run("prune", "--now", codes=(0, 18))
            if turn % 10 == 0:
                self.run("verify", "--read-data=10", codes=(0,))
            if self.agent.poll() is not None:
                raise Mismatch(f"the agent ended with {self.agent.returncode}")
            if self.reader.failed:
                raise Mismatch(f"the page could not be read: {self.reader.failed[:3]}")
            time.sleep(self.args.every)
        self.whole_again()
        for store in (self.first, "stick"):
            self.run("verify", "--read-data", "--store", store, codes=(0,))
            for snapshot in self.listed(store):
                self.restore(snapshot, store)

    def end_agent(self):
        self.reader.ends.set()
        self.reader.join()
        begun = time.monotonic()
        self.agent.terminate()
        code = self.agent.wait(timeout=30)
        took = time.monotonic() - begun
        if code != 0 or took > 10:
            raise Mismatch(f"the agent ended with {code} after {took:.1f} s")
        return took

    def table(self, took):
        samples = self.sampler.samples
        rows = [(f"{what}", f"{n}") for what, n in sorted(self.done.items())]
        rows += [(f"slowest {what}", f"{seconds:.1f} s") for what, seconds in sorted(self.slowest.items())]
        rows += [("writes of the application", f"{self.app.writes}"), ("snapshots in the folder at the end", f"{len(self.listed('stick'))}")]
        rows += [(f"agent's {name}: begin, middle, end", " ".join(f"{samples[at][which]}" for at in (min(5, len(samples) - 1), len(samples) // 2, -1)) + f" {unit}") for name, which, unit in (("memory", 1, "kB"), ("descriptors", 2, ""), ("threads", 3, ""))]
        rise = [self.sampler.rise(which) for which in (1, 2, 3)]
        rows += [("the page was read", f"{self.reader.read}"), ("the webhook was told", " ".join(f"{event} {n}" for event, n in sorted(self.hook.told.items())))]
        rows += [("rise over the second half", f"{rise[0]:+.0f} kB, {rise[1]:+.2f} descriptors, {rise[2]:+.2f} threads"), ("the agent's end after SIGTERM", f"{took:.1f} s")]
        print("| | |\n|---|---|")
        for what, value in rows:
            print(f"| {what} | {value} |")
        if rise[0] > GROWTH_KB or rise[1] > GROWTH_FDS or rise[2] > GROWTH_THREADS:
            raise Mismatch(f"the agent grows: {rise[0]:.0f} kB, {rise[1]:.1f} descriptors and {rise[2]:.1f} threads in the second half")
        if not self.reader.read:
            raise Mismatch("the page was never read")
        # Each of these ends a command with 4 or 13, and that is told.
        if any(self.done[f"fault: {name}"] for name in ("server", "full", "damage")) and not self.hook.told:
            raise Mismatch("there were faults, and the webhook was told nothing")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--store", choices=["weed", "folder"], default="weed")
    parser.add_argument("--every", type=float, default=5, help="seconds between rounds")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    top = pathlib.Path(tempfile.mkdtemp(prefix="bs-soak-"))
    soak = Soak(args, top)
    try:
        soak.set_up()
        soak.soak()
        soak.table(soak.end_agent())
    except BaseException as e:
        if not isinstance(e, Mismatch):
            traceback.print_exc()
        print(f"FAILED after {dict(soak.done)}: {e}", file=sys.stderr)
        log = top / "agent.log"
        print("the agent's last words:\n" + (log.read_text(errors="replace")[-3000:] if log.exists() else ""), file=sys.stderr)
        sys.exit(1)
    finally:
        soak.tear_down()
        shutil.rmtree(top, ignore_errors=True)
    print(f"no mismatch in {args.minutes:g} minutes")


if __name__ == "__main__":
    main()
