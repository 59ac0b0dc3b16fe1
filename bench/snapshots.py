#!/usr/bin/env python3
"""What very many snapshots cost: `list`, the plan of a prune, `find`, `status`, on a vault in a local folder.

  bench/snapshots.py [--count 10000] [--program target/release/backstay] [--work DIR]

The vault is made by a test of the project (it signs the records itself: ten thousand backups would take hours), so build that first, or let this do it:
`cargo test --all-features --test it snapshots::a_vault_to_measure_with -- --ignored`. Each command is run four times: cold here means that nothing is remembered of
the indexes yet. The bounds are those of issue 5: list at most 2 s, a plan at most 5 s.
"""
import argparse, os, pathlib, resource, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent.parent
BOUNDS = {"list": 2.0, "prune --dry-run": 5.0}


def make(work, count):
    environment = {**os.environ, "BACKSTAY_VAULT": str(work), "BACKSTAY_SNAPSHOTS": str(count)}
    command = ["cargo", "test", "-q", "--all-features", "--test", "it", "snapshots::a_vault_to_measure_with", "--", "--ignored"]
    subprocess.run(command, cwd=HERE, env=environment, check=True, stdout=subprocess.DEVNULL)


def timed(program, work, words):
    command = [program, "-C", work / "app", *words]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"HOME": str(work / "home"), "PATH": "/usr/bin:/bin"})
    wall = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        sys.exit(f"{words}: exit {ran.returncode}: {ran.stderr.decode()[-800:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1000, ran.stdout.count(b"\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--program", type=pathlib.Path, default=HERE / "target/release/backstay")
    parser.add_argument("--work", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        work = pathlib.Path(work) / "vault"
        work.mkdir()
        make(work, args.count)
        print(f"{args.count} snapshots in a folder\n\n| command | first s | best of three after s | CPU s | peak MB so far | lines |\n|---|---|---|---|---|---|")
        broken = []
        for words in (["list"], ["list", "--json"], ["prune", "--dry-run"], ["find", "a"], ["status"]):
            first = timed(args.program, work, words)
            best = min(timed(args.program, work, words) for _ in range(3))
            name = " ".join(words)
            print(f"| {name} | {first[0]:.2f} | {best[0]:.2f} | {best[1]:.2f} | {best[2]:.0f} | {best[3]} |", flush=True)
            bound = BOUNDS.get(name)
            if bound and best[0] > bound:
                broken.append(f"{name}: {best[0]:.2f} s, at most {bound} are promised")
    print("\n".join(broken))
    sys.exit(1 if broken else 0)


main()
