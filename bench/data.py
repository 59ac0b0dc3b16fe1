"""The data that is backed up, made anew from seeds: the same bytes on every machine with the same Python.

A  an application tree: 39,553 files in some 11,000 folders, 588 MB, of which a quarter is random (pictures)
B  a SQLite database of 2.0 GB: 2.95 million rows in three tables, a quarter of its bytes random
C  2.15 GB of random bytes, a log of 1.07 GB and a file of 150 bytes

Scale 10 makes a tenth of each.
"""
import os, pathlib, random, shutil, sqlite3, time

WORDS = ("import return value request response async await def class self user session query insert select where from "
         "component render props state effect handler error result option vector string index config service").split()
VERSION = 3         # of what is made here: data of another version is made anew


def words_pool(rng, size):
    """Text like code: names that recur, names that do not, punctuation. zstd makes about a quarter of it."""
    names = WORDS * 6 + ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz_", k=rng.randint(3, 14))) for _ in range(6000)]
    weights = [len(names) / (n + 8) for n in range(len(names))]
    ends = ["\n", "\n", " {\n", ";\n", ":\n", "(self)\n", ");\n", " = None\n"]
    out, length = [], 0
    while length < size:
        drawn = rng.choices(names, weights, k=4000)
        at = 0
        while at < len(drawn):
            count = rng.randint(2, 8)
            line = "    " * rng.choice((0, 1, 1, 2, 3)) + rng.choice((" ", ".", ", ", " ")).join(drawn[at:at + count]) + rng.choice(ends)
            out.append(line)
            length += len(line)
            at += count
    return "".join(out).encode()[:size]


class Tree:
    """Data A at `top`."""

    def __init__(self, top, scale, seed=1):
        self.top, self.files, self.seed = pathlib.Path(top), 39_553 // scale, seed
        self.turn = 0

    def _pool(self):
        return words_pool(random.Random(self.seed), (48 << 20) if self.files > 10_000 else (6 << 20))

    def make(self):
        rng, pool = random.Random(self.seed), self._pool()
        folders = ["src"]
        while len(folders) < self.files * 0.283:
            folders.append(f"{rng.choice(folders[-400:])[:90].rpartition('/')[0] or 'src'}/m{len(folders)}" if rng.random() < 0.6 else f"{rng.choice(folders[-60:])}/d{len(folders)}")
        for folder in folders:
            (self.top / folder).mkdir(parents=True, exist_ok=True)
        for n in range(self.files):
            self._write(self.top / rng.choice(folders) / (f"p{n}.jpg" if n % 40 == 0 else f"s{n}.py"), rng, pool)
        for n in range(15):
            (self.top / f"link{n}").symlink_to(f"src/target{n}")

    def _write(self, path, rng, pool):
        if path.suffix == ".jpg":
            path.write_bytes(rng.randbytes(rng.randint(60_000, 243_000)))
            return
        size = min(int(rng.lognormvariate(8.53, 1.28)), 2 << 20)
        start = rng.randrange(len(pool) - size)
        path.write_bytes(f"# {path.name} {rng.randint(0, 1 << 60)}\n".encode() + pool[start:start + size])

    def change(self):
        """1 % of the files: of these a tenth removed, as many new, the rest edited in the middle or replaced."""
        self.turn += 1
        rng, pool = random.Random(f"{self.seed}-{self.turn}"), self._pool()
        files = sorted(p for p in self.top.rglob("*") if p.is_file() and not p.is_symlink())
        chosen = rng.sample(files, max(10, len(files) // 100))
        tenth = len(chosen) // 10
        for path in chosen[:tenth]:
            path.unlink()
            self._write(path.with_name(f"n{self.turn}-{path.name}"), rng, pool)
        for path in chosen[tenth:]:
            content = path.read_bytes()
            if rng.random() < 0.7:
                middle = rng.randint(0, len(content))
                path.write_bytes(content[:middle] + f"# edited {self.turn} {rng.randint(0, 1 << 60)}\n".encode() + content[middle:])
            else:
                self._write(path, rng, pool)


class Database:
    """Data B at `path`."""

    def __init__(self, path, scale, seed=2):
        self.path, self.events, self.blobs, self.seed = pathlib.Path(path), 2_900_000 // scale, 49_000 // scale, seed
        self.turn = 0

    def _rows(self, rng, pool, first, count):
        limit = len(pool) - 700
        for n in range(first, first + count):
            start = rng.randrange(limit)
            yield n, rng.randrange(50_000), 1_700_000_000 + n * 7, pool[start:start + rng.randrange(180, 560)], rng.randbytes(32)

    def make(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rng = random.Random(self.seed)
        pool = words_pool(rng, 16 << 20).decode()
        db = sqlite3.connect(self.path)
        db.executescript("PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
                         "CREATE TABLE events(id INTEGER PRIMARY KEY, user INT, at INT, body TEXT, token BLOB);"
                         "CREATE TABLE blobs(id INTEGER PRIMARY KEY, content BLOB); CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, settings TEXT);")
        db.executemany("INSERT INTO users VALUES(?,?,?)", ((n, f"user{n}", pool[n * 7:n * 7 + 120]) for n in range(10_000)))
        db.executemany("INSERT INTO events VALUES(?,?,?,?,?)", self._rows(rng, pool, 0, self.events))
        db.executemany("INSERT INTO blobs VALUES(?,?)", ((n, rng.randbytes(rng.randint(4_000, 22_000))) for n in range(self.blobs)))
        db.execute("CREATE INDEX by_user ON events(user)")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()

    def change(self, hot=False):
        """1 % of the rows of events and blobs: drawn evenly, or nearly all of them among the newest 2 %."""
        self.turn += 1
        rng = random.Random(f"{self.seed}-{self.turn}-{hot}")
        pool = words_pool(rng, 1 << 20).decode()
        db = sqlite3.connect(self.path)
        db.execute("PRAGMA synchronous=OFF")
        newest = db.execute("SELECT max(id) FROM events").fetchone()[0]
        count = self.events // 100
        draw = (lambda top: top - rng.randrange(top // 50) if rng.random() < 0.98 else rng.randrange(top)) if hot else (lambda top: rng.randrange(top))
        changed = ((pool[s:s + rng.randrange(180, 560)], draw(newest)) for s in (rng.randrange(len(pool) - 700) for _ in range(count * 9 // 10)))
        db.executemany("UPDATE events SET body=? WHERE id=?", changed)
        db.executemany("INSERT INTO events VALUES(?,?,?,?,?)", self._rows(rng, pool, newest + 1, count // 10))
        for _ in range(self.blobs // 100):
            db.execute("UPDATE blobs SET content=? WHERE id=?", (rng.randbytes(rng.randint(4_000, 22_000)), draw(self.blobs - 1)))
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()


class Large:
    """Data C at `top`."""

    def __init__(self, top, scale, seed=3):
        self.top, self.scale, self.seed = pathlib.Path(top), scale, seed

    def make(self):
        self.top.mkdir(parents=True)
        rng = random.Random(self.seed)
        with open(self.top / "random.bin", "wb") as out:
            for _ in range(512 // self.scale):
                out.write(rng.randbytes(4 << 20))
        agents = [f"Mozilla/5.0 (X11; rv:{n}.0) Gecko/20100101 Firefox/{n}.0" for n in range(90, 130)]
        paths = [f"/{'/'.join(rng.choices(WORDS, k=rng.randint(1, 4)))}" for _ in range(3000)]
        people = [f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}" for _ in range(5000)]
        left, at = (1 << 30) // self.scale, 0
        with open(self.top / "access.log", "w") as out:
            while left > 0:
                lines = []
                for _ in range(20_000):
                    at += rng.randrange(3)
                    lines.append(f'{rng.choice(people)} - - [29/Nov/2026:{at // 3600 % 24:02}:{at // 60 % 60:02}:{at % 60:02} +0000] "GET {rng.choice(paths)}?id={rng.randrange(10**6)} HTTP/1.1" '
                                 f'{rng.choice((200, 200, 200, 304, 404))} {rng.randrange(60_000)} "-" "{rng.choice(agents)}"\n')
                text = "".join(lines)
                out.write(text)
                left -= len(text)
        (self.top / "note.txt").write_bytes(rng.randbytes(75).hex().encode())

    def change(self):
        """Lines are added to the log."""
        with open(self.top / "access.log", "a") as out:
            out.write("one more line\n" * 1000)


def many_files(top, count, seed=4):
    """`count` small files, a hundred in a folder."""
    rng = random.Random(seed)
    for n in range(0, count, 100):
        folder = pathlib.Path(top) / f"g{n // 10_000:04}" / f"h{n // 100 % 100:02}"
        folder.mkdir(parents=True)
        for k in range(min(100, count - n)):
            with open(folder / f"f{k:02}.txt", "wb") as out:
                out.write(b"file %d %d\n" % (n + k, rng.randrange(1 << 60)))


def settle(top):
    """Waits until the newest change lies a minute back, as it does where a backup is made once a day: what was written within that minute is read again by backstay."""
    newest = top.lstat().st_ctime
    for folder, _, names in os.walk(top):
        newest = max(newest, *(os.lstat(os.path.join(folder, name)).st_ctime for name in [".", *names]))
    time.sleep(max(0.0, newest + 61 - time.time()))


def kept(make, where, name):
    """Makes data unless `where` has it from an earlier run: `make` gets the folder to fill."""
    mark = where / f"{name}-{VERSION}.made"
    if not mark.exists():
        for old in [*where.glob(f"{name}-*.made")]:
            old.unlink()
        shutil.rmtree(where / name, ignore_errors=True)
        (where / name).mkdir(parents=True)
        make(where / name)
        os.sync()
        mark.touch()
    return where / name
