"""The programs that are compared, where each keeps its backups, and what an operation costs."""
import contextlib, json, os, pathlib, re, resource, shutil, subprocess, sys, urllib.request

HERE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "tests/tools"))
import servers
from s3 import S3

# A helper process in between, so that a peak is this command's and not that of an earlier one.
HELPER = """
import json, resource, subprocess, sys, time
command, shell, out = json.loads(sys.argv[1])
with open(out, "wb") as to:
    begun = time.monotonic()
    run = subprocess.run(command, shell=shell, executable="/bin/bash" if shell else None, stdin=subprocess.DEVNULL, stdout=to, stderr=subprocess.PIPE)
    wall = time.monotonic() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([run.returncode, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, run.stderr.decode(errors="replace")[-1500:]]))
"""


class Failed(Exception):
    pass


class Folder:
    """Backups in a folder."""
    endpoint = None

    def __init__(self, home):
        self.path = home

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)

    anew = remove

    def megabytes(self):
        return sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file()) / 1e6

    def counters(self):
        return {}


class Bucket:
    """Backups in a bucket of a server on this machine. A new one each time: what a server still tidies up of an old one is not counted."""

    def __init__(self, server, name):
        self.endpoint, self.process, self.metrics = server
        # Names of temporary folders have characters that names of buckets may not have.
        self.prefix, self.count, self.name = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-"), 0, None
        self.s3 = S3(self.endpoint, servers.ACCESS, servers.SECRET)
        self.environment = {"AWS_ACCESS_KEY_ID": servers.ACCESS, "AWS_SECRET_ACCESS_KEY": servers.SECRET, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
                            "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_W_TYPE": "s3", "RCLONE_CONFIG_W_PROVIDER": "SeaweedFS", "RCLONE_CONFIG_W_ENDPOINT": self.endpoint, "RCLONE_CONFIG_W_ENV_AUTH": "true"}

    def remove(self):
        if self.name:
            for key, _ in self._objects():
                self.s3.ask("DELETE", f"{self.name}/{key}")
            self.s3.ask("DELETE", self.name)
        self.name = None

    def anew(self):
        self.remove()
        self.count += 1
        self.name = f"bench-{self.prefix}-{self.count}"
        answer = self.s3.ask("PUT", self.name)
        if answer.status != 200:
            raise Failed(f"the bucket {self.name} cannot be made: {answer}")
        self.s3.ask("PUT", f"{self.name}/first", body=b"x")     # the server makes a bucket's volumes at its first put
        self.s3.ask("DELETE", f"{self.name}/first")

    def _objects(self):
        found, token = [], None
        while True:
            page = self.s3.ask("GET", self.name, {"list-type": "2", **({"continuation-token": token} if token else {})})
            found += zip(page.all("Key"), map(int, page.all("Size")))
            token = page.one("NextContinuationToken")
            if not token:
                return found

    def megabytes(self):
        return sum(size for _, size in self._objects()) / 1e6

    def counters(self):
        """The server's CPU seconds, and requests and bytes of this bucket, as it counts them itself."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        text = urllib.request.urlopen(self.metrics, timeout=10).read().decode()
        total = lambda name: sum(float(v) for v in re.findall(rf'^SeaweedFS_s3_{name}{{bucket="{re.escape(self.name)}"[^}}]*}} (\S+)$', text, re.M))
        return {"server": sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK"), "requests": total("request_total"),
                "sent": total("bucket_traffic_received_bytes_total") / 1e6, "received": total("bucket_traffic_sent_bytes_total") / 1e6}


class Tool:
    """A program with a home of its own. `local` ones cannot use a bucket and keep a folder instead: they are quoted for scale."""
    programs, local = (), False

    def __init__(self, home, server):
        self.name, self.home = type(self).__name__.lower(), home
        self.place = Folder(home / "store") if self.local or not server else Bucket(server, f"{home.parent.name}-{self.name}".lower())
        self.env = {**os.environ, "HOME": str(home), "RESTIC_PASSWORD": "x", "RUSTIC_PASSWORD": "x", "BORG_PASSPHRASE": "x", "NO_COLOR": "1", **getattr(self.place, "environment", {})}
        for gone in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            self.env.pop(gone, None)

    @classmethod
    def lacking(cls):
        return [p for p in cls.programs if not shutil.which(p)]

    def do(self, command, cwd=None, shell=False):
        """Runs a command; gives what it cost, and leaves what it printed in `self.output`."""
        os.sync()
        self.output = self.home / "stdout"
        before = self.place.counters()
        argument = json.dumps([list(map(str, command)) if not shell else command, shell, str(self.output)])
        run = subprocess.run([sys.executable, "-c", HELPER, argument], env=self.env, cwd=cwd or self.home, capture_output=True, text=True)
        if run.returncode:
            raise Failed(run.stderr)
        code, wall, cpu, peak, err = json.loads(run.stdout)
        if code:
            raise Failed(f"{self.name}: {command} ended with {code}:\n{err}")
        return {"wall": wall, "cpu": cpu, "peak": peak, **{k: v - before[k] for k, v in self.place.counters().items()}}

    def quietly(self, *command, **options):
        return subprocess.run(list(map(str, command)), env=self.env, check=True, capture_output=True, text=True, **options).stdout

    def anew(self, source):
        """An empty home and an empty store, ready for the first backup of `source`."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.place.anew()
        self.source = source
        self.prepare()


class Backstay(Tool):
    program = str(HERE / "target/release/backstay")

    def prepare(self):
        self.project = self.home / "project"
        self.project.mkdir()
        bucket = isinstance(self.place, Bucket)
        store = f"s3://{self.place.name}/vault" if bucket else self.place.path
        if bucket:      # init takes no endpoint: a folder first, then the bucket in its place
            store = self.home / "unused"
        self.quietly(self.program, "init", "--yes", self.project, "--store", store)
        config = self.project / "backstay.toml"
        kind = "path" if self.source.is_dir() else "sqlite"
        text = config.read_text() + f'\n[[component]]\nname = "data"\n{kind} = "{self.source}"\n'
        if bucket:
            text, changed = re.subn(rf'^path = "{re.escape(str(store))}".*$', f'url = "s3://{self.place.name}/vault"\nendpoint = "{self.place.endpoint}"', text, flags=re.M)
            assert changed == 1, f"one store was expected in\n{text}"
            shutil.rmtree(self.home / ".local", ignore_errors=True)
        config.write_text(text)
        if bucket:
            self.quietly(self.program, "init", "--yes", self.project)

    def bring_to(self, bucket):
        """Goes on with a bucket, into which all that is in the folder is brought by `sync`."""
        bucket.anew()
        self.env.update(bucket.environment)
        config = self.project / "backstay.toml"
        text = config.read_text()
        second = f'\n[[store]]\nname = "bucket"\nurl = "s3://{bucket.name}/vault"\nendpoint = "{bucket.endpoint}"\n'
        config.write_text(text + second)
        self.quietly(self.program, "init", "--yes", self.project)
        self.quietly(self.program, "-q", "sync", cwd=self.project)
        text, changed = re.subn(r'^\[\[store\]\]\nname = "\w+"\npath = "[^"]*".*\n', "", text, flags=re.M)
        assert changed == 1, f"one store was expected in\n{text}"
        config.write_text(text + second)
        self.place.remove()
        self.place = bucket

    def backup(self):
        return self.do([self.program, "-q", "backup"], self.project)

    def restore(self, to):
        figures = self.do([self.program, "-q", "restore", "latest", "--to", to], self.project)
        return figures, to / "data" if self.source.is_dir() else to / "data" / self.source.name

    def one(self, path):
        return self.do([self.program, "cat", "latest", f"data/{path}"], self.project)

    def list(self):
        return self.do([self.program, "list"], self.project)

    def check(self):
        try:
            self.quietly(self.program, "verify", "--help", cwd=self.project)
        except subprocess.CalledProcessError as e:
            raise Failed("this backstay has no verify") from e
        return self.do([self.program, "verify", "--read-data"], self.project)


class Pipeline(Tool):
    """tar | zstd -3 | age | rclone rcat, as tools of that shape do it: each time everything; no checksum, no read-back, no fsync."""
    programs = ("tar", "zstd", "age", "age-keygen")

    @classmethod
    def lacking(cls):
        return super().lacking() + ([] if os.environ.get("BACKSTAY_RCLONE") or shutil.which("rclone") else ["rclone"])

    def prepare(self):
        self.count = 0
        if isinstance(self.place, Folder):
            self.place.path.mkdir()
        self.rclone = os.environ.get("BACKSTAY_RCLONE") or "rclone"
        self.quietly("age-keygen", "-o", self.home / "key")
        self.recipient = self.quietly("age-keygen", "-y", self.home / "key").strip()

    def backup(self):
        self.count += 1
        self.last = f"{self.count}.tar.zst.age"
        to = f"> {self.place.path}/{self.last}" if isinstance(self.place, Folder) else f"| {self.rclone} rcat w:{self.place.name}/{self.last}"
        return self.do(f"set -o pipefail; tar --format=posix -C {self.source.parent} -c {self.source.name} | zstd -q -T0 -3 | age -r {self.recipient} {to}", shell=True)

    def _read(self):
        if isinstance(self.place, Folder):
            return f"set -o pipefail; age -d -i {self.home}/key {self.place.path}/{self.last} | zstd -q -d"
        return f"set -o pipefail; {self.rclone} cat w:{self.place.name}/{self.last} | age -d -i {self.home}/key | zstd -q -d"

    def restore(self, to):
        to.mkdir()
        return self.do(f"{self._read()} | tar -x -C {to}", shell=True), to / self.source.name

    def one(self, path):
        name = f"{self.source.name}/{path}" if self.source.is_dir() else path
        return self.do(f"{self._read()} | tar -xO {name}", shell=True)

    def list(self):
        if isinstance(self.place, Folder):
            return self.do(["ls", "-l", self.place.path])
        return self.do([self.rclone, "lsl", f"w:{self.place.name}"])

    def check(self):
        return self.do(f"{self._read()} | tar -t > {self.home}/names", shell=True)


class Restic(Tool):
    programs = ("restic",)

    def prepare(self):
        store = self.place.path if isinstance(self.place, Folder) else f"s3:{self.place.endpoint}/{self.place.name}/vault"
        self.command = ["restic", "-q", "-r", store]
        self.quietly(*self.command, "init", "--repository-version", "2")

    def backup(self):
        return self.do([*self.command, "backup", self.source])

    def restore(self, to):
        return self.do([*self.command, "restore", "latest", "--target", to]), pathlib.Path(f"{to}{self.source}")

    def one(self, path):
        return self.do([*self.command, "dump", "latest", self.source / path if self.source.is_dir() else self.source])

    def list(self):
        return self.do([*self.command, "snapshots"])

    def check(self):
        return self.do([*self.command, "check", "--read-data"])


class Rustic(Tool):
    programs = ("rustic",)

    def prepare(self):
        self.command = ["rustic", "-r", self.place.path] if isinstance(self.place, Folder) else ["rustic", "-P", self._profile()]
        self.quietly(*self.command, "init")

    def _profile(self):
        """Its store in a bucket comes from a file, which keeps keys out of arguments."""
        options = {"bucket": self.place.name, "root": "/vault", "endpoint": self.place.endpoint, "region": "us-east-1", "access_key_id": servers.ACCESS, "secret_access_key": servers.SECRET}
        text = '[repository]\nrepository = "opendal:s3"\n\n[repository.options]\n' + "".join(f'{k} = "{v}"\n' for k, v in options.items())
        (self.home / "bench.toml").write_text(text)
        return str(self.home / "bench")

    def backup(self):
        return self.do([*self.command, "backup", self.source])

    def restore(self, to):
        to.mkdir()
        return self.do([*self.command, "restore", f"latest:{self.source}", to]), to if self.source.is_dir() else to / self.source.name

    def one(self, path):
        return self.do([*self.command, "dump", f"latest:{self.source / path if self.source.is_dir() else self.source}"])

    def list(self):
        return self.do([*self.command, "snapshots"])

    def check(self):
        return self.do([*self.command, "check", "--read-data"])


class Borg(Tool):
    programs, local = ("borg",), True

    def prepare(self):
        self.count = 0
        self.env["BORG_BASE_DIR"] = str(self.home)
        self.quietly("borg", "init", "-e", "repokey-blake2", self.place.path)

    def backup(self):
        self.count += 1
        self.last = f"{self.place.path}::a{self.count}"
        return self.do(["borg", "create", self.last, self.source])

    def restore(self, to):
        to.mkdir()
        return self.do(["borg", "extract", self.last], to), pathlib.Path(f"{to}{self.source}")

    def one(self, path):
        return self.do(["borg", "extract", "--stdout", self.last, str(self.source / path if self.source.is_dir() else self.source).lstrip("/")])

    def list(self):
        return self.do(["borg", "list", self.place.path])

    def check(self):
        return self.do(["borg", "check", "--verify-data", self.place.path])


class Bupstash(Tool):
    programs, local = ("bupstash",), True

    def prepare(self):
        self.env |= {"BUPSTASH_REPOSITORY": str(self.place.path), "BUPSTASH_KEY": str(self.home / "key")}
        self.quietly("bupstash", "init")
        self.quietly("bupstash", "new-key", "-o", self.home / "key")

    def backup(self):
        figures = self.do(["bupstash", "put", "-q", self.source])
        self.last = self.output.read_text().strip()
        return figures

    def restore(self, to):
        to.mkdir()
        if self.source.is_dir():
            return self.do(["bupstash", "restore", "-q", "--into", to, f"id={self.last}"]), to
        return self.do(f"bupstash get -q id={self.last} > {to / self.source.name}", shell=True), to / self.source.name

    def one(self, path):
        return self.do(["bupstash", "get", "-q", *(["--pick", path] if self.source.is_dir() else []), f"id={self.last}"])

    def list(self):
        return self.do(["bupstash", "list", "-q"])

    def check(self):
        return self.do(f"bupstash get -q id={self.last} > /dev/null", shell=True)


# How each is asked for its version.
VERSIONS = {"restic": "version", "rustic": "--version", "borg": "--version", "bupstash": "--version", "tar": "--version", "zstd": "--version", "age": "--version", "rclone": "version", "weed": "version"}


def versions():
    """The other programs that are here, each with its version."""
    found = []
    for name, ask in VERSIONS.items():
        with contextlib.suppress(servers.NotInstalled, OSError):
            said = subprocess.run([servers.program(f"BACKSTAY_{name.upper()}", name), ask], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.strip()
            number = re.search(r"\d+(\.\d+)+[\w.+-]*", said)
            found.append(f"{name} {number[0] if number else said or 'of unknown version'}")
    return found


ALL = (Backstay, Pipeline, Restic, Rustic, Borg, Bupstash)


def installed(work, server, only=None):
    """A tool of each kind that is here; the others are said."""
    made = []
    for kind in ALL:
        name = kind.__name__.lower()
        if only and name not in only:
            continue
        lacking = kind.lacking()
        if lacking:
            said = f"NOT RUN: {name} ({', '.join(lacking)} not installed)"
            print(said, file=sys.stderr)
            if listed := os.environ.get("BACKSTAY_NOT_RUN_FILE"):
                with open(listed, "a") as file:
                    print(said, file=file)
        else:
            made.append(kind(work / name, server))
    return made
