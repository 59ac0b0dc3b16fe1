#!/usr/bin/env python3
"""backstay's own share of the downtime of a rollback: tree A with a service, one per cent of its files changed, rolled back.

    python3 bench/downtime.py target/release/backstay [--scale 10] [--rounds 5]

Prints for each round how long the service was down, and how much of that was finding and taking the steps (`exchange_ms` of the report). With scale 1
the tree has 39,553 files; the goal is 500 ms.
"""
import argparse, json, os, pathlib, shutil, statistics, subprocess, sys, tempfile
sys.path.insert(0, str(pathlib.Path(__file__).parent))
from data import Tree

CONFIG = """
[[component]]
name = "app"
path = "app"
leave = [".env"]
[[component]]
name = "settings"
paths = ["conf/a", "more/b", "compose.yml"]
[[service]]
name = "web"
pid_file = "web.pid"
stop = 'kill "$(cat web.pid)"'
start = 'sleep 100000 >/dev/null 2>&1 & echo $! > web.pid'
health = { command = 'grep -q "(sleep) S" "/proc/$(cat web.pid)/stat"', passes = 1 }
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    program = os.path.abspath(args.program)
    with tempfile.TemporaryDirectory(prefix="backstay-downtime-") as top:
        project, env = pathlib.Path(top, "project"), dict(os.environ, HOME=top)
        project.mkdir()
        run = lambda *words: subprocess.run([program, *words], cwd=project, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout
        tree = Tree(project / "app", args.scale)
        tree.make()
        for path in ("app/.env", "conf/a", "more/b", "compose.yml"):
            (project / path).parent.mkdir(exist_ok=True)
            (project / path).write_text("then")
        run("init", "--yes")
        config = project / "backstay.toml"
        text = config.read_text()
        head, _, rest = text.partition("[[component]]")
        rest = rest[rest.index("[[store]]"):] if "[[store]]" in rest else ""
        config.write_text(head + CONFIG + rest)
        subprocess.run(["sh", "-c", "sleep 100000 >/dev/null 2>&1 & echo $! > web.pid"], cwd=project, check=True)
        try:
            shares = []
            for number in range(args.rounds):
                snapshot = json.loads(run("backup", "--json"))["snapshot"]
                tree.change()
                report = json.loads(run("rollback", snapshot, "--json"))
                for kept in project.glob("**/.backstay-rollback-*"):
                    shutil.rmtree(kept)  # no files of the tree
                shares.append(report["exchange_ms"])
                print(f"round {number + 1}: down for {report['downtime_ms']} ms, {report['exchange_ms']} ms of it the exchange of {tree.files:,} files", flush=True)
            print(f"median share: {statistics.median(shares)} ms")
        finally:
            subprocess.run(["sh", "-c", 'kill "$(cat web.pid)"'], cwd=project)
    return 0 if statistics.median(shares) <= 500 else 1


sys.exit(main())
