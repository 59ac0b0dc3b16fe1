#!/usr/bin/env python3
"""How long a walk takes: `backup --dry-run` of tree A and of 300,000 small files, with two programs one after the other, for instance before and after a change.

  bench/scan.py AFTER BEFORE [--scale 10] [--rounds 7]

Medians of wall and CPU seconds, and the highest peak of memory. What is read was read before: it lies in memory.
"""
import argparse, pathlib, statistics, tempfile
import data, tools


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", type=lambda p: str(pathlib.Path(p).resolve()))
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    tools.Backstay.program = args.programs[0]
    with tempfile.TemporaryDirectory(prefix="backstay-bench-") as work:
        work = pathlib.Path(work)
        data.Tree(work / "A", args.scale).make()
        data.many_files(work / "many", 300_000 // args.scale)
        print("| data | program | wall s | CPU s | peak MB | wall, first/this |\n|---|---|---|---|---|---|")
        for name in ("A", "many"):
            tool = tools.Backstay(work / f"home-{name}", None)
            tool.anew(work / name)
            found = {program: [] for program in args.programs}
            for _ in range(args.rounds):
                for program in args.programs:
                    found[program].append(tool.do([program, "-q", "backup", "--dry-run"], tool.project))
            median = {p: statistics.median(f["wall"] for f in of) for p, of in found.items()}
            for program, of in found.items():
                cpu, peak = statistics.median(f["cpu"] for f in of), max(f["peak"] for f in of)
                print(f"| {name} | {program} | {median[program]:.3f} | {cpu:.3f} | {peak:.0f} | {median[args.programs[0]] / median[program]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
