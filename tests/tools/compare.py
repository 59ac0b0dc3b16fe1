#!/usr/bin/env python3
"""Compares two trees exactly; or recovers a snapshot with recover.py and compares what came out.

    compare.py EXPECTED FOUND
    compare.py --vault DIR --identity FILE --trust KEY --expect DIR --snapshot ID [--only COMPONENT]... [--code N]

Compared: names, types, content, modes, owners by number, modification times to the nanosecond, extended
attributes, symbolic links' targets, device numbers, which names are one inode, and that holes stay holes.
Access and change times are not. A folder at the top whose time is 0 in EXPECTED (or named by --bare) is
compared by its content only: a component that is one file has no folder of its own.
Exit code: 0 equal, 1 different (each difference is a line).
"""

import argparse
import os
import stat
import subprocess
import sys
import tempfile

RECOVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src", "recover", "recover.py")
CHUNK = 1 << 20


def walk(top):
    """relative path -> lstat result, the top itself left out"""
    out, todo = {}, [b""]
    top = os.fsencode(top)
    while todo:
        folder = todo.pop()
        for name in os.listdir(os.path.join(top, folder)):
            path = os.path.join(folder, name)
            out[path] = os.lstat(os.path.join(top, path))
            if stat.S_ISDIR(out[path].st_mode):
                todo.append(path)
    return out


def xattrs(path):
    try:
        return {k: os.getxattr(path, k, follow_symlinks=False) for k in os.listxattr(path, follow_symlinks=False)
                if not k.startswith("security.selinux")}
    except (OSError, AttributeError):
        return {}


def data_ranges(f, size):
    at = 0
    while at < size:
        try:
            start = os.lseek(f.fileno(), at, os.SEEK_DATA)
        except OSError:
            return
        at = min(os.lseek(f.fileno(), start, os.SEEK_HOLE), size)
        yield start, at


def same_content(a, b, size):
    """Equal bytes; a hole is as good as zeros, and two holes are not read."""
    with open(a, "rb", buffering=0) as f, open(b, "rb", buffering=0) as g:
        for start, end in list(data_ranges(f, size)) + list(data_ranges(g, size)):
            while start < end:
                x, y = os.pread(f.fileno(), CHUNK, start), os.pread(g.fileno(), CHUNK, start)
                if x != y:
                    return False
                start += CHUNK
    return True


def link_groups(top, found):
    """Sets of names that are one inode."""
    groups = {}
    for path, st in found.items():
        if not stat.S_ISDIR(st.st_mode):
            groups.setdefault((st.st_dev, st.st_ino), set()).add(path)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def compare(expected, found, bare=(), owners=True):
    """All differences between two trees, as lines."""
    want, have = walk(expected), walk(found)
    out = ["missing: %r" % p for p in sorted(want.keys() - have.keys())]
    out += ["too much: %r" % p for p in sorted(have.keys() - want.keys())]
    for path in sorted(want.keys() & have.keys()):
        a, b = want[path], have[path]
        x, y = os.path.join(os.fsencode(expected), path), os.path.join(os.fsencode(found), path)
        if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
            out.append("type: %r" % path)
            continue
        if b"/" not in path and (os.fsdecode(path) in bare or a.st_mtime_ns == 0):
            continue
        if a.st_mode != b.st_mode and not stat.S_ISLNK(a.st_mode):
            out.append("mode: %r: %o, not %o" % (path, stat.S_IMODE(b.st_mode), stat.S_IMODE(a.st_mode)))
        if owners and (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid):
            out.append("owner: %r: %d:%d, not %d:%d" % (path, b.st_uid, b.st_gid, a.st_uid, a.st_gid))
        if a.st_mtime_ns != b.st_mtime_ns:
            out.append("time: %r: %d, not %d" % (path, b.st_mtime_ns, a.st_mtime_ns))
        if xattrs(x) != xattrs(y):
            out.append("xattrs: %r: %r, not %r" % (path, xattrs(y), xattrs(x)))
        if stat.S_ISLNK(a.st_mode) and os.readlink(x) != os.readlink(y):
            out.append("target: %r" % path)
        if stat.S_ISCHR(a.st_mode) or stat.S_ISBLK(a.st_mode):
            if a.st_rdev != b.st_rdev:
                out.append("device: %r" % path)
        if stat.S_ISREG(a.st_mode):
            if a.st_size != b.st_size:
                out.append("size: %r: %d, not %d" % (path, b.st_size, a.st_size))
            elif not same_content(x, y, a.st_size):
                out.append("content: %r" % path)
            elif b.st_blocks > a.st_blocks * 1.1 + 128:
                out.append("holes are filled: %r: %d blocks, not %d" % (path, b.st_blocks, a.st_blocks))
    for group in link_groups(expected, want) ^ link_groups(found, have):
        out.append("hard links differ: %r" % sorted(group))
    return out


def recover(arguments, **options):
    """Runs recover.py; returns the finished process with its text."""
    return subprocess.run([sys.executable, RECOVER] + arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, errors="replace", **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", metavar="TREE")
    parser.add_argument("--vault")
    parser.add_argument("--identity", action="append", default=[])
    parser.add_argument("--trust", action="append", default=[])
    parser.add_argument("--expect")
    parser.add_argument("--snapshot", default="latest")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--bare", action="append", default=[])
    parser.add_argument("--code", type=int, default=0, help="the exit code that recover.py must give")
    parser.add_argument("--numeric-owner", action="store_true")
    parser.add_argument("--no-owners", action="store_true", help="do not compare owners")
    o = parser.parse_args()
    owners = not o.no_owners
    if len(o.trees) == 2 and not o.vault:
        lines = compare(o.trees[0], o.trees[1], o.bare, owners)
    elif o.vault and o.expect and not o.trees:
        with tempfile.TemporaryDirectory(prefix="compare-") as work:
            to = os.path.join(work, "restored")
            words = [o.vault, "restore", o.snapshot, "--to", to]
            for option, values in (("-i", o.identity), ("--trust", o.trust), ("--only", o.only)):
                words += [word for value in values for word in (option, value)]
            done = recover(words + ["--numeric-owner"] * o.numeric_owner)
            lines = []
            if done.returncode != o.code:
                lines.append("recover.py: exit code %d, not %d:\n%s" % (done.returncode, o.code, done.stderr))
            if os.path.isdir(to):
                lines += compare(o.expect, to, o.bare, owners)
            else:
                lines.append("nothing was restored")
            subprocess.run(["chmod", "-R", "u+rwX", work], check=False, stderr=subprocess.DEVNULL)
    else:
        parser.error("give two trees, or --vault and --expect")
    print("\n".join(lines) if lines else "equal")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
