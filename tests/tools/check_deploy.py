#!/usr/bin/env python3
"""What must hold of deploy/, without a cluster, an account or a system to install on: run by ./test, each part by its name, or all.

  check_deploy.py [systemd]

What cannot be asked for on this machine is said as NOT RUN.
"""
import os, pathlib, re, shutil, subprocess, sys, tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOY = TOP / "deploy"
failed = []


def must(what, holds):
    if not holds:
        failed.append(what)


def not_run(what):
    print(f"NOT RUN: {what}")
    if path := os.environ.get("BACKSTAY_NOT_RUN_FILE"):
        with open(path, "a") as out:
            out.write(f"NOT RUN: {what}\n")


def ran(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, **more)


# ---------------------------------------------------------------- systemd

def units():
    return sorted([*DEPLOY.glob("systemd/*.service"), *DEPLOY.glob("systemd/*.timer"), DEPLOY / "rclone-drive.service"])


def with_programs(unit, scratch):
    """The unit with programs that are there: `verify` asks for them."""
    text = unit.read_text()
    for name in set(re.findall(r"/usr/local/bin/(\S+)", text)):
        (scratch / name).write_text("#!/bin/sh\n")
        (scratch / name).chmod(0o755)
    (scratch / unit.name).write_text(text.replace("/usr/local/bin/", f"{scratch}/"))
    return scratch / unit.name


def exposure(unit):
    said = ran("systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)).stdout
    return (re.findall(r"Overall exposure level for \S+: (\S+)", said) or ["none"])[-1]


def systemd():
    for name in ("backstay", "backstay@", "backstay-due", "backstay-due@"):
        text = (DEPLOY / f"systemd/{name}.service").read_text()
        state = "backstay/%i" if "@" in name else "backstay"
        must(f"{name}: writes to its state", f"\nStateDirectory={state}\nStateDirectoryMode=0700\n" in text)
        must(f"{name}: holds no secret and no environment", "Environment" not in text)
    plain = lambda name, i: re.sub(r" of (%i|backstay\.toml)|^#.*\n", "", (DEPLOY / "systemd" / name.format(i)).read_text(), flags=re.M).replace(
        "/etc/backstay/%i.toml", "/etc/backstay/backstay.toml").replace("backstay/%i", "backstay").replace("backup/%i", "backup")
    for name in ("backstay{}.service", "backstay-due{}.service", "backstay-due{}.timer"):
        must(f"{name.format('@')} differs from {name.format('')} in its project alone", plain(name, "") == plain(name, "@"))
    if not shutil.which("systemd-analyze"):
        return not_run("systemd-analyze verify and security (systemd is not installed here)")
    with tempfile.TemporaryDirectory() as scratch:
        files = [with_programs(unit, pathlib.Path(scratch)) for unit in units()]
        for unit in files:
            said = ran("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit))
            must(f"systemd-analyze verify {unit.name}: {said.stderr.strip()}", said.returncode == 0 and unit.stem not in said.stderr)
    version = re.match(r"systemd (\d+)", ran("systemd-analyze", "--version").stdout)[1]
    figures = dict(re.findall(r"^\| `?([\w@-]+\.service)`? \|.*\| ([\d.]+) \|$", (TOP / "docs/agent.md").read_text(), flags=re.M))
    services = [unit for unit in units() if unit.suffix == ".service"]
    must("docs/agent.md has the figure of every service", set(figures) == {unit.name for unit in services})
    if version != "252":
        return not_run(f"figures of systemd-analyze security (they are those of systemd 252, here is {version})")
    for unit in services:
        must(f"docs/agent.md: the figure of {unit.name} is {exposure(unit)}", figures.get(unit.name) == exposure(unit))


PARTS = {"systemd": systemd}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
    for what in failed:
        print("does not hold:", what)
    sys.exit(bool(failed))
