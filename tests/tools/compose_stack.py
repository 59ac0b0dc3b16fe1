#!/usr/bin/env python3
"""docs/compose.md, run: both ways to back up an application in containers, from an empty machine to an empty machine again.

  compose_stack.py PROGRAM        a backstay for this machine; the image gets it, too

Needs root, dockerd, docker and docker-compose (or docker's plug-in), debootstrap for an image with Python, and SeaweedFS (BACKSTAY_WEED or `weed`). The
engine is one of its own, in namespaces of its own (processes, network, mounts), with its data in a folder that is removed: whatever happens, nothing of it
goes on or stays. Exit code 77: something that it needs is not here, and it says what.
"""
import contextlib, hashlib, json, os, pathlib, re, shutil, subprocess, sys, tempfile, time, urllib.error, urllib.request

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
APP = "http://127.0.0.1:8080"


def run(*command, code=0, **more):
    """Runs a command that has to end with `code`; gives what it wrote."""
    print("  $", " ".join(map(str, command))[:150], flush=True)
    ran = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if ran.returncode != code:
        sys.exit(f"{ran.stdout}\nFAILED: {' '.join(map(str, command))}: exit code {ran.returncode}, not {code}")
    return ran.stdout


def must(what, holds):
    print(("ok    " if holds else "FAILED: ") + what, flush=True)
    if not holds:
        sys.exit(1)


def until(what, ready, seconds=90, pause=0.2):
    end = time.monotonic() + seconds
    while not (found := ready()):
        if time.monotonic() > end:
            sys.exit(f"FAILED: {what}: not within {seconds} s")
        time.sleep(pause)
    return found


# ---------------------------------------------------------------- outside: what is needed, and namespaces

def lacking():
    if os.geteuid():
        return "it is not run as root"
    if not (os.environ.get("BACKSTAY_WEED") or shutil.which("weed")):
        return "there is no SeaweedFS"
    for name in ("dockerd", "docker", "unshare", "ip", "iptables"):
        if not shutil.which(name):
            return f"{name} is not installed"
    if not compose():
        return "docker-compose is not installed"
    if not base().exists() and not shutil.which("debootstrap"):
        return "debootstrap is not installed"
    return None


def compose():
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    return ["docker", "compose"] if plugin else None


def base():
    """The image with a shell and Python, as nothing can be pulled where tests run: made once, kept with what else the tests install."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "backstay-tests/base.tar"


def make_base():
    if base().exists():
        return
    print("making an image with debootstrap (once)", flush=True)
    release = re.search(r"^VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text(), re.M)[1]
    base().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="backstay-base-") as scratch:
        run("debootstrap", "--variant=minbase", "--include=python3,ca-certificates,tzdata", release, f"{scratch}/tree")
        shutil.rmtree(f"{scratch}/tree/var/cache/apt", ignore_errors=True)
        run("tar", "-C", f"{scratch}/tree", "-cf", f"{scratch}/base.tar", ".")
        shutil.copyfile(f"{scratch}/base.tar", base().with_suffix(".new"))
        base().with_suffix(".new").rename(base())


def outside(program):
    why = lacking()
    if why:
        print(why)
        return 77
    make_base()
    work = pathlib.Path(tempfile.mkdtemp(prefix="backstay-stack-"))
    group = work.name
    try:
        inner = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, __file__, "--inside", str(work), str(program)]
        return subprocess.run(inner, stdin=subprocess.DEVNULL).returncode
    finally:
        for top, names, _ in os.walk("/sys/fs/cgroup", topdown=False):
            if f"/{group}" in top:
                with contextlib.suppress(OSError):
                    os.rmdir(top)
        shutil.rmtree(work, ignore_errors=True)
        must("nothing of it is left", not work.exists() and group not in pathlib.Path("/proc/mounts").read_text())


# ---------------------------------------------------------------- inside

def engine(work):
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("ip", "link", "set", "lo", "up")
    log = open(work / "engine.log", "wb")
    subprocess.Popen(["dockerd", "--data-root", str(work / "engine"), "--cgroup-parent", work.name], stdout=log, stderr=log)
    until("the engine", lambda: subprocess.run(["docker", "info"], capture_output=True).returncode == 0, 30)


def images(work, program):
    print("== images", flush=True)
    run("docker", "import", base(), "backstay-test-python")
    (work / "weed").mkdir()
    shutil.copy(os.environ.get("BACKSTAY_WEED") or shutil.which("weed"), work / "weed/weed")
    (work / "weed/Dockerfile").write_text("FROM scratch\nCOPY weed /weed\n")
    run("docker", "build", "-q", "-t", "backstay-test-weed", work / "weed")
    # The folder that an image of backstay is made from, with things in it that must not get there.
    place = work / "source"
    for name in ("Dockerfile", ".dockerignore", "Cargo.toml", "deploy/program.sh"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, place / name)
    for name in ("deploy/minio/secrets/root_user", ".git/HEAD", "target/x", ".env"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("secret")
    (place / "dist/program").mkdir(parents=True)
    shutil.copy(program, place / "dist/program/backstay")
    more = ["--build-arg", "BUILD_IMAGE=backstay-test-python"]
    run("docker", "build", "-q", "--target", "build", "-t", "backstay-test-build", *more, place)
    there = run("docker", "run", "--rm", "backstay-test-build", "find", "/src", "-type", "f").split()
    must("no keys and nothing of git get into the image", sorted(there) == [f"/src/{name}" for name in ("Cargo.toml", "deploy/program.sh", "dist/program/backstay")])
    run("docker", "build", "-q", "-t", "backstay:0.1.0", *more, place)
    about = json.loads(run("docker", "inspect", "backstay:0.1.0"))[0]
    print(f"  the image has {about['Size'] / 1e6:.0f} MB")
    must("it runs as a user without rights", about["Config"]["User"] == "65532:65532")
    must("it has a health check", about["Config"]["Healthcheck"]["Test"][:2] == ["CMD", "/usr/bin/backstay"])
    said = run("docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", "backstay:0.1.0", "--version")
    must("it says its version, on a read-only root", said.startswith("backstay 0.1.0\ncommit "))


def released(work, program):
    print("== the image of a release", flush=True)
    env = {**os.environ, "PROGRAM": str(program), "BUILD_IMAGE": "backstay-test-python", "DOCKER_BUILDKIT": "0"}
    run(TOP / "deploy/release.sh", "--to", work / "release", env=env)
    image, = (work / "release").glob("backstay-*-image-*.tar.gz")
    must(f"it is in the sums; it has {image.stat().st_size / 1e6:.0f} MB", image.name in (work / "release/SHA256SUMS").read_text())
    run("docker", "rmi", "-f", "backstay:0.1.0")
    run("docker", "load", "-i", image)
    must("it comes back out of its file", run("docker", "run", "--rm", "--network", "none", "backstay:0.1.0", "--version").startswith("backstay 0.1.0\n"))


def ask(path, body=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(APP + path, data=body), timeout=10) as answer:
            return json.load(answer)
    except OSError:
        return None


def page(token):
    """The agent's status page, through the published port."""
    def get(path, **headers):
        try:
            with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:9317{path}", headers=headers), timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, ""
    must("the status page is refused without the token", get("/")[0] == 401)
    # Until it has looked at the store it says that it does not know.
    known = lambda: "Protected" in get("/", Authorization=f"Bearer {token}")[1]
    must("with the token it says how things stand", until("the page", known, 60, pause=2))
    status, text = get("/metrics", Authorization=f"Bearer {token}")
    must("metrics come from there, too", status == 200 and 'backstay_last_run_exit_code{project="demo",task="backup"} 0' in text)
    must("it lives", get("/healthz") == (200, "ok\n") or get("/healthz")[1].startswith("ok"))


def write_notes(count, word):
    for n in range(count):
        must(f"note {word} {n} is written", ask("/notes", f"{word} {n}".encode() * 50)) if n == 0 else ask("/notes", f"{word} {n}".encode() * 50)


def volume_files(name):
    """What the files in a volume of this project are, by their SHA-256."""
    said = run("docker", "run", "--rm", "--network", "none", "-v", f"{name}:/v:ro", "backstay-test-python", "sh", "-c", "cd /v/data/files && sha256sum *")
    return sorted(said.splitlines())


def in_container(work):
    print("== the agent in a container", flush=True)
    place = work / "stack"
    place.mkdir()
    shutil.copy(TOP / "docker-compose.yml", place)
    shutil.copytree(TOP / "deploy", place / "deploy", ignore=shutil.ignore_patterns("secrets"))
    shutil.copytree(TOP / "tests/tools", place / "tests/tools", ignore=shutil.ignore_patterns("__pycache__"))
    env = {**os.environ, "PYTHON_IMAGE": "backstay-test-python", "BACKUP_SCHEDULE": "* * * * *", "COMPOSE_PROJECT_NAME": "stack", "DOCKER_BUILDKIT": "0"}
    do = lambda *words, **more: run(*compose(), "-f", "docker-compose.yml", "-f", "deploy/compose-test.yml", *words, cwd=place, env=env, **more)
    agent = lambda *words, **more: do("exec", "-T", "agent", "/usr/bin/backstay", *words, **more)
    run("sh", "deploy/minio/secrets.sh", cwd=place)
    do("--profile", "demo", "build", "app", "prepare")
    do("--profile", "demo", "up", "-d", "app")
    must("the application answers", until("the application", lambda: ask("/health")))
    write_notes(60, "first")
    must("before the first backup the health check says so", "CRITICAL" in do("--profile", "demo", "run", "--rm", "-T", "agent", "status", "--check", code=18))
    do("--profile", "demo", "up", "-d")
    until("the agent's own backup", lambda: json.loads(agent("--json", "list"))["snapshots"], 130, pause=5)
    must("the agent has made a backup at its time", True)
    write_notes(60, "second")
    agent("backup", "--note", "with all notes")
    must("the health check is well", "BACKSTAY OK" in agent("--quiet", "status", "--check"))
    must("metrics are written", 'backstay_last_run_exit_code{project="demo",task="backup"} 0' in do("exec", "-T", "app", "true") + run(
        "docker", "run", "--rm", "-v", "stack_backstay-state:/s:ro", "backstay-test-python", "cat", "/s/demo.prom"))
    page(run("docker", "run", "--rm", "-v", "stack_backstay-config:/c:ro", "backstay-test-python", "cat", "/c/page-token"))
    notes, files = ask("/notes"), volume_files("stack_app-data")
    must("there are 120 notes, each with its file", len(notes) == len(files) == 120)
    about = json.loads(run("docker", "inspect", "stack_agent_1"))[0]
    must("the agent cannot write to the data, nor to its configuration", {m["Destination"]: m["RW"] for m in about["Mounts"]} == {
        "/srv/demo": False, "/etc/backstay": False, "/var/lib/backstay": True})
    agent("kit", "-o", "/var/lib/backstay/kit.txt")
    run("docker", "cp", "stack_agent_1:/var/lib/backstay/kit.txt", work / "kit.txt")
    agent("kit", "verify", "/var/lib/backstay/kit.txt")
    begun = time.monotonic()
    run("docker", "stop", "-t", "30", "stack_agent_1")
    took = time.monotonic() - begun
    ended = json.loads(run("docker", "inspect", "stack_agent_1"))[0]["State"]["ExitCode"]
    must(f"as process 1 it ends on SIGTERM: exit code {ended} after {took:.1f} s", ended == 0 and took < 10)

    do("--profile", "demo", "rm", "-sfv", "app", "agent", "prepare")
    run("docker", "volume", "rm", "stack_app-data", "stack_backstay-config", "stack_backstay-state")
    must("only the store is left", run("docker", "volume", "ls", "-q").split() == ["stack_minio"])
    env["KIT"] = str(work / "kit.txt")
    do("--profile", "recover", "run", "--rm", "recover")
    do("--profile", "demo", "up", "-d")
    until("the application", lambda: ask("/health"))
    must("every note is back", ask("/notes") == notes)
    must("every file is back", volume_files("stack_app-data") == files)
    agent("backup")
    found = json.loads(agent("--json", "list"))["snapshots"]
    must(f"the history goes on: {len(found)} snapshots", len(found) >= 3)
    env["BACKSTAY"] = str(work / "source/dist/program/backstay")
    do("--profile", "test", "run", "--rm", "try")
    must("the profile `test` ends well", True)
    said = run(sys.executable, "tests/tools/check_policies.py", cwd=place, env={**env, "S3_ENDPOINT": "http://127.0.0.1:9000"})
    must(f"the users of the store may do what they should: {said.count('ok  ')} lines", said.count("ok  ") == 39)
    do("--profile", "demo", "--profile", "test", "--profile", "recover", "down", "-v", "--remove-orphans")


def on_the_host(work, program):
    print("== the agent on the host", flush=True)
    home, place, store = work / "home", work / "demo", work / "disk/demo"
    for folder in (home, place, place / "data", store.parent):
        folder.mkdir()
    os.chown(place / "data", 65532, 65532)
    shutil.copy(TOP / "deploy/demo/host/docker-compose.yml", place)
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TZ": "UTC"}
    do = lambda *words, **more: run(*compose(), *words, cwd=place, **more)
    backstay = lambda *words, **more: run(program, *words, cwd=place, env=env, **more)
    do("up", "-d")
    until("the application", lambda: ask("/health"))
    write_notes(40, "host")
    print(backstay("init", "--yes", "--store", store))
    with open(place / "backstay.toml", "a") as out:
        out.write((TOP / "deploy/demo/host/service.toml").read_text())
    print(backstay("backup"))
    notes = ask("/notes")
    must("there are 40 notes", len(notes) == 40)
    before = run("docker", "inspect", "--format", "{{.State.StartedAt}}", "demo_app_1")
    write_notes(20, "a change that went wrong")
    print(backstay("rollback", "latest", "--yes"))
    must("after the rollback the notes are those of the snapshot", ask("/notes") == notes)
    must("the container was stopped and started", before != run("docker", "inspect", "--format", "{{.State.StartedAt}}", "demo_app_1"))
    backstay("backup")
    backstay("kit", "-o", work / "host-kit.txt")
    do("down", "-v")
    for folder in (place, home):
        shutil.rmtree(folder)
    home.mkdir()
    print(run(program, "recover", work / "host-kit.txt", "--to", place, "--yes", cwd=work, env=env))
    do("up", "-d")
    until("the application", lambda: ask("/health"))
    must("every note is back", ask("/notes") == notes)
    must("every file is back", all(hashlib.sha256((place / f"data/files/{n['id']}.txt").read_bytes()).hexdigest() == n["sha256"] for n in notes))
    backstay("backup")
    do("down", "-v")


def inside(work, program):
    engine(work)
    images(work, program)
    released(work, program)
    in_container(work)
    on_the_host(work, program)
    for what in (["ps", "-aq"], ["volume", "ls", "-q"], ["network", "ls", "-q", "--filter", "type=custom"]):
        must(f"docker {' '.join(what)}: nothing", not run("docker", *what).split())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
    elif len(sys.argv) == 2:
        sys.exit(outside(pathlib.Path(sys.argv[1]).resolve()))
    else:
        sys.exit(__doc__)
