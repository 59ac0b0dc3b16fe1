#!/usr/bin/env python3
"""What deploy/release.sh makes of a program that is there: the same bytes twice, all that is promised in it, and a signature that fits that alone.

  check_release.py PROGRAM
"""
import gzip, os, pathlib, re, shutil, subprocess, sys, tarfile, tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
VERSION = re.search(r'^version = "(.+)"', (TOP / "Cargo.toml").read_text(), re.M)[1]
failed = []


def must(what, holds):
    if not holds:
        failed.append(what)


def run(*command, **more):
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)


def not_run(what):
    print(f"NOT RUN: {what}")
    if path := os.environ.get("BACKSTAY_NOT_RUN_FILE"):
        with open(path, "a") as out:
            out.write(f"NOT RUN: {what}\n")


def release(program, to, key):
    env = {**os.environ, "PROGRAM": str(program), "SOURCE_DATE_EPOCH": "1790000000"}
    made = run(TOP / "deploy/release.sh", "--to", to, "--key", key, env=env)
    must(f"release.sh ends well: {made.stdout}", made.returncode == 0)
    return {path.name: path.read_bytes() for path in to.iterdir()}, made.stdout


def signatures(work, to, key):
    public = (work / "key.pub").read_text()
    (work / "allowed").write_text(f"release namespaces=\"backstay-release\" {public}")
    verify = lambda: subprocess.run(["ssh-keygen", "-q", "-Y", "verify", "-f", str(work / "allowed"), "-I", "release", "-n", "backstay-release", "-s", str(to / "SHA256SUMS.sig")],
                                    stdin=open(to / "SHA256SUMS"), capture_output=True).returncode == 0
    must("the signature fits", verify())
    must("the sums fit", run("sha256sum", "-c", "--strict", "SHA256SUMS", cwd=to).returncode == 0)
    must("everything is in the sums", {line.split()[1] for line in (to / "SHA256SUMS").read_text().splitlines()} == {p.name for p in to.iterdir()} - {"SHA256SUMS", "SHA256SUMS.sig"})
    text = (to / "SHA256SUMS").read_text()
    (to / "SHA256SUMS").write_text(text.replace("a", "b", 1))
    must("no other sums have that signature", not verify())
    (to / "SHA256SUMS").write_text(text)


def debian(work, to, said):
    package = next(to.glob("*.deb"), None)
    if not package:
        return not_run("the .deb (dpkg-deb is not installed)")
    root = work / "root"
    must("the .deb unpacks", run("dpkg-deb", "-x", package, root).returncode == 0)
    told = run(root / "usr/bin/backstay", "--version").stdout
    must(f"the program in it runs: {told}", told.startswith(f"backstay {VERSION}\ncommit "))
    control = run("dpkg-deb", "-f", package).stdout
    glibc = re.search(r"needs glibc ([\d.]+)", said)
    must("it names the glibc that it needs", not glibc or f"Depends: libc6 (>= {glibc[1]})" in control)
    must("it has the version", f"\nVersion: {VERSION}\n" in control)
    for unit in (TOP / "deploy/systemd").iterdir():
        there = root / "usr/lib/systemd/system" / unit.name
        must(f"{unit.name} is in it, with its program", there.exists() and "/usr/local/" not in there.read_text())
    pages = {path.name for path in (root / "usr/share/man/man1").iterdir()}
    must("a page for the program and for each command", {"backstay.1.gz", "backstay-backup.1.gz", "backstay-agent.1.gz"} <= pages)
    must("pages are pages", gzip.decompress((root / "usr/share/man/man1/backstay.1.gz").read_bytes()).lstrip().startswith(b".ie"))
    for place in ("bash-completion/completions/backstay", "zsh/vendor-completions/_backstay", "fish/vendor_completions.d/backstay.fish", "doc/backstay/copyright", "doc/backstay/docs/agent.md"):
        must(f"{place} is in it", (root / "usr/share" / place).stat().st_size > 100)
    listed = run("dpkg-deb", "-c", package).stdout.splitlines()
    must("all is of root, and nobody else's to change", all(line.split()[1] == "root/root" and line[8] != "w" and line[5] != "w" for line in listed))
    must("it runs nothing when it is installed", run("dpkg-deb", "-I", package, "postinst").returncode != 0)


def main(program):
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "release", "-f", str(work / "key")], check=True)
        first, said = release(program, work / "one", work / "key")
        second, _ = release(program, work / "two", work / "key")
        must(f"the same bytes twice: {[n for n in first if first[n] != second.get(n)]}", first == second)
        again = run(TOP / "deploy/release.sh", "--to", work / "one", env={**os.environ, "PROGRAM": str(program)})
        must("a release is not made over another", again.returncode == 1)
        signatures(work, work / "one", work / "key")
        with tarfile.open(next((work / "one").glob("*linux*.tar.gz"))) as tar:
            names = set(tar.getnames())
        must("the archive has program, licences, docs, units", {f"backstay-{VERSION}/{n}" for n in (
            "backstay", "LICENSE-MIT", "docs/recovery.md", "systemd/backstay@.service", "man/backstay.1", "completions/backstay.zsh")} <= names)
        debian(work, work / "one", said)
    for what in failed:
        print("does not hold:", what)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()) if len(sys.argv) == 2 else __doc__)
