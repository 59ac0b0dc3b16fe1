#!/usr/bin/env python3
"""A small writer of vaults of format 1, made from docs/format.md alone: the second opinion.

It shares no code with backstay or recover.py. For tests only: everything is held in memory, nothing is
fsynced, and no store is ever extended by two programs at once. Standard library and the programs age,
age-keygen, zstd and ssh-keygen.

    python3 mini_vault.py OUT_DIR      makes OUT_DIR/store, OUT_DIR/expected, keys and OUT_DIR/vault.json
"""

import base64
import hashlib
import hmac
import json
import os
import random
import shutil
import socket
import stat
import struct
import subprocess
import sys

MIB = 1 << 20
MAP_RANGE = 256 * MIB
FRAME = 4 * MIB
BLOCK = 4096
BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


# ---------------------------------------------------------------- BLAKE3 (the hash mode only)

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
           (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
MASK = 0xFFFFFFFF


def _compress(cv, words, counter, length, flags):
    v = list(cv) + list(IV[:4]) + [counter & MASK, counter >> 32, length, flags]
    for n in range(7):
        for i, (a, b, c, d) in enumerate(COLUMNS):
            for word, r1, r2 in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & MASK
                x = v[d] ^ v[a]
                v[d] = (x >> r1 | x << (32 - r1)) & MASK
                v[c] = (v[c] + v[d]) & MASK
                x = v[b] ^ v[c]
                v[b] = (x >> r2 | x << (32 - r2)) & MASK
        if n < 6:
            words = [words[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def _chunk(data, counter, flags):
    cv = IV
    blocks = [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
    for i, block in enumerate(blocks):
        f = (CHUNK_START if i == 0 else 0) | ((CHUNK_END | flags) if i == len(blocks) - 1 else 0)
        words = struct.unpack("<16I", block.ljust(64, b"\0"))
        cv = _compress(cv, words, counter, len(block), f)
    return cv


def _subtree(data, counter, flags):
    if len(data) <= 1024:
        return _chunk(data, counter, flags)
    chunks = (len(data) + 1023) // 1024
    left = 1 << ((chunks - 1).bit_length() - 1)
    words = _subtree(data[:left * 1024], counter, 0) + _subtree(data[left * 1024:], counter + left, 0)
    return _compress(IV, words, 0, 64, PARENT | flags)


def blake3_pure(data):
    """The 32 bytes of the BLAKE3 of `data`, at about 300 KB a second."""
    return struct.pack("<8I", *_subtree(bytes(data), 0, ROOT))


B3SUM = shutil.which("b3sum")


HASHED = {}      # by SHA-256: snapshots hold the same files again and again


def blake3(data):
    key = hashlib.sha256(data).digest()
    if key not in HASHED:
        if len(data) > 8192 and B3SUM:
            out = subprocess.run([B3SUM, "--no-names"], input=bytes(data), stdout=subprocess.PIPE, check=True).stdout
            HASHED[key] = bytes.fromhex(out.decode().strip())
        else:
            HASHED[key] = blake3_pure(data)
    return HASHED[key]


# ---------------------------------------------------------------- small things

def run(*args, data=None):
    return subprocess.run(args, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True).stdout


def line_of(value):
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, which only a hostile test writes
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def b64(raw):
    return base64.b64encode(raw).decode()


def text_field(key, raw):
    """{key: text} or {key_b64: base64}"""
    try:
        return {key: raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {key + "_b64": b64(raw)}


def walk_key(path):
    return b"" if path == b"." else path.replace(b"/", b"\0")


def random_id(rng, length):
    return "".join(rng.choice(BASE32) for _ in range(length))


class Identity:
    """An age identity in a file."""

    def __init__(self, path):
        if not os.path.exists(path):
            run("age-keygen", "-o", path)
        self.path = path
        self.recipient = run("age-keygen", "-y", path).decode().strip()


class Signer:
    """An Ed25519 key in a file, with the head of its chain."""

    def __init__(self, path):
        if not os.path.exists(path):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path)
        self.path = path
        with open(path + ".pub") as f:
            self.public = " ".join(f.read().split()[:2])
        self.id = sha256(base64.b64decode(self.public.split()[1]))[:32]
        self.host = self.id
        self.number, self.previous = 1, None

    def sign(self, data, namespace):
        return run("ssh-keygen", "-q", "-Y", "sign", "-f", self.path, "-n", namespace, data=data)

    def introduced(self, host, mark_number, mark_hash):
        self.host, self.number, self.previous = host, mark_number + 1, mark_hash


# ---------------------------------------------------------------- the recovery kit

def kit_check(text, size):
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:size]


def kit_block(fields):
    """The lines of a kit's block, from (name, value)."""
    pieces = []
    for name, value in fields:
        value = "".join(chr(b) if 0x21 <= b <= 0x7E and b != 0x25 and value != "-" else "%%%02X" % b for b in value.encode()) or "-"
        cut = [value[i:i + 52] for i in range(0, len(value), 52)]
        pieces += [(name if i == 0 else "+", piece) for i, piece in enumerate(cut)]
    lines = ["%d %s %s" % (n, name, piece) for n, (name, piece) in enumerate(pieces, 1)]
    lines.append("%d sum %s" % (len(lines) + 1, kit_check("".join(line + "\n" for line in lines), 16)))
    lines = ["%-74s%s" % (line, kit_check(line, 4)) if len(line) < 74 else "%s %s" % (line, kit_check(line, 4)) for line in lines]
    return ["-----BEGIN BACKSTAY KIT-----"] + lines + ["-----END BACKSTAY KIT-----"]


# ---------------------------------------------------------------- tar

def pax_record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    size = len(body)
    while len(str(size)) + len(body) != size:
        size = len(str(size)) + len(body)
    return str(size).encode() + body


def pax_time(seconds, nanoseconds):
    total = seconds * 10**9 + nanoseconds
    return b"%s%d.%09d" % (b"-" if total < 0 else b"", abs(total) // 10**9, abs(total) % 10**9)


def octal(value, width):
    return b"%0*o\0" % (width - 1, value)


def ustar(name, kind, size, meta, link=b""):
    fits = lambda value, width: value if 0 <= value < 8 ** (width - 1) else 0
    block = b"".join((
        name[:100].ljust(100, b"\0"), octal(meta.get("mode", 0o644), 8), octal(fits(meta.get("uid", 0), 8), 8),
        octal(fits(meta.get("gid", 0), 8), 8), octal(fits(size, 12), 12),
        octal(fits(meta.get("mtime", [0])[0], 12), 12), b" " * 8, kind, link[:100].ljust(100, b"\0"),
        b"ustar\x0000", meta.get("user", "").encode()[:31].ljust(32, b"\0"),
        meta.get("group", "").encode()[:31].ljust(32, b"\0"),
        octal(meta.get("dev", [0, 0])[0], 8), octal(meta.get("dev", [0, 0])[1], 8))).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def pad(data):
    return data + b"\0" * (-len(data) % 512)


class Archive:
    """One archive: a tar stream while it is filled, then what manifests say of it."""

    def __init__(self, about):
        self.tar = bytearray()
        self.sha = None
        self.member(b".backstay/archive.json", b"0", {"mode": 0o644}, line_of(about))

    def member(self, name, kind, meta, data=b"", link=b"", sparse=None):
        """Appends a member and returns where its data begins."""
        records = []
        if "mtime" in meta:
            records.append((b"mtime", pax_time(*meta["mtime"])))
        for key, width in (("uid", 8), ("gid", 8)):
            if meta.get(key, 0) >= 8 ** (width - 1):
                records.append((key.encode(), str(meta[key]).encode()))
        for key, tar_key in (("user", b"uname"), ("group", b"gname")):
            if len(meta.get(key, "").encode()) > 31 or not meta.get(key, "").isascii():
                records.append((tar_key, meta[key].encode()))
        for key, value in sorted(meta.get("xattrs", {}).items()):
            if "=" not in key:
                records.append((b"SCHILY.xattr." + key.encode(), value))
        if sparse is not None:
            # GNU sparse format 1.0: the map first, padded to a block, then the data.
            size, ranges = sparse
            rows = ranges if ranges and sum(ranges[-1]) == size else ranges + [(size, 0)]
            head = b"%d\n" % len(rows) + b"".join(b"%d\n%d\n" % row for row in rows)
            data = pad(head) + data
            records += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", name),
                        (b"GNU.sparse.realsize", str(size).encode())]
            short = b".backstay/sparse"
        else:
            short = name
            if len(name) > 100 or not name.isascii():
                records.append((b"path", name))
        if len(link) > 100 or not link.isascii():
            records.append((b"linkpath", link))
        if records:
            def is_text(value):
                try:
                    value.decode("utf-8")
                    return True
                except UnicodeDecodeError:
                    return False
            if not all(is_text(value) for _, value in records):
                records.insert(0, (b"hdrcharset", b"BINARY"))
            body = b"".join(pax_record(*record) for record in records)
            self.tar += ustar(b".backstay/pax", b"x", len(body), {"mode": 0o644}) + pad(body)
        self.tar += ustar(short, kind, len(data), meta, link)
        at = len(self.tar)
        self.tar += pad(data)
        return at + (len(pad(head)) if sparse is not None else 0)

    def seal(self, vault):
        """Frames, seek table, age; puts the object."""
        tar = bytes(self.tar) + b"\0" * 1024
        self.length, self.frames, plain, table = len(tar), [], b"", b""
        step = vault.frame
        for at in range(0, len(tar), step):
            piece = tar[at:at + step]
            packed = compress(piece)
            self.frames.append([at, len(plain), len(packed), len(piece)])
            table += struct.pack("<II", len(packed), len(piece))
            plain += packed
        table += struct.pack("<IBI", len(self.frames), 0, 0x8F92EAB1)
        plain += struct.pack("<II", 0x184D2A5E, len(table)) + table
        sealed = vault.encrypt(plain)
        header = sealed.index(b"\n--- ")
        self.payload = sealed.index(b"\n", header + 1) + 1 + 16
        self.sha, self.size = vault.put("archive", sealed)
        self.tar = None

    def describe(self, ranges):
        """The header's row, with the frames that hold `ranges` of the tar stream."""
        frames = [f for f in self.frames if any(a < f[0] + f[3] and f[0] < b for a, b in ranges)]
        return {"sha256": self.sha, "size": self.size, "payload": self.payload, "tar": self.length, "frames": frames}


def compress(piece):
    return run("zstd", "-q", "-3", "--check", "--stream-size=%d" % len(piece), "-c", data=piece)


# ---------------------------------------------------------------- capturing

def data_ranges(fd, size):
    """The stretches of a file that are not holes."""
    out, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        out.append((start, at - start))
    return out


def split_ranges(ranges):
    """Cut at multiples of 256 MiB, which no extent crosses."""
    for start, length in ranges:
        while length:
            step = min(length, MAP_RANGE - start % MAP_RANGE)
            yield start, step
            start, length = start + step, length - step


def capture(root, with_names=True):
    """All entries of a tree, in walk order, as dicts with raw values. `content` is [(offset, bytes)]."""
    import grp
    import pwd

    found, inodes = [], {}
    top = os.fsencode(root)
    for folder, dirs, files in os.walk(top):
        for name in [b"."] * (folder == top) + dirs + files:
            full = folder if name == b"." else os.path.join(folder, name)
            found.append((os.path.relpath(full, top), full))
    found.sort(key=lambda pair: walk_key(pair[0]))
    entries = []
    for path, full in found:
        st = os.lstat(full)
        kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "dir"), (stat.S_ISLNK, "symlink"), (stat.S_ISFIFO, "fifo"),
                 (stat.S_ISCHR, "char"), (stat.S_ISBLK, "block"), (stat.S_ISSOCK, "socket"))
        e = {"path": path, "type": next(text for test, text in kinds if test(st.st_mode)),
             "mode": stat.S_IMODE(st.st_mode), "uid": st.st_uid, "gid": st.st_gid,
             "mtime": [st.st_mtime_ns // 10**9, st.st_mtime_ns % 10**9]}
        if with_names:
            for key, table, number in (("user", pwd.getpwuid, st.st_uid), ("group", grp.getgrgid, st.st_gid)):
                try:
                    e[key] = table(number)[0]
                except KeyError:
                    pass
        try:
            e["xattrs"] = {k: os.getxattr(full, k, follow_symlinks=False)
                           for k in os.listxattr(full, follow_symlinks=False)}
        except OSError:
            e["xattrs"] = {}
        if e["type"] == "symlink":
            e["target"] = os.readlink(full)
        if e["type"] in ("char", "block"):
            e["dev"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
        if st.st_nlink > 1 and e["type"] != "dir":
            e["link"] = "%016x" % inodes.setdefault(st.st_ino, len(inodes) + 1)
        if e["type"] == "file":
            e["size"] = st.st_size
            fd = os.open(full, os.O_RDONLY)
            e["content"] = [(start, os.pread(fd, length, start))
                            for start, length in split_ranges(data_ranges(fd, st.st_size))]
            os.close(fd)
            e["hash"] = "b3:" + blake3(b"".join(data for _, data in e["content"])).hex()
        entries.append(e)
    return entries


# ---------------------------------------------------------------- the vault

class Component:
    """What is to be put into a snapshot as one component."""

    def __init__(self, name, entries, kind="folder", single=False, base="/srv/app", complete=True, check="none"):
        self.name, self.entries, self.kind, self.single = name, entries, kind, single
        self.base, self.complete, self.check = base, complete, check


class MiniVault:
    """Writes one store. `tamper` (in a commit) may change entries' JSON, lines of a segment, index or record."""

    def __init__(self, store, identities, seed=1, frame=FRAME, archive_size=MIB, vault=None):
        self.rng = random.Random(seed)
        self.store, self.frame, self.archive_size = store, frame, archive_size
        self.recipients = [i.recipient for i in identities]
        self.vault, self.instance = vault or random_id(self.rng, 26), random_id(self.rng, 26)
        self.naming_key = self.rng.getrandbits(256).to_bytes(32, "big")
        self.memory = {}  # (host, component) -> path -> entry of its last snapshot, with extents
        self.by_hash = {}  # (host, component, hash, layout) -> extents
        self.maps = {}  # (component, path, range) -> (extents, row)
        self.time = 1795420800  # 2026-11-23T08:00:00Z
        self.agent = "mini_vault 1"
        os.makedirs(store)
        self.write("backstay.json", line_of(dict(self.doc("store"), instance=self.instance, created=self.now(),
                                                 agent=self.agent)))

    def doc(self, kind):
        return {"format": 1, "needs": [], "type": kind, "vault": self.vault}

    def now(self, compact=False):
        import time
        return time.strftime("%Y%m%dT%H%M%SZ" if compact else "%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.time))

    def write(self, name, data):
        path = os.path.join(self.store, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as f:
            f.write(data)

    def encrypt(self, plain):
        args = [word for r in self.recipients for word in ("-r", r)]
        return run("age", *args, data=plain)

    def put(self, kind, data):
        name = sha256(data)
        pattern = "archives/%s/%s.tar.zst.age" if kind == "archive" else "manifests/%s/%s.jsonl.zst.age"
        self.write(pattern % (name[:2], name), data)
        return name, len(data)

    def put_manifest(self, lines):
        plain = b"".join(lines)
        packed = b"".join(compress(plain[at:at + FRAME]) for at in range(0, len(plain), FRAME))
        return self.put("manifest", self.encrypt(packed))

    def number_of(self, component):
        raw = hmac.new(self.naming_key, b"component\0" + component.encode(), "sha256").digest()
        return max(1, int.from_bytes(raw[:8], "big") >> 12)

    def setup_of(self, component):
        return hmac.new(self.naming_key, b"setup\0" + component.encode(), "sha256").hexdigest()[:16]

    # -- packing

    def commit(self, signer, components, alone=False, kind="normal", tamper=None, tags=(), note=None, host=None,
               archives_host=None, sign=True):
        """Makes a snapshot and returns its id. With `alone` nothing is reused."""
        self.time += 3600
        snapshot = "%s-%s" % (self.now(True), random_id(self.rng, 8))
        started = self.now()
        self.tamper = tamper or (lambda what, value: value)
        self.host = host or signer.host
        self.archives_host = archives_host or self.host
        objects, lines, told = {}, [], []
        self.made = []  # archives of this run, in order
        for c in components:
            self.pack(c, alone)
        for archive in self.made:
            archive.seal(self)
        for c in components:
            row, line, used = self.list_component(c, started)
            lines.append(row)
            told.append(line)
            objects.update(used)
        archives = [objects.pop(a.sha) for a in self.made]
        archives += [objects.pop(sha) for sha in [s for s, o in objects.items() if o[0] == "archive"]]
        index = {"snapshot": snapshot, "host": self.host, "hostname": "mini-1", "project": "mini", "system": "linux",
                 "note": note, "git": None, "agent": self.agent, "config": "[project]\nname = \"mini\"\n",
                 "config_path": "/srv/app/backstay.toml", "naming_key": b64(self.naming_key)}
        rows = self.tamper("index", [dict(self.doc("index"), **index)] + lines)
        name, size = self.put_manifest([line_of(row) for row in rows])
        record = dict(self.doc("record"), **{
            "snapshot": snapshot, "kind": kind, "host": self.host, "signer": signer.id, "number": signer.number,
            "previous": signer.previous, "started": started, "finished": self.now(),
            "complete": all(c.complete for c in components), "alone": alone, "components": told,
            "recipients": [[sha256(r.encode())[:32] for r in self.recipients]],
            "objects": archives + list(objects.values()) + [["manifest", size, name, 0]], "index": name,
            "tags": list(tags), "milestone": False, "agent": self.agent})
        if kind == "partial":
            record.update(index=None, components=[], complete=False, alone=False, run=snapshot)
        self.put_signed(signer, self.tamper("record", record), "record", "snapshots/%s.json" % snapshot, sign)
        return snapshot

    def put_signed(self, signer, doc, kind, name, sign=True):
        line = line_of(doc)
        signature = signer.sign(line, "backstay-%s-1" % kind) if sign else b""
        self.write(name, line + signature)
        signer.number, signer.previous = signer.number + 1, sha256(line)
        return sha256(line)

    def mark(self, signer, kind, **fields):
        """Writes a mark; returns (number, hash)."""
        self.time += 60
        number = signer.number
        doc = dict(self.doc("mark"), host=signer.host, signer=signer.id, number=number, previous=signer.previous,
                   time=self.now(), agent=self.agent, mark=kind, **fields)
        return number, self.put_signed(signer, doc, "mark", "marks/%s/%010d.json" % (signer.id, number))

    def record_hash(self, snapshot):
        with open(os.path.join(self.store, "snapshots", snapshot + ".json"), "rb") as f:
            return sha256(f.readline())

    def room(self, component):
        """The archive that the next member goes into."""
        if not self.made or self.made[-1].component != component or len(self.made[-1].tar) > self.archive_size:
            about = dict(self.doc("archive"), host=self.archives_host, component=component, about="made by mini_vault")
            self.made.append(Archive(about))
            self.made[-1].component = component
        return self.made[-1]

    def pack(self, c, alone):
        before = {} if alone else self.memory.get((self.archives_host, c.name), {})
        first = {}
        for e in c.entries:
            if e["type"] in ("left", "socket"):
                continue
            if e.get("link") in first:
                self.hard_link(c, e, first[e["link"]], alone)
            else:
                self.pack_entry(c, e, before, alone)
                if "link" in e:
                    first[e["link"]] = e
        self.memory[self.archives_host, c.name] = {e["path"]: e for e in c.entries}

    def member_name(self, c, e):
        name = c.name.encode() + (b"/" if e["path"] == b"." else b"/" + e["path"])
        return name + b"/" if e["type"] == "dir" and e["path"] != b"." else name

    def hard_link(self, c, e, other, alone):
        if e["type"] == "file":
            e["extents"] = other["extents"]
        if alone or not other.get("reused"):
            self.room(c.name).member(self.member_name(c, e), b"1", e, link=self.member_name(c, other))

    def pack_entry(self, c, e, before, alone):
        kinds = {"dir": b"5", "symlink": b"2", "fifo": b"6", "char": b"3", "block": b"4"}
        name = self.member_name(c, e)
        if e["type"] != "file":
            if alone or e["path"] not in before:
                self.room(c.name).member(name, kinds[e["type"]], e, link=e.get("target", b""))
            return
        key = self.archives_host, c.name, e["hash"], tuple((at, len(data)) for at, data in e["content"])
        if not alone and key in self.by_hash:
            e["extents"], e["reused"] = self.by_hash[key], True
            return
        old = before.get(e["path"])
        if old and old["type"] == "file" and len(e["content"]) and e["size"] > 64 * 1024:
            self.pack_changes(c, e, old)
        elif sum(len(data) for _, data in e["content"]) > self.archive_size:
            self.room(c.name).member(name, b"0", e)
            e["extents"] = self.pack_parts(c, e, e["content"])
        else:
            archive = self.room(c.name)
            ranges = [(at, len(data)) for at, data in e["content"]]
            whole = ranges == ([(0, e["size"])] if e["size"] else [])
            data = b"".join(data for _, data in e["content"])
            at = archive.member(name, b"0", e, data, sparse=None if whole else (e["size"], ranges))
            e["extents"] = []
            for start, length in ranges:
                e["extents"].append([start, archive, at, length])
                at += length
        self.by_hash[key] = e["extents"]

    def pack_changes(self, c, e, old):
        """Only the blocks that are not the old ones; the others keep their extents."""
        was = {}
        for at, data in old["content"]:
            for n in range(0, len(data), BLOCK):
                was[at + n] = data[n:n + BLOCK]
        new, kept = [], []
        for at, data in e["content"]:
            for n in range(0, len(data), BLOCK):
                block = data[n:n + BLOCK]
                if was.get(at + n) == block:
                    kept += slice_extents(old["extents"], at + n, at + n + len(block))
                elif new and sum((new[-1][0], len(new[-1][1]))) == at + n and (at + n) % MAP_RANGE:
                    new[-1] = (new[-1][0], new[-1][1] + block)
                else:
                    new.append((at + n, block))
        e["extents"] = sorted(kept + self.pack_parts(c, e, new), key=lambda row: row[0])

    def pack_parts(self, c, e, content):
        """Lays content over parts, each at most an archive long; returns the extents."""
        pieces = []
        for at, data in content:
            for n in range(0, len(data), self.archive_size):
                pieces.append((at + n, data[n:n + self.archive_size]))
        groups, size = [], 0
        for at, data in pieces:
            if not groups or size + len(data) > self.archive_size:
                groups.append([])
                size = 0
            groups[-1].append((at, data))
            size += len(data)
        extents = []
        for n, group in enumerate(groups):
            pairs = [[at, len(data)] for at, data in group]
            if n == len(groups) - 1 and sum(pairs[-1]) < e["size"]:
                pairs.append([e["size"], 0])
            head = line_of(pairs)
            name = b".backstay/parts/%s/%s/%020d" % (c.name.encode(), e["path"], group[0][0])
            archive = self.room(c.name)
            at = archive.member(name, b"0", {"mode": 0o600}, head + b"".join(data for _, data in group)) + len(head)
            for offset, data in group:
                extents.append([offset, archive, at, len(data)])
                at += len(data)
        return extents

    # -- listing

    def list_component(self, c, started):
        """(index row, record line, objects used)"""
        # An archive of members without content (folders, links) is needed too: by tar.
        objects = {a.sha: ["archive", a.size, a.sha, 0] for a in self.made if a.component == c.name}
        segments, batch, size = [], [], 0
        lines = [(e, self.entry_json(c, e, objects)) for e in c.entries]
        for e, doc in lines:
            length = len(json.dumps(doc, default=lambda archive: 0)) + 64
            if batch and size + length > 8 * MIB:
                segments.append(batch)
                batch, size = [], 0
            batch.append((e, doc))
            size += length
            cut = len(batch) >= 512 and int.from_bytes(blake3(e["path"])[:4], "little") % 2048 == 0
            if cut or len(batch) >= 16384:
                segments.append(batch)
                batch, size = [], 0
        segments += [batch] if batch else []
        rows = [self.put_segment(c, batch, objects) for batch in segments]
        total = sum(e.get("size", 0) for e in c.entries)
        row = {"component": c.name, "number": self.number_of(c.name), "kind": c.kind, "base": c.base,
               "single": c.single, "method": "files", "started": started, "instant": started,
               "complete": c.complete, "check": c.check, "entries": len(c.entries),
               "files": sum(e["type"] == "file" for e in c.entries),
               "dirs": sum(e["type"] == "dir" for e in c.entries), "size": total,
               "alone": all(o[2] in {a.sha for a in self.made} for o in objects.values() if o[0] == "archive"),
               "segments": rows, "archives": [o[2] for o in objects.values() if o[0] == "archive"],
               "unreadable": sum(e.get("why") == "unreadable" for e in c.entries), "rules": ["*.pyc"]}
        line = {"number": row["number"], "size": total, "entries": len(c.entries), "complete": c.complete,
                "check": c.check, "setup": self.setup_of(c.name)}
        return row, line, objects

    def entry_json(self, c, e, objects):
        doc = text_field("path", e["path"])
        doc["type"] = e["type"]
        if e["type"] == "left":
            doc["why"] = e["why"]
            return self.tamper("entry", doc)
        doc.update(mode="%04o" % e["mode"], uid=e["uid"], gid=e["gid"], mtime=e["mtime"])
        doc.update({k: e[k] for k in ("user", "group", "link", "dev", "flags") if k in e})
        if e["xattrs"]:
            doc["xattrs"] = {k: b64(v) for k, v in e["xattrs"].items()}
        if e["type"] == "symlink":
            doc.update(text_field("target", e["target"]))
        if e["type"] == "file":
            doc.update(size=e["size"], hash=e["hash"])
            if len(e["extents"]) > 256:
                doc["maps"] = self.put_maps(c, e, objects)
            else:
                doc["extents"] = e["extents"]
        return self.tamper("entry", doc)

    def header(self, kind, extents, objects, **fields):
        """A manifest's first line, and the extents with indexes in place of archives."""
        archives = []
        for row in extents:
            if row[1] not in archives:
                archives.append(row[1])
        described = [a.describe([(r[2], r[2] + r[3]) for r in extents if r[1] is a]) for a in archives]
        for a in archives:
            objects[a.sha] = ["archive", a.size, a.sha, 0]
        doc = {"format": 1, "needs": [], "type": kind, **fields, "archives": described}
        return doc, lambda rows: [[r[0], archives.index(r[1]), r[2], r[3]] for r in rows]

    def put_maps(self, c, e, objects):
        rows = []
        for n in sorted({row[0] // MAP_RANGE for row in e["extents"]}):
            inside = [row for row in e["extents"] if row[0] // MAP_RANGE == n]
            known = self.maps.get((c.name, e["path"], n))
            if not known or known[0] != inside:
                used = {}
                header, indexed = self.header("map", inside, used)
                made = self.put_manifest(self.tamper("map", [line_of(header)] + [line_of(r) for r in indexed(inside)]))
                known = self.maps[c.name, e["path"], n] = inside, made, used
            objects.update(known[2])
            sha, size = known[1]
            objects[sha] = ["manifest", size, sha, 0]
            rows.append([n * MAP_RANGE, sha, size])
        return rows

    def put_segment(self, c, batch, objects):
        extents = [row for _, doc in batch for row in doc.get("extents", [])]
        header, indexed = self.header("segment", [r for r in extents if not isinstance(r[1], int)], objects,
                                      component=c.name)
        lines = [line_of(header)]
        for _, doc in batch:
            if "extents" in doc and not any(isinstance(r[1], int) for r in doc["extents"]):
                doc["extents"] = indexed(doc["extents"])
            lines.append(line_of(doc))
        sha, size = self.put_manifest(self.tamper("segment", lines))
        objects[sha] = ["manifest", size, sha, 0]
        return {"sha256": sha, "size": size, "entries": len(batch), **text_field("first", batch[0][0]["path"]),
                **text_field("last", batch[-1][0]["path"])}


def slice_extents(extents, start, end):
    out = []
    for offset, archive, tar, length in extents:
        low, high = max(offset, start), min(offset + length, end)
        if low < high:
            out.append([low, archive, tar + low - offset, high - low])
    return out


# ---------------------------------------------------------------- the vault that tests use

def put_file(path, data, mode=0o644, mtime=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)
    if mtime is not None:
        os.utime(path, ns=(mtime, mtime), follow_symlinks=False)


def cut_name(prefix):
    """A name after which a segment is cut."""
    n = 0
    while int.from_bytes(blake3(prefix + b"%d" % n)[:4], "little") % 2048:
        n += 1
    return prefix + b"%d" % n


def live_tree(top, rng):
    """A folder with everything that is hard to keep."""
    root = os.geteuid() == 0
    b = os.path.join(os.fsencode(top), b"backend")
    put_file(b + b"/main.py", b"print('hello')\n", mtime=1763884800123456789)
    put_file(b + b"/empty", b"")
    put_file(b + b"/read-only", b"x" * 700, 0o444)
    put_file(b + b"/no-mode", b"secret", 0o000)
    put_file(b + b"/setuid", b"#!/bin/sh\n", 0o6755)
    put_file(b + b"/old", b"before 1970", mtime=-1500000001)
    put_file(b + b"/later", b"after 2106", mtime=4400000000 * 10**9 + 7)
    put_file(b + b"/twin-a", b"the same content" * 100)
    put_file(b + b"/twin-b", b"the same content" * 100)
    put_file(b + b"/a.b", b"sorts after a/")
    put_file(b + b"/a/b/c", b"sorts before a.b")
    put_file(b + b"/a-", b"between")
    put_file(b + b"/names/new\nline", b"1")
    put_file(b + b"/names/-rf", b"2")
    put_file(b + b"/names/...", b"3")
    put_file(b + b"/names/ space ", b"4")
    put_file(b + b"/names/\xff\xfe not utf-8", b"5")
    put_file(b + b"/names/\x1b[31m red", b"6")
    put_file(b + "/names/Grüße, 世界".encode(), b"7")
    put_file(b + b"/names/back\\slash 'quote' \"double\" $HOME `x`", b"8")
    put_file(b + b"/names/long-" + b"x" * 240, b"9")
    put_file(b + b"/deep" + b"/quite-a-long-folder-name" * 20 + b"/file", b"10")
    os.makedirs(b + b"/dir-empty")
    put_file(b + b"/dir-closed/inside", b"in a folder without write permission")
    put_file(b + b"/dir-sticky/inside", b"")
    os.symlink(b"main.py", b + b"/link")
    os.symlink(b"/nowhere/at all", b + b"/link-dangling")
    os.symlink(b"dir-empty", b + b"/link-to-dir")
    os.symlink(b"\xffraw", b + b"/link-raw")
    os.symlink(b"y" * 243, b + b"/link-long")
    put_file(b + b"/hard/one", b"one inode" * 50)
    os.link(b + b"/hard/one", b + b"/hard/two")
    os.makedirs(b + b"/zz")
    os.link(b + b"/hard/one", b + b"/zz/three")
    os.symlink(b"one", b + b"/hard/symlink")
    os.link(b + b"/hard/symlink", b + b"/hard/symlink-2", follow_symlinks=False)
    os.mkfifo(b + b"/fifo", 0o640)
    os.makedirs(b + b"/run")
    here = os.getcwd()
    os.chdir(b + b"/run")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("sock")
    os.chdir(here)
    put_file(b + b"/data.bin", rng.randbytes(600 * BLOCK))
    put_file(b + b"/parts \xff/big\nname.bin", rng.randbytes(1500000), 0o4710, mtime=10**18 + 1)
    with open(b + b"/sparse", "wb") as f:
        os.ftruncate(f.fileno(), 3 * MIB)
        os.pwrite(f.fileno(), rng.randbytes(8192), 64 * 1024)
        os.pwrite(f.fileno(), rng.randbytes(100), 2 * MIB)
    with open(b + b"/sparse-parts", "wb") as f:
        os.ftruncate(f.fileno(), 9 * MIB + 5)
        os.pwrite(f.fileno(), rng.randbytes(MIB), 0)
        os.pwrite(f.fileno(), rng.randbytes(MIB + 4096), 4 * MIB)
    with open(b + b"/all-hole", "wb") as f:
        os.ftruncate(f.fileno(), 2 * MIB)
    with open(b + b"/huge-hole", "wb") as f:
        os.ftruncate(f.fileno(), 600 * MIB)
        os.pwrite(f.fileno(), rng.randbytes(300 * 2 * BLOCK), 0)
        os.pwrite(f.fileno(), b"far away", 550 * MIB)
    cut = os.path.basename(cut_name(b"many/m-"))
    for n in range(640):
        put_file(b + b"/many/file-%04d" % n, b"%d\n" % n)
    put_file(b + b"/many/" + cut, b"a segment ends here")
    try:
        os.setxattr(b + b"/main.py", "user.note", b"text")
        os.setxattr(b + b"/read-only", "user.binary", bytes(range(256)))
        os.setxattr(b + b"/dir-empty", "user.dir", b"")
    except OSError as e:
        print("no user xattrs here, so they are not tested: %s" % e, file=sys.stderr)
    if root:
        os.mknod(b + b"/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(b + b"/block", stat.S_IFBLK | 0o600, os.makedev(7, 300))
        os.chown(b + b"/a.b", 12345, 54321)
        os.chown(b + b"/a-", 4294967294, 3000000)
        os.lchown(b + b"/link-dangling", 1, 1)
        try:
            os.setxattr(b + b"/link", "trusted.on-a-link", b"\xff\0", follow_symlinks=False)
            os.setxattr(b + b"/setuid", "security.capability", bytes.fromhex("01000002002000000000000000000000" "00000000"))
        except OSError as e:
            print("no trusted xattrs here, so they are not tested: %s" % e, file=sys.stderr)
        if shutil.which("setfacl"):
            subprocess.run(["setfacl", "-m", "u:12345:r", b + b"/twin-a"], check=False)
            subprocess.run(["setfacl", "-d", "-m", "u:12345:rx", b + b"/zz"], check=False)
    s = os.path.join(os.fsencode(top), b"settings")
    put_file(s + b"/.env", b"KEY=value\n", 0o600)
    put_file(s + b"/_root/etc/nginx/sites-enabled/app", b"server {}\n")
    os.makedirs(os.path.join(top, "nothing"))
    put_file(os.fsencode(top) + b"/db/agent.db", rng.randbytes(80 * BLOCK), 0o640)
    os.chmod(b + b"/dir-closed", 0o555)
    os.chmod(b + b"/dir-sticky", 0o1777)
    for name in (b"/dir-closed", b"/many", b"/a", b""):
        os.utime(b + name, ns=(0, 1700000000987654321 + len(name)))


def change_tree(top, rng):
    b = os.path.join(os.fsencode(top), b"backend")
    os.rename(b + b"/main.py", b + b"/renamed.py")
    os.utime(b + b"/old", ns=(0, 5))
    os.unlink(b + b"/a/b/c")
    put_file(b + b"/new/copy of twin", b"the same content" * 100)
    put_file(b + b"/new/really new", b"fresh\n")
    with open(b + b"/data.bin", "r+b") as f:
        for n in range(0, 600, 2):
            os.pwrite(f.fileno(), rng.randbytes(BLOCK), n * BLOCK)
    with open(b + b"/huge-hole", "r+b") as f:
        for n in range(0, 600, 2):
            os.pwrite(f.fileno(), rng.randbytes(BLOCK), n * BLOCK)
    with open(os.fsencode(top) + b"/db/agent.db", "r+b") as f:
        os.pwrite(f.fileno(), rng.randbytes(BLOCK), 7 * BLOCK)
        os.pwrite(f.fileno(), rng.randbytes(3 * BLOCK), 80 * BLOCK)
    try:
        os.setxattr(b + b"/renamed.py", "user.a=b", b"a name with =")
    except OSError:
        pass


def components_of(top, left=(), complete=True):
    backend = capture(os.path.join(top, "backend"))
    backend += [{"path": path, "type": "left", "why": why} for path, why in left]
    backend.sort(key=lambda e: walk_key(e["path"]))
    database = [e for e in capture(os.path.join(top, "db")) if e["type"] == "file"]
    database[0]["flags"] = ["database"]
    return [Component("backend", backend, base="/srv/app/backend", complete=complete),
            Component("db", database, "sqlite", True, "/srv/app/backend/data", check="passed"),
            Component("nothing", capture(os.path.join(top, "nothing")), base="/srv/app/nothing"),
            Component("settings", capture(os.path.join(top, "settings")), "paths", base="/srv/app")]


def expect(top, into, single=("db",)):
    """Keeps what a restore must give. Sockets are never restored; the folder of a single file is nobody's."""
    os.makedirs(into)
    for name in sorted(os.listdir(top)):
        run("cp", "-a", "--sparse=auto", os.path.join(top, name), os.path.join(into, name))
    for folder, _dirs, files in os.walk(into):
        for name in files:
            path = os.path.join(folder, name)
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                st = os.stat(folder)
                os.unlink(path)
                os.utime(folder, ns=(st.st_atime_ns, st.st_mtime_ns))
    for name in single:
        os.utime(os.path.join(into, name), ns=(0, 0))


def standard(out):
    """The vault of the tests; returns what vault.json says."""
    os.makedirs(out, exist_ok=True)
    join = lambda name: os.path.join(out, name)
    first, second = Identity(join("identity-1.txt")), Identity(join("identity-2.txt"))
    old_key, new_key = Signer(join("signer-1")), Signer(join("signer-2"))
    rng = random.Random(7)
    vault = MiniVault(join("store"), [first, second], frame=256 * 1024)
    live = join("live")
    live_tree(live, rng)
    ids = {}

    def snap(name, signer, left=(), complete=True, **options):
        ids[name] = vault.commit(signer, components_of(live, left, complete), **options)
        expect(live, join("expected/" + ids[name]))

    snap("alone", old_key, alone=True, tags=["stable"], note="before the change")
    change_tree(live, rng)
    snap("delta", old_key, left=[(b"venv", "component"), (b"run/mnt", "mount")])
    said = {"snapshot": ids["alone"], "record": vault.record_hash(ids["alone"])}
    with open(os.path.join(out, "store", "snapshots", ids["alone"] + ".json"), "rb") as f:
        count = len(json.loads(f.readline())["objects"])
    vault.mark(old_key, "verdict", **said, instance=vault.instance, level="read", began=vault.now(), good=True,
               covered=[[0, count]], bad=[], checks=[])
    snap("void", old_key)
    vault.mark(old_key, "void", snapshot=ids["void"], record=vault.record_hash(ids["void"]), instance=None,
               reason="an object was not there")
    mark = vault.mark(old_key, "key", action="introduce", key=new_key.public, **{"for": old_key.host}, last=None)
    new_key.introduced(old_key.host, *mark)
    put_file(os.path.join(live, "settings", ".env"), b"KEY=other\n", 0o600)
    with open(os.path.join(live, "backend", "huge-hole"), "r+b") as f:
        os.pwrite(f.fileno(), b"nearer", 551 * MIB)
    snap("latest", new_key, left=[(b"locked", "unreadable")], complete=False)
    snap("safety", new_key, kind="safety")
    vault.commit(new_key, [], kind="partial")
    vault.mark(new_key, "tag", **said, add=["kept"], remove=[])
    vault.mark(new_key, "from-the-future", something=1)
    facts = {"store": join("store"), "identities": [first.path, second.path], "trust": old_key.public,
             "trust2": new_key.public, "snapshots": ids, "expected": join("expected"), "vault": vault.vault,
             "host": old_key.host}
    with open(join("vault.json"), "w") as f:
        json.dump(facts, f, indent=1)
    return facts


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(json.dumps(standard(os.path.abspath(sys.argv[1])), indent=1))
