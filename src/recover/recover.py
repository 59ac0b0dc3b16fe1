#!/usr/bin/env python3
"""Gets data back from a backstay store (format 1) without backstay.

Needs Python 3.8 or later and the programs `age` and `zstd`; `ssh-keygen` (OpenSSH 8.1 or later) to
check who wrote a snapshot. RECOVER.md, beside this file, says how to use it.

    python3 recover.py STORE_DIR -i IDENTITY list
    python3 recover.py STORE_DIR -i IDENTITY --trust 'ssh-ed25519 AAAA...' restore latest --to DIR
    python3 recover.py STORE_DIR --kit KIT.txt restore ID --to DIR COMPONENT/PATH

It only reads the store. It writes into a new folder beside the target, which gets the target's name
when everything is there. Exit codes: 0 done; 1 failed; 2 wrong usage; 3 restored, with problems
(listed at the end); 13 damage, a snapshot that cannot be trusted, or history missing.
"""

import argparse
import array
import base64
import binascii
import bisect
import concurrent.futures
import datetime
import errno
import hashlib
import heapq
import json
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time

try:
    import grp
    import pwd
except ImportError:  # not a Unix
    grp = pwd = None

FORMAT = 1
MIB = 1 << 20
DOCUMENT_MAX = 64 * MIB
MANIFEST_MAX = 64 * MIB
LINE_MAX = 16 * MIB
PATH_MAX, PARTS_MAX = 65535, 4096
COMPONENTS_MAX = 4096
FRAME_MAX = 4 * MIB
HEADER_MAX = 64 * 1024
MAP_RANGE = 256 * MIB
CHUNK = MIB
OK, FAILED, PROBLEMS, DAMAGED = 0, 1, 3, 13

SNAPSHOT_ID = re.compile(r"\A\d{8}T\d{6}Z-[a-z2-7]{8}\Z")
BASE32_26 = re.compile(r"\A[a-z2-7]{26}\Z")
HEX64 = re.compile(r"\A[0-9a-f]{64}\Z")
HEX32 = re.compile(r"\A[0-9a-f]{32}\Z")
HEX16 = re.compile(r"\A[0-9a-f]{16}\Z")
KIT_LINE = re.compile(r"\A\d+[ \t]+([a-z0-9.+-]+|RECOVER\.md)[ \t]+\S+[ \t]+[a-z2-7]{4}\Z")
B3 = re.compile(r"\Ab3:[0-9a-f]{64}\Z")
OCTAL4 = re.compile(r"\A[0-7]{4}\Z")
COMPONENT = re.compile(r"\A[a-z0-9][a-z0-9_-]{0,63}\Z")
TIME = re.compile(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z\Z")
PUBLIC_KEY = re.compile(r"ssh-ed25519\s+([A-Za-z0-9+/]+=*)")
MARKED_KEY = re.compile(r"\A[ \t\r\n\f]*ssh-ed25519[ \t\r\n\f]+([A-Za-z0-9+/]{68})(?:[ \t\r\n\f]|\Z)")
SECRET_KEY = re.compile(r"AGE-SECRET-KEY-[A-Z0-9-]+")
ROLES = ("host", "verify", "prune")
KINDS = ("normal", "safety", "partial")
CHECKS = ("passed", "failed", "deferred", "none")
TYPES = ("file", "dir", "symlink", "fifo", "char", "block", "socket", "left")
REASONS = ("unreadable", "component", "store", "state", "sidecar", "mount", "vanished")


class Failed(Exception):
    """It cannot be done; nothing says that the store is to blame."""


class Damage(Exception):
    """Something in the store is not what it must be."""


class TooNew(Damage):
    """Written by a later program: not damaged, but not to be guessed at either."""


# ---------------------------------------------------------------- text for people

def say(text=""):
    print(text, file=sys.stderr, flush=True)


def shown(raw):
    """Bytes or text as one printable line: no name of a file may write to the terminal."""
    text = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)
    out = []
    for c in text:
        code = ord(c)
        if 0xDC80 <= code < 0xDD00:
            code, c = code - 0xDC00, None
        odd = c is None or code < 32 or 127 <= code < 160 or 0xD800 <= code < 0xE000 or code in (0x2028, 0x2029)
        odd = odd or code in (0x200E, 0x200F) or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
        out.append(c if not odd else "\\x%02x" % code if code < 256 else "\\u%04x" % code)
    return "".join(out)


def human(size):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return "%d %s" % (size, unit) if unit == "B" else "%.1f %s" % (size, unit)
        size = size / 1024
    return "%.1f TiB" % size


class Problems:
    """Trouble that does not stop a restore; said at the end, kind by kind."""

    SHOWN = 50

    def __init__(self):
        self.kinds = {}

    def add(self, kind, subject=None):
        known = self.kinds.setdefault(kind, [0, []])
        known[0] += 1
        if subject is not None and len(known[1]) < self.SHOWN:
            known[1].append(subject)

    def report(self):
        for kind, (count, subjects) in self.kinds.items():
            say("  - %s%s" % (kind, " (%d times)" % count if count > 1 else ""))
            for subject in subjects:
                say("      %s" % shown(subject))
            if len(subjects) < count and subjects:
                say("      ... and %d more" % (count - len(subjects)))


# ---------------------------------------------------------------- strict JSON

def _no_twins(pairs):
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a field is given twice")
    return out


class Wide(int):
    """A number of 64 bits: the seconds of a time may be one, and nothing else is of this kind."""


def _integer(text):
    number = int(text) if len(text) <= 20 else 1 << 63
    if not -1 << 63 <= number < 1 << 63:
        raise ValueError("a number is too large")
    return number if abs(number) < 1 << 53 else Wide(number)


def _no_float(_text):
    raise ValueError("a number is not an integer")


STRICT = json.JSONDecoder(object_pairs_hook=_no_twins, parse_int=_integer, parse_float=_no_float,
                          parse_constant=_no_float)


def parse_line(line, what, limit=LINE_MAX):
    """One JSON object or array of a line (without its end)."""
    if len(line) > limit:
        raise Damage("%s: a line is longer than it may be" % what)
    try:
        return STRICT.decode(line.decode("utf-8"))
    except (ValueError, RecursionError) as e:
        raise Damage("%s: not the JSON it must be: %s" % (what, e))


def get(doc, key, kind, what):
    value = doc.get(key)
    if type(value) is not kind:
        raise Damage("%s: field %r is missing or of a wrong kind" % (what, key))
    return value


def get_match(doc, key, pattern, what):
    value = get(doc, key, str, what)
    if not pattern.match(value):
        raise Damage("%s: field %r is malformed: %s" % (what, key, shown(value[:80])))
    return value


def get_count(doc, key, what):
    value = get(doc, key, int, what)
    if value < 0:
        raise Damage("%s: field %r is below zero" % (what, key))
    return value


def get_list(doc, key, kind, what):
    value = get(doc, key, list, what)
    if any(type(item) is not kind for item in value):
        raise Damage("%s: field %r holds something of a wrong kind" % (what, key))
    return value


def check_version(doc, what):
    """`format` and `needs`, which come before anything else of a document."""
    if type(doc) is not dict:
        raise Damage("%s: not a JSON object" % what)
    number, needs = get(doc, "format", int, what), get_list(doc, "needs", str, what)
    if number > FORMAT or needs:
        raise TooNew("%s was written by a newer backstay (format %d%s); this script knows format %d. "
                     "Use the recover.py of that version." % (
                         what, number, ", needs " + shown(", ".join(needs)) if needs else "", FORMAT))
    if number < 1:
        raise Damage("%s: format %d does not exist" % (what, number))


def is_row(row, *kinds):
    return type(row) is list and len(row) == len(kinds) and all(
        type(item) is kind for item, kind in zip(row, kinds))


def unbase64(text, what):
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise Damage("%s: not base64" % what)


def text_or_b64(doc, key, what):
    """The bytes of `key` or of its base64 twin, which is for what is not UTF-8."""
    if (key in doc) == (key + "_b64" in doc):
        raise Damage("%s: just one of %s and %s_b64 must be there" % (what, key, key))
    if key in doc:
        try:
            return get(doc, key, str, what).encode("utf-8")
        except UnicodeEncodeError:
            raise Damage("%s: %s is not valid Unicode" % (what, key))
    raw = unbase64(get(doc, key + "_b64", str, what), what)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
    raise Damage("%s: %s_b64 holds plain UTF-8" % (what, key))


# ---------------------------------------------------------------- paths

def check_path(path, what):
    bad = None
    if path == b".":
        return path
    if len(path) > PATH_MAX or path.count(b"/") >= PARTS_MAX:
        bad = "it is too long"
    elif b"\0" in path:
        bad = "it holds a NUL byte"
    elif any(part in (b"", b".", b"..") for part in path.split(b"/")):
        bad = "it is absolute or has an empty, '.' or '..' part"
    if bad:
        raise Damage("%s: %s is not a path inside a component: %s" % (what, shown(path[:300]), bad))
    return path


def walk_key(path):
    """Sorts in walk order: '/' below every other byte (no path holds a NUL), the root first."""
    return b"" if path == b"." else path.replace(b"/", b"\0")


def parent_of(path):
    return path.rpartition(b"/")[0] or b"."


# ---------------------------------------------------------------- the store

def codes(*names):
    """The numbers of these errors; not every system knows them all."""
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


# Trouble of this machine: it says nothing of what was to be opened, and the next would meet it, too.
OF_THE_MACHINE = codes("EMFILE", "ENFILE", "ENOMEM")


class Store:
    """A folder that holds a store. Only read."""

    def __init__(self, root, instance_vault=None):
        self.root = root
        self.vault = instance_vault
        self.instance = None
        if not os.path.isdir(root):
            raise Failed("%s is not a folder" % shown(root))
        path = os.path.join(root, "backstay.json")
        if not os.path.exists(path):
            if not os.path.isdir(os.path.join(root, "snapshots")):
                raise Failed("%s is not a backstay store: it has neither backstay.json nor snapshots/"
                             % shown(root))
            say("NOTE: backstay.json is missing here. Everything that matters is signed, so this goes on;\n"
                "      but give --vault (from the kit), or another project's snapshots would be taken too.")
            return
        doc = parse_line(self.read("backstay.json", MIB).rstrip(b"\n"), "backstay.json")
        check_version(doc, "backstay.json")
        if get(doc, "type", str, "backstay.json") != "store":
            raise Damage("backstay.json does not describe a store")
        vault = get_match(doc, "vault", BASE32_26, "backstay.json")
        self.instance = get_match(doc, "instance", BASE32_26, "backstay.json")
        if self.vault not in (None, vault):
            raise Damage("this store belongs to vault %s, not to %s" % (vault, self.vault))
        self.vault = vault

    def open(self, name):
        """Opens an object; the caller closes it."""
        fd = None
        try:
            fd = os.open(os.path.join(self.root, name), os.O_RDONLY | os.O_NONBLOCK)
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
        except OSError as e:
            if fd is not None:
                os.close(fd)
            if e.errno in (errno.ENOENT, errno.ENOTDIR):
                raise Damage("%s is missing" % name)
            raise self.unreadable(name, e)
        if not regular:
            os.close(fd)
            raise Damage("%s is not a file" % name)
        return open(fd, "rb", buffering=0)

    @staticmethod
    def unreadable(name, error):
        """A data object that cannot be opened is lost like one that cannot be read to its end, and costs what lies in
        it alone; without `backstay.json` or a record there is nothing to go on with."""
        text = "%s cannot be read: %s" % (name, error.strerror)
        if error.errno in OF_THE_MACHINE or not name.startswith(("archives/", "manifests/")):
            return Failed(text)
        if error.errno in (errno.EACCES, errno.EPERM):
            text += " (it may be whole: try again as root, or as the owner of the store)"
        return Damage(text)

    def read(self, name, limit):
        with self.open(name) as f:
            if os.fstat(f.fileno()).st_size > limit:
                raise Damage("%s is larger than it may be" % name)
            data = read_up_to(f, limit + 1, name)
        if len(data) > limit:
            raise Damage("%s is larger than it may be" % name)
        return data

    def names(self, folder):
        try:
            return sorted(os.listdir(os.path.join(self.root, folder)))
        except FileNotFoundError:
            return []
        except OSError as e:
            raise Failed("%s/ cannot be listed: %s" % (folder, e.strerror))


def read_up_to(f, limit, name):
    out = []
    while limit > 0:
        try:
            data = f.read(min(limit, CHUNK))
        except OSError as e:
            raise Damage("%s cannot be read: %s" % (name, e.strerror))
        if not data:
            break
        out.append(data)
        limit -= len(data)
    return b"".join(out)


def object_name(kind, sha):
    if kind == "archive":
        return "archives/%s/%s.tar.zst.age" % (sha[:2], sha)
    return "manifests/%s/%s.jsonl.zst.age" % (sha[:2], sha)


# ---------------------------------------------------------------- signed documents

def wire_string(blob, at):
    if at + 4 > len(blob):
        raise Damage("cut off")
    size = struct.unpack_from(">I", blob, at)[0]
    if at + 4 + size > len(blob):
        raise Damage("cut off")
    return blob[at + 4:at + 4 + size], at + 4 + size


def parse_sshsig(text, namespace):
    """The public key (wire encoding) inside an armored SSH signature, if it is the one kind allowed."""
    lines = text.strip().split("\n")
    if len(lines) < 3 or lines[0].strip() != "-----BEGIN SSH SIGNATURE-----" or \
            lines[-1].strip() != "-----END SSH SIGNATURE-----":
        raise Damage("it has no SSH signature after its first line")
    blob = unbase64("".join(line.strip() for line in lines[1:-1]), "its signature")
    if blob[:6] != b"SSHSIG" or blob[6:10] != b"\0\0\0\1":
        raise Damage("its signature is not an SSH signature of version 1")
    key, at = wire_string(blob, 10)
    space, at = wire_string(blob, at)
    _reserved, at = wire_string(blob, at)
    hash_name, at = wire_string(blob, at)
    _signature, at = wire_string(blob, at)
    if space != namespace.encode() or hash_name != b"sha512" or at != len(blob):
        raise Damage("its signature is for something else")
    if wire_string(key, 0)[0] != b"ssh-ed25519" or len(key) != 51:
        raise Damage("its signature is not by an Ed25519 key")
    return key


def signer_id(wire):
    return hashlib.sha256(wire).hexdigest()[:32]


class Document:
    """A record or a mark: what it says, and whether its signature holds (which says nothing of trust).

    A record's `objects` can be long and there may be thousands of records: `objects` reads them again."""

    def __init__(self, store, name, kind, keygen):
        self.name, self.kind, self.store = name, kind, store
        self.error = None
        self.fields = {}
        try:
            line, signature = self._read()
            self._check()
            key = parse_sshsig(signature, "backstay-%s-1" % kind)
            if signer_id(key) != self.signer:
                raise Damage("it is signed by another key than it says")
            self.key = key
            if keygen.program and not keygen.verify(kind, key, line, signature):
                raise Damage("its signature is wrong")
            self._check_place()
        except (Damage, Failed) as e:
            text = str(e)
            self.error = type(e)(text if name in text else "%s: %s" % (name, text))
        self.fields.pop("objects", None)

    def _read(self):
        data = self.store.read(self.name, DOCUMENT_MAX)
        end = data.find(b"\n") + 1
        if not end or not data.endswith(b"\n"):
            raise Damage("it has no complete first line, or no complete last one")
        self.hash = hashlib.sha256(data[:end]).hexdigest()
        fields = parse_line(data[:end - 1], self.name, DOCUMENT_MAX)
        check_version(fields, self.name)
        self.fields = fields
        return data[:end], data[end:].decode("ascii", "replace")

    def _check(self):
        f, what = self.fields, self.name
        if get(f, "type", str, what) != self.kind:
            raise Damage("it is not a %s" % self.kind)
        self.signer, self.host = get_match(f, "signer", HEX32, what), get_match(f, "host", HEX32, what)
        self.vault = get_match(f, "vault", BASE32_26, what)
        self.number = get_count(f, "number", what)
        self.previous = f.get("previous", "")
        if self.previous is not None and not (type(self.previous) is str and HEX64.match(self.previous)):
            raise Damage("field 'previous' is missing or malformed")
        if self.number == 0 or (self.previous is None) != (self.number == 1):
            raise Damage("its place in the chain is impossible")
        if self.kind == "record":
            check_record(f, what)
            self.id = f["snapshot"]
        else:
            check_mark(f, what)

    def _check_place(self):
        if self.store.vault not in (None, self.vault):
            raise Damage("it belongs to another vault (%s)" % self.vault)
        said = "snapshots/%s.json" % self.id if self.kind == "record" else \
            "marks/%s/%010d.json" % (self.signer, self.number)
        if said != self.name:
            raise Damage("its name and what it says differ")

    def place(self):
        return self.signer, self.number, self.hash

    def objects(self):
        """The rows of a record's `objects`."""
        known = self.hash
        self._read()
        if self.hash != known:
            raise Damage("%s changed while it was used" % self.name)
        return self.fields.pop("objects")


def get_time(doc, key, what):
    text = get_match(doc, key, TIME, what)
    try:
        datetime.datetime(*(int(n) for n in re.split("[-T:]", text[:17] + "00")))
    except ValueError:
        raise Damage("%s: field %r is no time: %s" % (what, key, text))
    if text[17:19] > "60":
        raise Damage("%s: field %r is no time: %s" % (what, key, text))
    return text


def check_mark(f, what):
    """What the marks that this script heeds must look like."""
    get_time(f, "time", what)
    kind = get(f, "mark", str, what)
    if kind == "milestone":
        get(f, "on", bool, what)
    if kind in ("void", "tag", "milestone"):
        get_match(f, "snapshot", SNAPSHOT_ID, what), get_match(f, "record", HEX64, what)
    if kind == "void" and f.get("instance", "") is not None:
        get_match(f, "instance", BASE32_26, what)
    if kind == "tag":
        get_list(f, "add", str, what), get_list(f, "remove", str, what)
    if kind in ("prune", "absent"):
        get_match(f, "instance", BASE32_26, what)
        for row in get_list(f, "removed" if kind == "prune" else "entries", dict, what):
            get_match(row, "signer", HEX32, what), get_match(row, "hash", HEX64, what)
            get_count(row, "number", what)
    if kind == "settle":
        get_match(f, "of", HEX32, what), get_count(f, "entry", what)
        if not all(HEX64.match(digest) for digest in get_list(f, "drop", str, what)):
            raise Damage("%s: field 'drop' is malformed" % what)
        if f.get("keep", "") is not None:
            get_match(f, "keep", HEX64, what)
    if kind == "key":
        get_match(f, "for", HEX32, what), get(f, "key", str, what)
        if get(f, "action", str, what) not in ("introduce", "retire"):
            raise Damage("%s: unknown action" % what)
        last = f.get("last")
        if last is not None and not (is_row(last, int, str) and last[0] >= 0 and HEX64.match(last[1])):
            raise Damage("%s: field 'last' is malformed" % what)


def parse_public_key(text, what):
    """The wire encoding of the one `ssh-ed25519 AAAA...` in a text."""
    found = PUBLIC_KEY.search(text)
    if not found:
        raise Damage("%s: no `ssh-ed25519 AAAA...` key in: %s" % (what, shown(text[:80])))
    wire = unbase64(found.group(1), what)
    if len(wire) != 51 or wire_string(wire, 0)[0] != b"ssh-ed25519":
        raise Damage("%s: this is not a whole ssh-ed25519 key: %s" % (what, shown(text[:120])))
    return wire


def check_record(f, what):
    get_match(f, "snapshot", SNAPSHOT_ID, what)
    if get(f, "kind", str, what) not in KINDS:
        raise Damage("%s: unknown kind of snapshot" % what)
    partial = f["kind"] == "partial"
    started = get_time(f, "started", what)
    get_time(f, "finished", what)
    if re.sub(r"[-:]", "", started[:19]) + "Z" != f["snapshot"][:16]:
        raise Damage("%s: its id is of another time than its start" % what)
    get(f, "complete", bool, what), get(f, "alone", bool, what), get(f, "milestone", bool, what)
    get_list(f, "tags", str, what), get(f, "agent", str, what)
    sets = get_list(f, "recipients", list, what)
    if any(type(x) is not str or not HEX32.match(x) for one in sets for x in one):
        raise Damage("%s: a recipient is malformed" % what)
    names = set()
    archives_over = False
    for row in get(f, "objects", list, what):
        if not is_row(row, str, int, str, int) or row[0] not in ("archive", "manifest") or \
                row[1] <= 0 or not HEX64.match(row[2]) or not 0 <= row[3] < len(sets) or row[2] in names:
            raise Damage("%s: its list of objects is malformed" % what)
        if row[0] == "archive" and archives_over:
            raise Damage("%s: archives must come first among its objects" % what)
        archives_over = row[0] == "manifest"
        names.add(row[2])
    components = get_list(f, "components", dict, what)
    if len(components) > COMPONENTS_MAX:
        raise Damage("%s: too many components" % what)
    for line in components:
        get(line, "complete", bool, what), get_match(line, "setup", HEX16, what)
        if get_count(line, "number", what) < 1 or get(line, "check", str, what) not in CHECKS:
            raise Damage("%s: a component's line is malformed" % what)
        get_count(line, "size", what), get_count(line, "entries", what)
    if len({line["number"] for line in components}) != len(components):
        raise Damage("%s: two components have one number" % what)
    if "index" not in f:
        raise Damage("%s: field 'index' is missing" % what)
    if partial:
        get_match(f, "run", SNAPSHOT_ID, what)
        if f["index"] is not None or components or f["complete"]:
            raise Damage("%s: a partial record says too much" % what)
    else:
        index = get_match(f, "index", HEX64, what)
        if not any(row[2] == index and row[0] == "manifest" for row in f["objects"]):
            raise Damage("%s: its index is not among its objects" % what)


class Keygen:
    """Checks signatures with `ssh-keygen -Y verify`."""

    def __init__(self):
        self.program = shutil.which("ssh-keygen")
        self._dir = None
        self._lock = threading.Lock()
        if self.program:
            self._dir = tempfile.TemporaryDirectory(prefix="recover-")
        self._count = 0

    def verify(self, kind, wire, line, signature):
        """Whether `signature` over `line` is by the key `wire`."""
        with self._lock:
            self._count += 1
            base = os.path.join(self._dir.name, str(self._count))
        namespace, key, who = "backstay-%s-1" % kind, base64.b64encode(wire).decode(), signer_id(wire)
        with open(base + ".allowed", "w") as f:
            f.write('%s namespaces="%s" ssh-ed25519 %s\n' % (who, namespace, key))
        with open(base + ".sig", "w") as f:
            f.write(signature)
        done = subprocess.run(
            [self.program, "-Y", "verify", "-f", base + ".allowed", "-I", who, "-n", namespace,
             "-s", base + ".sig"], input=line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.unlink(base + ".allowed")
        os.unlink(base + ".sig")
        return done.returncode == 0


# ---------------------------------------------------------------- trust and chains

class TrustedKeys:
    """Keys the person vouches for, with roles: signer id -> (wire encoding, roles). `hosts`: more hosts that a key is of."""

    def __init__(self):
        self.keys, self.hosts = {}, {}

    def add(self, text, where):
        """A line with an `ssh-ed25519 AAAA...` key; `roles=host,prune` may stand anywhere else on it."""
        said = re.search(r"roles=[\"']?([a-z,]+)", PUBLIC_KEY.sub(" ", text))
        self.add_key(text, set(said.group(1).split(",")) if said else {"host"}, where)

    def add_key(self, text, roles, where, host=None):
        try:
            wire = parse_public_key(text, where)
        except Damage as e:
            raise Failed(str(e))
        if not roles <= set(ROLES):
            raise Failed("%s: roles are host, verify and prune" % where)
        known = self.keys.setdefault(signer_id(wire), (wire, set()))
        known[1].update(roles)
        if host is not None:
            self.hosts.setdefault(signer_id(wire), host)

    def add_file(self, path):
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                self.add(line, "%s, line %d" % (path, number))

    def any(self):
        """Whether a key is trusted for something: a kit also names some that are trusted for nothing."""
        return any(roles for _wire, roles in self.keys.values())

    def roles(self, signer):
        return self.keys[signer][1] if signer in self.keys else set()


def read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read(4 * MIB)
    except OSError as e:
        raise Failed("%s cannot be read: %s" % (path, e.strerror))


class Standing:
    """What one key may do."""

    def __init__(self, wire, depth=0):
        self.wire = wire
        self.roles = set()  # given by the person or the kit
        self.hosts = set()  # hosts whose records it may sign
        self.native = set()  # its own: hosts that it was not introduced for
        self.last = None  # (number, hash) of the last entry that counts, once retired
        self.last_for = {}  # host -> the same, as a key of that host only
        self.own_end = 0  # the number of the mark with which it retired itself
        self.depth = depth  # how many introductions it is away from a key that the person trusts


class KeyMark:
    """A `key` mark with its fields."""

    def __init__(self, entry, wire):
        f = entry.fields
        self.entry, self.wire, self.key = entry, wire, signer_id(wire)
        self.action, self.host = f["action"], f["for"]
        self.last = tuple(f["last"]) if f.get("last") else None

    @classmethod
    def of(cls, entry):
        """None when it is no such mark, or what it names is no key."""
        if entry.kind != "mark" or entry.fields["mark"] != "key":
            return None
        found = MARKED_KEY.match(entry.fields["key"])
        wire = base64.b64decode(found.group(1)) if found else b""
        return cls(entry, wire) if wire.startswith(WIRE_ED25519) else None


WIRE_ED25519 = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"


def within(last, entry):
    """Whether an entry is not after the last one that counts."""
    return last is None or entry.number < last[0] or (entry.number, entry.hash) == last


class Keys:
    """Which keys may say what: those that the person trusts, those that they introduced, and how far retired ones still count.

    The same rules as in backstay (src/model/trust_rules.rs; section 3 of the format): what counts for one must count for the other.
    `entries` are in the order of their places; `dropped` are places of entries that lost when a fork was settled."""

    def __init__(self, trusted, entries, dropped):
        self.trusted = trusted
        entries = [e for e in entries if e.place() not in dropped]
        births = self._births(entries)
        marks = [m for m in map(KeyMark.of, entries) if m is not None]
        marks = [m for m in marks if m.action != "introduce" or self._begins_after(m, births)]
        self.introductions, self.retirements = {}, [m for m in marks if m.action == "retire"]
        for mark in marks:
            if mark.action == "introduce":
                self.introductions.setdefault((mark.entry.signer, mark.host), []).append(mark)
        self.cuts = {}  # signer -> (mark, host or None for all that it signs) of retirements that count
        taken = set()
        while self._take_retirements(taken):
            pass

    # -- where chains begin

    def _births(self, entries):
        """signer -> (number of its first entry, what that names as the one before). Entries that are gone count where a key that is
        trusted to prune names them; what comes before them nobody knows."""
        births = {}

        def note(signer, number, previous):
            if signer not in births or number < births[signer][0]:
                births[signer] = number, []
            if number == births[signer][0]:
                births[signer][1].extend(previous)

        for entry in entries:
            note(entry.signer, entry.number, [entry.previous])
            if entry.kind == "mark" and entry.fields["mark"] == "prune" and "prune" in self.trusted.roles(entry.signer):
                for row in entry.fields["removed"]:
                    note(row["signer"], row["number"], [])
        return births

    def _begins_after(self, mark, births):
        """Whether the chain of the key that a mark introduces can begin there. One that signed before, or that is trusted to verify or
        prune and did not begin there, is what it was: else who stole one host's key could make any other key one of that host."""
        other_roles = self.trusted.roles(mark.key) & {"verify", "prune"}
        if mark.key not in births:
            return not other_roles or "host" in self.trusted.roles(mark.key)
        number, previous = births[mark.key]
        if number <= mark.entry.number:
            return False
        if number == mark.entry.number + 1 and previous:
            return mark.entry.hash in previous or not other_roles
        return True

    # -- introductions and retirements

    def _take_retirements(self, taken):
        """Works out who is of which host, then takes retirements one after the other: each may take the authority of others away.
        True when one ended introductions that counted, so that all is to be worked out again. One that was found to count stays."""
        self._introduce()
        for mark in self._in_turn():
            place = mark.entry.place()
            cut = self._as_cut(mark) if place not in taken else None
            if cut is None:
                continue
            taken.add(place)
            undoes = self._undoes(cut)
            self._cut(cut)
            self.cuts.setdefault(mark.key, []).append(cut)
            if undoes:
                return True
        return False

    def _introduce(self):
        self.of = {}
        for signer, (wire, roles) in self.trusted.keys.items():
            standing = self.of[signer] = Standing(wire)
            standing.roles = set(roles)
            standing.native = {signer, self.trusted.hosts.get(signer, signer)}
            standing.hosts = set(standing.native) if "host" in roles else set()
        for cuts in self.cuts.values():
            for cut in cuts:
                self._cut(cut)
        # The nearest to the person's own keys first.
        waiting = [new for signer in list(self.of) for host in self.of[signer].hosts for new in self._introduced(signer, host)]
        heapq.heapify(waiting)
        while waiting:
            depth, signer, host, wire = heapq.heappop(waiting)
            standing = self.of.setdefault(signer, Standing(wire, depth))
            if host in standing.hosts:
                continue
            standing.hosts.add(host)
            # One at a time: the key that was introduced just now may itself be cut before its own introductions count.
            for cut in self.cuts.get(signer, ()):
                self._cut(cut)
            for new in self._introduced(signer, host):
                heapq.heappush(waiting, new)

    def _introduced(self, signer, host):
        """What a key introduces for a host with marks that count."""
        return [(self.depth(signer) + 1, m.key, host, m.wire) for m in self.introductions.get((signer, host), ())
                if self.speaks_for(m.entry, host)]

    def _in_turn(self):
        """Retirements in the order in which they are taken: those by pruners first, then by number. Of equal numbers the mark of the
        later introduced key goes first: who recovers from a stolen key must not be retired by the thief."""
        return sorted(self.retirements, key=lambda m: (
            not self.has_role(m.entry, "prune"), m.entry.number, -self.depth(m.entry.signer), m.entry.signer))

    def _as_cut(self, mark):
        """The retirement, if it counts, as (mark, host): as what the key is retired. None for a host means altogether."""
        retired = self.of.get(mark.key)
        if retired is None or mark.last is None:
            return None
        of_host = mark.host in retired.hosts and self.speaks_for(mark.entry, mark.host)
        only_of_host = not retired.roles and len(retired.hosts) == 1
        itself = mark.entry.signer == mark.key and self.counts(mark.entry)
        # A host must not take the roles of a verifier or pruner away by introducing its key for itself and then retiring it.
        if itself or self.has_role(mark.entry, "prune") or of_host and (only_of_host or mark.host in retired.native):
            return mark, None
        return (mark, mark.host) if of_host else None

    def _undoes(self, cut):
        """Whether a retirement ends introductions that count up to now."""
        mark, host = cut
        ended = [h for h in self.of[mark.key].hosts if host in (None, h)]
        return any(self.speaks_for(said.entry, h) and not within(mark.last, said.entry)
                   for h in ended for said in self.introductions.get((mark.key, h), ()))

    def _cut(self, cut):
        mark, host = cut
        standing = self.of.get(mark.key)
        if standing is None:
            return
        if host is not None:
            standing.last_for[host] = min(mark.last, standing.last_for.get(host, mark.last))
            return
        standing.last = min(mark.last, standing.last or mark.last)
        if mark.entry.signer == mark.key:
            standing.own_end = max(standing.own_end, mark.entry.number)

    # -- what is asked

    def counts(self, entry):
        """Whether an entry is by a trusted key, and not after its retirement."""
        standing = self.of.get(entry.signer)
        return standing is not None and standing.wire == entry.key and within(standing.last, entry)

    def has_role(self, entry, role):
        """Whether an entry counts and its key has a role by the person's word or the kit's."""
        return self.counts(entry) and role in self.of[entry.signer].roles

    def speaks_for(self, entry, host):
        """Whether an entry is by a trusted key of a host."""
        if not self.counts(entry):
            return False
        standing = self.of[entry.signer]
        return host in standing.hosts and within(standing.last_for.get(host), entry)

    def is_trusted(self, signer):
        return signer in self.of

    def is_of(self, signer, host):
        """Whether a key is, or was before it was retired, one of a host; one that is only trusted is of the host called after it."""
        standing = self.of.get(signer)
        return standing is not None and (host in standing.hosts or host in standing.native)

    def depth(self, signer):
        return self.of[signer].depth if signer in self.of else 0

    def retired(self, signer):
        return self.of[signer].last

    def chain_end(self, signer):
        """How far the chain of a retired key is checked. One that retires itself says so above its last entry, and that mark must not
        be hidden."""
        standing = self.of[signer]
        return None if standing.last is None else max(standing.last[0], standing.own_end)


def marks_in_order(entries, keys, dropped):
    """Marks that count: of one signer by number, of several by time. A time that cannot be is that of the entry before."""
    ahead = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 3600))
    out, before = [], (None, "")
    for entry in entries:
        if entry.place() in dropped:
            continue
        floor = before[1] if before[0] == entry.signer else ""
        said = entry.fields["time" if entry.kind == "mark" else "finished"]
        said = "%s.%s" % (said[:19], said[20:-1].ljust(9, "0"))
        at = floor if said > ahead or said < floor else said
        before = entry.signer, at
        if entry.kind == "mark" and keys.counts(entry):
            out.append((at,) + entry.place() + (entry,))
    return [row[-1] for row in sorted(out, key=lambda row: row[:-1])]


class Settled:
    """What `settle` marks say that count: by a pruner, who must not be the forked signer. A later one takes the place of an earlier."""

    def __init__(self, marks, trusted):
        self.dropped = set()  # places of entries that lost
        self.kept = {}  # (signer, number) -> hash, or None: what stands there, or is accepted as lost
        for mark in marks:
            f = mark.fields
            if f["mark"] != "settle" or "prune" not in trusted.roles(mark.signer) or mark.signer == f["of"]:
                continue
            place = f["of"], f["entry"]
            self.kept[place] = f["keep"]
            self.dropped = {lost for lost in self.dropped if lost[:2] != place}
            self.dropped.update(place + (digest,) for digest in f["drop"] if digest != f["keep"])


class Slot:
    """What is known of one number of a chain."""

    def __init__(self):
        self.present = []  # entries
        self.named = set()  # hashes that marks give for it
        self.lost = False  # accepted as lost, nobody knows what it was

    def hashes(self):
        return {e.hash for e in self.present} | self.named

    def may_be(self, digest):
        """Whether an entry may name `digest` as this one's hash."""
        return self.lost and not self.present or digest in self.hashes()


class ChainCheck:
    """Checks the chains of all trusted signers, as backstay does (src/model/chain_check.rs). `breaks`: (signer, sentences)."""

    def __init__(self, entries, keys, settled, instance, heads):
        self.keys, self.settled = keys, settled
        self.chains = self._chains(entries, instance)
        self.introduced = {}  # signer -> (number, hash) of marks of others that introduce it, whoever they are
        for mark in filter(None, map(KeyMark.of, entries)):
            if mark.action == "introduce" and mark.key != mark.entry.signer:
                self.introduced.setdefault(mark.key, set()).add((mark.entry.number, mark.entry.hash))
        self.unheard = [e for e in entries if e.kind == "mark" and e.fields["mark"] == "prune" and not keys.has_role(e, "prune")]
        self.breaks = [(signer, faults) for signer in sorted(keys.of) for faults in [self._faults(signer, heads.get(signer))] if faults]

    def _chains(self, entries, instance):
        """signer -> number -> slot"""
        chains = {}

        def slot(signer, number):
            return chains.setdefault(signer, {}).setdefault(number, Slot())

        for entry in entries:
            if entry.place() not in self.settled.dropped:
                slot(entry.signer, entry.number).present.append(entry)
        for signer, number, digest in self._excused(entries, instance):
            slot(signer, number).named.add(digest)
        for place, digest in self.settled.kept.items():
            if digest is None:
                slot(*place).lost = True
            else:
                slot(*place).named.add(digest)
        return chains

    def _excused(self, entries, instance):
        """Places of entries that are rightly not in this store."""
        for mark in entries:
            kind = mark.fields["mark"] if mark.kind == "mark" else None
            rows = {"prune": "removed", "absent": "entries"}.get(kind)
            if rows is None or mark.fields["instance"] != instance or not self.keys.counts(mark):
                continue
            pruner = kind == "prune" and self.keys.has_role(mark, "prune")
            for row in mark.fields[rows]:
                place = row["signer"], row["number"], row["hash"]
                if (pruner or kind == "absent" and row["signer"] == mark.signer) and place not in self.settled.dropped:
                    yield place

    def _faults(self, signer, seen):
        who, end = "signer %s..." % signer[:8], self.keys.chain_end(signer)
        chain = [(n, slot) for n, slot in sorted(self.chains.get(signer, {}).items()) if end is None or n <= end]
        faults = ["%s signed two different entries with number %d" % (who, n) for n, slot in chain if len(slot.hashes()) > 1]
        gaps, wrong = self._start(signer, *chain[0]) if chain else ([], [])
        for (n, slot), (here, following) in zip(chain, chain[1:]):
            # A gap may be as wide as a stolen key likes: never count through it number by number.
            if n + 1 < here:
                gaps.append((n + 1, here - 1))
            elif not all(slot.may_be(e.previous) for e in following.present):
                wrong.append(here)
        faults += ["%s: entry %d does not follow the one before" % (who, n) for n in wrong]
        if gaps:
            text = ", ".join(str(a) if a == b else "%d to %d" % (a, b) for a, b in gaps[:20])
            faults.append("%s: entries missing here: %s" % (who, text))
            faults += self._said_of(signer, gaps)
        if seen is not None and (end is None or seen[0] <= end):
            faults += self._seen(who, chain, signer, seen, "the kit knows of number %d")
        if self.keys.retired(signer) is not None:
            # Who retired the key knew its last entry: as good as having seen it.
            faults += self._seen(who, chain, signer, self.keys.retired(signer), "its retirement names number %d as its last")
        return faults

    def _start(self, signer, number, slot):
        """(gaps, numbers of entries that follow on the wrong one) at the beginning: number 1, or after the mark that introduced the key."""
        if number == 1:
            return [], []
        starts, before = self.introduced.get(signer, set()), number - 1
        fits = [(before, e.previous) in starts for e in slot.present]
        numbered = any(n == before for n, _digest in starts)
        # Where only a mark names the first entry there is no `previous` to compare.
        if all(fit or self._excused_elsewhere(signer, before, e.previous) for fit, e in zip(fits, slot.present)) and \
                (numbered or slot.present):
            return [], []
        if numbered:
            return [], [number] * (not all(fits))
        return [(min([n + 1 for n, _digest in starts if n + 1 < number], default=1), before)], []

    def _excused_elsewhere(self, signer, number, digest):
        """Whether another signer's chain had this entry, and a mark says that it is gone."""
        return any(digest in chain[number].named for other, chain in self.chains.items() if other != signer and number in chain)

    def _seen(self, who, chain, signer, seen, how):
        """Whether what was seen before, by whom the kit is from or who retired the key, is still so."""
        number, digest = seen
        last = chain[-1][0] if chain else 0
        if last < number:
            return ["%s: the entries end with number %d here, but %s: newer ones were taken away, or never came into this store" % (
                who, last, how % number)]
        slot = dict(chain).get(number)
        # A hole at that place is said already.
        if slot is None or slot.may_be(digest) or (signer, number, digest) in self.settled.dropped:
            return []
        return ["%s: entry %d is another one than was known (%s): the history was rewritten" % (who, number, how % number)]

    def _said_of(self, signer, gaps):
        """A prune mark by a key without the role may explain a gap; the person can look it up in the kit."""
        out = []
        for mark in self.unheard:
            told = [r for r in mark.fields["removed"] if r["signer"] == signer and any(a <= r["number"] <= b for a, b in gaps)]
            if told:
                out.append("(%s says that %d of them were deleted on purpose; it counts only if the kit gives its "
                           "key the role prune: --trust 'ssh-ed25519 %s roles=host,prune')" % (
                               mark.name, len(told), base64.b64encode(mark.key).decode()))
        return out


class Vault:
    """All records and marks of a store, judged."""

    def __init__(self, store, trusted, heads):
        self.store, self.trusted = store, trusted
        self.keygen = Keygen()
        self.records = self._load("record", [
            "snapshots/" + name for name in store.names("snapshots")
            if name.endswith(".json") and SNAPSHOT_ID.match(name[:-5])])
        self.marks = self._load("mark", [
            "marks/%s/%s" % (signer, name) for signer in store.names("marks") if HEX32.match(signer)
            for name in store.names("marks/" + signer) if re.match(r"\A\d{10}\.json\Z", name)])
        self.checked = bool(self.keygen.program and trusted.any())
        self.judge(heads)

    def judge(self, heads):
        """Works out what records and marks say together, as backstay does (src/model/chain.rs)."""
        trusted, store = self.trusted, self.store
        entries = sorted((d for d in self.records + self.marks if d.error is None), key=lambda d: d.place())
        self.settled = Settled(marks_in_order(entries, Keys(trusted, entries, set()), set()), trusted)
        self.keys = Keys(trusted, entries, self.settled.dropped)
        self.breaks = ChainCheck(entries, self.keys, self.settled, store.instance, heads).breaks
        self._apply(marks_in_order(entries, self.keys, self.settled.dropped), entries)

    def _load(self, kind, names):
        with concurrent.futures.ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
            return list(pool.map(lambda name: Document(self.store, name, kind, self.keygen), names))

    def damaged(self):
        return [d for d in self.records + self.marks if d.error is not None]

    def _apply(self, marks, entries):
        """Sorts marks about records: (snapshot, hash of its record) -> marks that count, in order."""
        self.labelling, self.voids = {}, set()
        for mark in marks:
            if mark.fields["mark"] in ("tag", "milestone"):
                self.labelling.setdefault((mark.fields["snapshot"], mark.fields["record"]), []).append(mark)
        # What a key that nobody trusts says against its own record is heard, too: it can only make less of that be used.
        said = [m for m in entries if m.kind == "mark" and not self.keys.is_trusted(m.signer)]
        for mark in marks + said:
            f = mark.fields
            if f["mark"] == "void" and f["instance"] in (None, self.store.instance):
                self.voids.add((mark.signer, f["snapshot"], f["record"]))

    def host_of(self, signer):
        """The host that a key is of: one that introduced it goes before its own."""
        others = sorted({r.host for r in self.records if r.error is None and r.host != signer})
        return next((h for h in others if self.keys.is_of(signer, h)), signer)

    def is_trusted(self, record):
        return record.error is None and self.checked and self.keys.speaks_for(record, record.host)

    def is_void(self, record):
        return (record.signer, record.id, record.hash) in self.voids

    def labels(self, record):
        """Its tags, and whether it is a milestone, as the record and the marks since then say."""
        tags, milestone = {tag: {"host"} for tag in record.fields["tags"]}, record.fields["milestone"]
        for mark in self.labelling.get((record.id, record.hash), ()):
            f, own = mark.fields, self.keys.speaks_for(mark, record.host)
            pruner = self.keys.has_role(mark, "prune")
            if f["mark"] == "milestone":
                if pruner or own and f["on"]:
                    milestone = f["on"]
            elif pruner or own:
                self._change_tags(tags, f, own, pruner)
        return sorted(tags), milestone

    @staticmethod
    def _change_tags(tags, mark, own, pruner):
        """A host takes away what it added itself, a pruner everything. What one mark both removes and adds stays."""
        for tag in mark["remove"]:
            if pruner or "prune" not in tags.get(tag, ()):
                tags.pop(tag, None)
            else:
                tags[tag].discard("host")
        for tag in mark["add"]:
            # A key with both roles adds as the host that it is.
            tags.setdefault(tag, set()).add("host" if own else "prune")

    # -- the chain

    def is_dropped(self, doc):
        return doc.place() in self.settled.dropped

    def chain_faults(self, host):
        """What is wrong with the history of a host, in sentences; empty when it is whole."""
        return [text for signer, texts in self.breaks if self.keys.is_of(signer, host) for text in texts]

    # -- choosing

    def usable(self, record):
        return self.is_trusted(record) and not self.is_void(record) and not self.is_dropped(record)

    def latest(self, host):
        if not self.checked:
            raise Failed("`latest` cannot be known when nothing proves who wrote what: give a snapshot's id. "
                         "The newest here by name: %s" % ", ".join(r.id for r in self.records[-3:] if not r.error))
        good = [r for r in self.records if r.error is None and r.fields["kind"] == "normal" and self.usable(r)]
        hosts = sorted({r.host for r in good if r.host.startswith(host or "")})
        if not hosts:
            raise Damage("there is no snapshot here that a trusted key has signed%s" % (
                " for host %s (--host names another)" % host if host else ""))
        if len(hosts) > 1:
            raise Failed("there are snapshots of several hosts: say --host with one of %s" % ", ".join(hosts))
        faults = self.chain_faults(hosts[0])
        if faults:
            raise Damage("what is the latest snapshot is not known, because the history is not whole:\n  %s\n"
                         "Try another store of this vault, or give a snapshot's id instead of `latest`."
                         % "\n  ".join(faults))
        good = [r for r in good if r.host == hosts[0]]
        # Of equal numbers the later introduced key's: the host went on with that one.
        best = max(good, key=lambda r: (r.number, self.keys.depth(r.signer), r.id, r.hash))
        newer = [d.name for d in self.records if d.error and d.name > best.name]
        if newer:
            raise Damage("%s is newer by its name than the latest good snapshot, %s, but cannot be used (%s). "
                         "If that is the one you want, give its id." % (
                             newer[-1], best.id, self.damaged_reason(newer[-1])))
        return best

    def damaged_reason(self, name):
        return next(str(d.error) for d in self.records if d.name == name)

    def find(self, text, host, unsigned):
        """The record a person means by `text`, if it may be used."""
        if text == "latest":
            record = self.latest(host)
        else:
            found = [r for r in self.records if os.path.basename(r.name).startswith(text)] if text else []
            exact = [r for r in found if r.name == "snapshots/%s.json" % text]
            found = exact or found
            if not found:
                raise Failed("there is no snapshot %s in this store" % shown(text))
            if len(found) > 1:
                raise Failed("%s is the beginning of %d snapshots; give more of the id" % (shown(text), len(found)))
            record = found[0]
        if record.error:
            raise record.error
        if record.fields["kind"] == "partial":
            raise Failed("%s is not a snapshot but the interim of an unfinished run" % record.id)
        if self.is_void(record):
            raise Damage("%s is void: its writer found that its objects were not all there" % record.id)
        if not self.is_trusted(record) or self.is_dropped(record):
            self._untrusted(record, unsigned)
        elif text != "latest":
            for fault in self.chain_faults(record.host):
                say("NOTE: the history of this host is not whole: %s" % fault)
        return record

    def _untrusted(self, record, unsigned):
        if not self.keygen.program:
            why = "ssh-keygen is not installed (package openssh-client), so signatures cannot be checked"
        elif not self.trusted.any():
            why = "no trusted key was given (--trust, from the recovery kit)"
        else:
            why = "it is signed by key %s, which is not a trusted key of that host" % record.signer
        bar = "!" * 78
        say("%s\nNOTHING PROVES WHO WROTE SNAPSHOT %s:\n%s.\nWhoever can write to this store can have made it up, "
            "programs in it included.\n%s" % (bar, record.id, why, bar))
        if not unsigned:
            raise Damage("stopped. Give --trust 'ssh-ed25519 AAAA...' from the kit, or --unsigned to go on all the same")

    def state(self, record):
        if record.error:
            return "too new" if isinstance(record.error, TooNew) else "DAMAGED"
        if self.is_void(record):
            return "void"
        if not self.checked:
            return "unchecked"
        return "signed" if self.usable(record) else "UNTRUSTED"


# ---------------------------------------------------------------- opening objects

class Opener:
    """Decrypts and decompresses objects as streams, comparing size and SHA-256 on the way."""

    def __init__(self, store, identities, texts):
        self.store, self.files = store, identities
        self.text = "".join(t + "\n" for t in texts)
        for path in list(self.files):
            head = read_text(path)[:200]
            if head.startswith(("age-encryption.org/", "-----BEGIN AGE ENCRYPTED FILE-----")):
                # Ask for the passphrase once, not once an object.
                say("%s is protected by a passphrase." % path)
                done = subprocess.run([program("age"), "-d", path], stdout=subprocess.PIPE)
                if done.returncode:
                    raise Failed("%s could not be opened" % path)
                self.files.remove(path)
                self.text += done.stdout.decode("ascii", "replace")

    def ready(self):
        if not self.files and not self.text:
            raise Failed("an identity is needed for this: -i FILE (the AGE-SECRET-KEY-1... of the recovery kit)")
        program("age"), program("zstd")

    def stream(self, kind, sha, size):
        return Stream(self, object_name(kind, sha), sha, size)

    def manifest(self, sha, size):
        """The unpacked bytes of a manifest object; compared before anything looks at them."""
        name = object_name("manifest", sha)
        data = self.store.read(name, MANIFEST_MAX + MIB)
        if len(data) != size or hashlib.sha256(data).hexdigest() != sha:
            raise Damage("%s is damaged: its bytes are not those that were written" % name)
        stream = Stream(self, name, sha, size)
        try:
            out = []
            got = 0
            for chunk in stream:
                got += len(chunk)
                if got > MANIFEST_MAX:
                    raise Damage("%s unpacks to more than 64 MiB" % name)
                out.append(chunk)
            stream.finish()
        finally:
            stream.close()
        return b"".join(out)


def program(name):
    path = shutil.which(name)
    if not path:
        raise Failed("the program `%s` is needed and not installed (package %s)" % (name, name))
    return path


class Stream:
    """The content of one object: object -> age -d -> zstd -d -> here. Iterate, then `finish`; always `close`."""

    def __init__(self, opener, name, sha, size):
        self.name, self.sha, self.size = name, sha, size
        self.source = opener.store.open(name)
        self.fault = None
        self.hash_ok = None
        self.stopped = self.aborted = False
        self.errors = tempfile.TemporaryFile()
        args, fds = [program("age"), "-d"], ()
        for path in opener.files:
            args += ["-i", path]
        if opener.text:
            # Through a pipe: a secret belongs neither in arguments nor in a file of ours.
            out, into = os.pipe()
            os.write(into, opener.text.encode())
            os.close(into)
            args += ["-i", "/dev/fd/%d" % out]
            fds = (out,)
        self.age = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                    pass_fds=fds)
        for fd in fds:
            os.close(fd)
        self.zstd = subprocess.Popen([program("zstd"), "-d", "-q", "-c", "--memory=8MiB"], stdin=self.age.stdout,
                                     stdout=subprocess.PIPE, stderr=self.errors)
        self.age.stdout.close()
        self.feeder = threading.Thread(target=self._feed, daemon=True)
        self.feeder.start()

    def _feed(self):
        # Whoever stops reading early still gets the whole object hashed: extents are believed only then.
        digest, total, first, piping = hashlib.sha256(), 0, True, True
        try:
            while not self.aborted:
                data = self.source.read(CHUNK)
                if not data:
                    break
                if first and not (data.startswith(b"age-encryption.org/v1\n") and b"\n--- " in data[:HEADER_MAX]):
                    piping = False
                    self.fault = "it is not an age file"
                first = False
                digest.update(data)
                total += len(data)
                if total > self.size:
                    break
                if piping:
                    try:
                        self.age.stdin.write(data)
                    except OSError:
                        piping = False
        except OSError as e:
            self.fault = "it cannot be read: %s" % e.strerror
        try:
            self.age.stdin.close()
        except OSError:
            pass
        self.hash_ok = total == self.size and digest.hexdigest() == self.sha

    def __iter__(self):
        while True:
            data = self.zstd.stdout.read(CHUNK)
            if not data:
                return
            yield data

    def stop(self):
        """Nothing more is wanted: the rest is hashed but not opened."""
        self.stopped = True
        self.zstd.stdout.close()

    def finish(self):
        """Raises unless the object was the right one and, if read to its end, opened without fault."""
        self.feeder.join()
        codes = self.age.wait(), self.zstd.wait()
        if not self.hash_ok:
            raise Damage("%s is damaged: %s" % (
                self.name, self.fault or "its bytes are not those that were written (size or SHA-256 differ)"))
        if self.stopped or codes == (0, 0):
            return
        self.errors.seek(0)
        text = self.errors.read(4000).decode("utf-8", "replace").strip()
        if "no identity matched" in text or "incorrect passphrase" in text or "identity" in text and "age:" in text:
            raise Failed("the identity given does not open %s. Use the one that was current when the snapshot was "
                         "made; the kit keeps old ones. (%s)" % (self.name, shown(text.splitlines()[0])))
        if "age: error: reading" in text:
            # A key that is mistyped is no key; age says in which line, and not what is on it.
            raise Failed("age cannot use the identity given: is it typed right? (%s)" % shown(text.splitlines()[0]))
        raise Damage("%s has the right hash but cannot be unpacked: %s" % (self.name, self.fault or shown(text)))

    def close(self):
        self.aborted = True
        for process in (self.age, self.zstd):
            if process.poll() is None:
                process.kill()
        self.feeder.join()
        for process in (self.age, self.zstd):
            process.wait()
        self.zstd.stdout.close()
        self.source.close()
        self.errors.close()


# ---------------------------------------------------------------- manifests

def json_lines(data, what):
    if not data.endswith(b"\n"):
        raise Damage("%s: its last line is cut off" % what)
    start = 0
    number = 0
    while start < len(data):
        end = data.index(b"\n", start)
        number += 1
        yield parse_line(data[start:end], "%s, line %d" % (what, number))
        start = end + 1


def read_header(lines, kind, what):
    header = next(lines, None)
    check_version(header, what)
    if get(header, "type", str, what) != kind:
        raise Damage("%s is not a %s" % (what, kind))
    return header


class Archives:
    """The `archives` of a segment's or map's header, checked against the record."""

    def __init__(self, header, snapshot, allowed, what):
        self.names, self.tars, self.frames = [], [], []
        for row in get_list(header, "archives", dict, what):
            sha, size = get_match(row, "sha256", HEX64, what), get_count(row, "size", what)
            snapshot.require("archive", sha, size, what)
            if sha not in allowed or sha in self.names:
                raise Damage("%s: archive %s is not among its component's archives" % (what, sha))
            tar, payload = get_count(row, "tar", what), get_count(row, "payload", what)
            end = plain_end = 0
            starts, ends = [], []
            for frame in get(row, "frames", list, what):
                if not is_row(frame, int, int, int, int) or min(frame) < 0 or frame[0] < end or \
                        not 0 < frame[3] <= FRAME_MAX or frame[1] < plain_end:
                    raise Damage("%s: the frames of archive %s are malformed" % (what, sha))
                end, plain_end = frame[0] + frame[3], frame[1] + frame[2]
                starts.append(frame[0])
                ends.append(end)
            if end > tar or plain_end > size or payload >= size or snapshot.tars.setdefault(sha, tar) != tar:
                raise Damage("%s: the description of archive %s is impossible" % (what, sha))
            self.names.append(sha)
            self.tars.append(tar)
            self.frames.append((starts, ends))

    def covered(self, archive, start, end):
        starts, ends = self.frames[archive]
        at = bisect.bisect_right(starts, start) - 1
        while at >= 0 and start < end:
            if at >= len(starts) or not starts[at] <= start < ends[at]:
                return False
            start = ends[at]
            at += 1
        return start >= end

    def extents(self, rows, low, high, what):
        """Checked rows as (file offset, archive name, tar offset, length)."""
        out = []
        end = low
        for row in rows:
            if not is_row(row, int, int, int, int):
                raise Damage("%s: an extent is malformed" % what)
            offset, archive, tar, length = row
            if offset < end or length <= 0 or offset + length > high or \
                    offset // MAP_RANGE != (offset + length - 1) // MAP_RANGE:
                raise Damage("%s: extents overlap, are out of order, empty or out of bounds" % what)
            if not 0 <= archive < len(self.names) or tar < 0 or tar + length > self.tars[archive]:
                raise Damage("%s: an extent lies outside of every archive" % what)
            if not self.covered(archive, tar, tar + length):
                raise Damage("%s: an extent lies in no listed frame" % what)
            end = offset + length
            out.append((offset, self.names[archive], tar, length))
        return out


class Entry:
    """One line of a segment, checked."""

    __slots__ = ("path", "type", "mode", "uid", "gid", "user", "group", "mtime", "size", "extents", "maps",
                 "target", "link", "dev", "xattrs", "why", "flags", "twin")

    def __init__(self, doc, archives, what):
        if type(doc) is not dict:
            raise Damage("%s: not an entry" % what)
        self.path = check_path(text_or_b64(doc, "path", what), what)
        what = "%s: %s" % (what, shown(self.path))
        self.type = get(doc, "type", str, what)
        if self.type not in TYPES:
            raise Damage("%s: unknown type %s" % (what, shown(self.type)))
        self.extents, self.maps, self.target, self.link, self.dev = [], [], None, None, None
        self.xattrs, self.size, self.why, self.flags, self.twin = {}, 0, None, [], None
        if self.type == "left":
            self.why = get(doc, "why", str, what)
            if self.why not in REASONS:
                raise Damage("%s: unknown reason" % what)
            return
        self._metadata(doc, what)
        if self.type == "file":
            self._content(doc, archives, what)
        elif any(key in doc for key in ("size", "hash", "extents", "maps")):
            raise Damage("%s: only files have content" % what)
        if self.link is not None:
            self.twin = self._common(doc)

    def _common(self, doc):
        """A digest of what all names of one inode must have in common."""
        if self.type != "file":
            # It was looked at name by name, and may have changed in between: only what it is must be the same.
            return hashlib.sha256(repr((self.type, self.target, self.dev)).encode()).digest()
        # Archives by name: indexes differ by segment.
        fields = {k: v for k, v in doc.items() if k not in ("path", "path_b64", "extents")}
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode("utf-8", "surrogatepass"))
        digest.update(repr(self.extents).encode())
        return digest.digest()

    def _metadata(self, doc, what):
        self.mode = int(get_match(doc, "mode", OCTAL4, what), 8)
        self.uid, self.gid = get_count(doc, "uid", what), get_count(doc, "gid", what)
        self.user = get(doc, "user", str, what) if "user" in doc else None
        self.group = get(doc, "group", str, what) if "group" in doc else None
        mtime = get(doc, "mtime", list, what)
        if not (is_row(mtime, int, int) or is_row(mtime, Wide, int)) or not 0 <= mtime[1] < 10**9 or \
                max(self.uid, self.gid) >= 1 << 32:
            raise Damage("%s: its time or owner is malformed" % what)
        self.mtime = int(mtime[0]) * 10**9 + mtime[1]
        for name, value in (get(doc, "xattrs", dict, what) if "xattrs" in doc else {}).items():
            if not name or "\0" in name or type(value) is not str:
                raise Damage("%s: an extended attribute is malformed" % what)
            self.xattrs[name] = unbase64(value, what)
        self.flags = get_list(doc, "flags", str, what) if "flags" in doc else []
        self.link = get_match(doc, "link", HEX16, what) if "link" in doc else None
        if (self.type == "symlink") != ("target" in doc or "target_b64" in doc):
            raise Damage("%s: symbolic links, and only they, have a target" % what)
        if self.type == "symlink":
            self.target = text_or_b64(doc, "target", what)
            if not 0 < len(self.target) <= PATH_MAX or b"\0" in self.target:
                raise Damage("%s: its target is malformed" % what)
        if (self.type in ("char", "block")) != ("dev" in doc):
            raise Damage("%s: devices, and only they, have device numbers" % what)
        if "dev" in doc:
            self.dev = doc["dev"]
            if not is_row(self.dev, int, int) or min(self.dev) < 0 or max(self.dev) >= 1 << 32:
                raise Damage("%s: its device numbers are malformed" % what)

    def _content(self, doc, archives, what):
        self.size = get_count(doc, "size", what)
        get_match(doc, "hash", B3, what)
        if "extents" in doc and "maps" in doc:
            raise Damage("%s: it has both extents and maps" % what)
        if "maps" in doc:
            last = -1
            for row in get(doc, "maps", list, what):
                if not is_row(row, int, str, int) or row[0] <= last or row[0] % MAP_RANGE or \
                        row[0] >= self.size or not HEX64.match(row[1]) or row[2] <= 0:
                    raise Damage("%s: its maps are malformed" % what)
                last = row[0]
                self.maps.append(row)
        elif "extents" in doc:
            self.extents = archives.extents(get(doc, "extents", list, what), 0, self.size, what)


class Component:
    """A line of the index."""

    def __init__(self, doc, line, snapshot, what):
        if type(doc) is not dict:
            raise Damage("%s: not a component" % what)
        self.name = get_match(doc, "component", COMPONENT, what)
        what = "%s: component %s" % (what, self.name)
        for key, kind in (("number", int), ("size", int), ("entries", int), ("complete", bool), ("check", str)):
            if get(doc, key, kind, what) != line[key]:
                raise Damage("%s: its %s is not what the record says" % (what, key))
        self.single, self.complete = get(doc, "single", bool, what), doc["complete"]
        self.kind, self.base = get(doc, "kind", str, what), get(doc, "base", str, what)
        self.instant = get_match(doc, "instant", TIME, what)
        self.entries, self.size = doc["entries"], doc["size"]
        self.rules = get_list(doc, "rules", str, what)
        self.archives = set()
        for sha in get_list(doc, "archives", str, what):
            snapshot.require("archive", sha, None, what)
            self.archives.add(sha)
        self.segments = []
        for row in get_list(doc, "segments", dict, what):
            sha, size = get_match(row, "sha256", HEX64, what), get_count(row, "size", what)
            snapshot.require("manifest", sha, size, what)
            first = check_path(text_or_b64(row, "first", what), what)
            last = check_path(text_or_b64(row, "last", what), what)
            self.segments.append((sha, size, get_count(row, "entries", what), first, last))
        if sum(s[2] for s in self.segments) != self.entries:
            raise Damage("%s: its segments do not hold as many entries as it has" % what)


class Snapshot:
    """A record with its index, and everything below by way of `walk`."""

    def __init__(self, record, opener):
        self.record, self.opener, self.id = record, opener, record.id
        self.rows = record.objects()
        self.objects = {row[2]: (row[0], row[1]) for row in self.rows}
        self.tars = {}
        sha = record.fields["index"]
        what = "the index of %s" % self.id
        lines = json_lines(opener.manifest(sha, self.objects[sha][1]), what)
        self.index = read_header(lines, "index", what)
        for key, ours in (("vault", record.vault), ("snapshot", self.id), ("host", record.host)):
            if get(self.index, key, str, what) != ours:
                raise Damage("%s names another %s than the record" % (what, key))
        docs = list(lines)
        told = record.fields["components"]
        if len(docs) != len(told):
            raise Damage("%s has another number of components than the record" % what)
        self.components = [Component(doc, line, self, what) for doc, line in zip(docs, told)]
        if len({c.name for c in self.components}) != len(docs):
            raise Damage("%s has two components of one name" % what)

    def require(self, kind, sha, size, what):
        known = self.objects.get(sha)
        if known is None or known[0] != kind or size not in (None, known[1]):
            raise Damage("%s: %s %s is not among the record's objects" % (what, kind, sha))

    def component(self, name):
        for c in self.components:
            if c.name == name:
                return c
        raise Failed("snapshot %s has no component %s; it has: %s" % (
            self.id, shown(name), ", ".join(c.name for c in self.components)))

    def walk(self, component, lost=None):
        """All entries of a component in order, with every check. `lost` gets what cannot be read, if given;
        without it that is raised."""
        order = Order(component)
        for sha, size, count, first, last in component.segments:
            what = "segment %s... of %s" % (sha[:12], component.name)
            try:
                lines = json_lines(self.opener.manifest(sha, size), what)
                header = read_header(lines, "segment", what)
            except TooNew:
                raise
            except Damage as e:
                if lost is None:
                    raise
                lost(e, component, first, last, count)
                order.torn = True
                continue
            if get(header, "component", str, what) != component.name:
                raise Damage("%s belongs to another component" % what)
            archives = Archives(header, self, component.archives, what)
            seen = 0
            for seen, doc in enumerate(lines, 1):
                entry = Entry(doc, archives, what)
                for row in entry.maps:
                    self.require("manifest", row[1], row[2], what)
                order.check(entry, what)
                if seen == 1 and entry.path != first:
                    raise Damage("%s begins with another path than the index says" % what)
                yield entry
            if seen != count or seen and order.last != last:
                raise Damage("%s does not hold what the index says" % what)
        order.finish()

    def map_extents(self, entry, component, row):
        """The extents of one range of a file."""
        offset, sha, size = row
        what = "map %s... of %s" % (sha[:12], component.name)
        lines = json_lines(self.opener.manifest(sha, size), what)
        archives = Archives(read_header(lines, "map", what), self, component.archives, what)
        return archives.extents(lines, offset, min(offset + MAP_RANGE, entry.size), what)


class Order:
    """Checks that paths increase and that every parent is a directory listed before."""

    def __init__(self, component):
        self.component, self.last, self.count, self.torn = component, None, 0, False
        self.dirs = []  # the chain of directories above the present entry

    def check(self, entry, what):
        path = entry.path
        self.count += 1
        if self.last is not None and walk_key(path) <= walk_key(self.last):
            raise Damage("%s: %s is out of order or listed twice" % (what, shown(path)))
        first, self.last = self.last is None, path
        if self.component.single:
            if not first or entry.type not in ("file", "left") or b"/" in path or path == b".":
                raise Damage("%s: a component of one file holds something else" % what)
            return
        if first and not self.torn and (path != b"." or entry.type != "dir"):
            raise Damage("%s: the first entry is not the root" % what)
        if path != b".":
            parent = parent_of(path)
            while self.dirs and self.dirs[-1] != parent:
                self.dirs.pop()
            if not self.dirs and not self.torn:
                raise Damage("%s: %s lies below something that is not a directory" % (what, shown(path)))
        if entry.type == "dir":
            self.dirs.append(path)

    def finish(self):
        if not self.torn and self.count != self.component.entries:
            raise Damage("component %s has another number of entries than it says" % self.component.name)


# ---------------------------------------------------------------- restoring

DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | getattr(os, "O_CLOEXEC", 0)
FILE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
# Making: trouble of one entry, which does not stop the others. A full disk does.
OF_ONE_ENTRY = codes("ENAMETOOLONG", "EINVAL", "EILSEQ", "EPERM", "EACCES", "EEXIST", "ENOENT", "ENOTDIR", "ELOOP",
                     "EFBIG", "EMLINK", "ENOTSUP", "EOPNOTSUPP", "EOVERFLOW", "ENOSYS")
# There are no hard links here, or no more of this file.
NO_LINK = codes("EPERM", "EACCES", "ENOTSUP", "EOPNOTSUPP", "EMLINK", "ENOSYS", "EXDEV")
NO_ROOM = codes("ENOSPC", "EDQUOT")
# The disk or the file system itself: what was written may be lost as well, and must not pass for restored. Whatever
# else is said when metadata are set is about what the file system holds of them, and the content is there already.
BROKEN = OF_THE_MACHINE | codes("EIO", "EROFS", "ENODEV", "ENXIO", "ESTALE", "EUCLEAN", "EBADMSG", "EREMOTEIO", "ENOMEDIUM",
                                "ENOTCONN", "ECONNABORTED", "ECONNRESET", "ESHUTDOWN", "ETIMEDOUT", "EHOSTDOWN",
                                "EHOSTUNREACH", "EBADF")


class Tree:
    """A folder we alone write to; reaches what lies in it one name at a time and never follows a link."""

    KEEP = 48

    def __init__(self, root_fd):
        self.root, self.cache = root_fd, {}

    def dir(self, path):
        """A descriptor of directory `path`, owned by this object and good until the next call."""
        if path == b"":
            return self.root
        if path in self.cache:
            self.cache[path] = self.cache.pop(path)
            return self.cache[path]
        parts, depth, fd = path.split(b"/"), 0, self.root
        for n in range(len(parts) - 1, 0, -1):
            known = self.cache.get(b"/".join(parts[:n]))
            if known is not None:
                depth, fd = n, known
                break
        borrowed = fd
        try:
            for part in parts[depth:]:
                below = os.open(part, DIR_FLAGS, dir_fd=fd)
                if fd != borrowed:
                    os.close(fd)
                fd = below
        except OSError:
            if fd != borrowed:
                os.close(fd)
            raise
        while len(self.cache) >= self.KEEP:
            os.close(self.cache.pop(next(iter(self.cache))))
        self.cache[path] = fd
        return fd

    def at(self, path):
        """(descriptor of the parent, name)"""
        parent, _, name = path.rpartition(b"/")
        return self.dir(parent), name

    def forget(self):
        for fd in self.cache.values():
            os.close(fd)
        self.cache = {}


class Spool:
    """Planned entries on disk: a million of them must not fill the memory."""

    def __init__(self, folder):
        self.file = tempfile.TemporaryFile(dir=folder)
        self.starts = array.array("Q")
        self.end = 0

    def add(self, fields):
        data = json.dumps(fields).encode()
        self.file.write(struct.pack(">I", len(data)) + data)
        self.starts.append(self.end)
        self.end += 4 + len(data)

    def get(self, number):
        self.file.seek(self.starts[number])
        size = struct.unpack(">I", self.file.read(4))[0]
        return json.loads(self.file.read(size).decode())

    def __len__(self):
        return len(self.starts)


def latin(raw):
    return None if raw is None else raw.decode("latin-1")


class Restore:
    """One restore: plan everything, make the tree, pour in the bytes, set the metadata, give it its name."""

    EXTENT = struct.Struct(">QQQQ")

    def __init__(self, snapshot, options, problems):
        self.snapshot, self.options, self.problems = snapshot, options, problems
        self.todo = {}        # archive -> packed rows (tar offset, length, entry number, file offset)
        self.first = {}       # (component, link) -> (entry number, digest of what the names have in common)
        self.bad = set()      # entry numbers that cannot be had
        self.skipped = set()  # entry numbers that could not be made
        self.apart = {}       # entry number -> why this further name of a file could not be a hard link
        self.torn = set()     # components of whose listing a part cannot be read
        self.notes = {}
        self.bytes = 0
        self.damage = []
        self.owners = {}

    # -- the target

    def run(self):
        target = os.path.abspath(self.options.to)
        parent, name = os.path.split(target.rstrip("/"))
        if not name:
            raise Failed("the target cannot be the root")
        self.check_target(target, parent, name)
        try:
            partial = tempfile.mkdtemp(prefix=".%s.partial-" % name, dir=parent)
        except OSError as e:
            raise Failed("a folder cannot be made in %s: %s" % (shown(parent), e.strerror))
        for name in ("system.posix_acl_default", "system.posix_acl_access"):
            try:
                os.removexattr(partial, name)  # what the parent hands down is not in the snapshot
            except (OSError, AttributeError):
                pass
        done = False
        try:
            self.fill(partial)
            sync(partial)
            try:
                # Replaces an empty folder and nothing else.
                os.rename(partial, target)
            except OSError as e:
                raise Failed("%s cannot get its name: %s" % (shown(target), e.strerror))
            done = True
            sync_dir(parent)
        finally:
            if not done:
                say("removing the unfinished %s" % shown(partial))
                subprocess.run(["chmod", "-R", "u+rwX", "--", partial], stderr=subprocess.DEVNULL)
                subprocess.run(["rm", "-rf", "--", partial])

    def check_target(self, target, parent, name):
        if not os.path.isdir(parent):
            raise Failed("%s does not exist; make it first" % shown(parent))
        for old in os.listdir(parent):
            if old.startswith(".%s.partial-" % name):
                say("NOTE: %s is left over from a restore that was killed; it can be deleted" % shown(
                    os.path.join(parent, old)))
        if not os.path.lexists(target):
            return
        if os.path.islink(target) or not os.path.isdir(target):
            raise Failed("%s is there already and is not a folder" % shown(target))
        if os.listdir(target):
            raise Failed("%s is not empty. Nothing is ever written over: give a new folder" % shown(target))
        if os.path.ismount(target):
            raise Failed("%s is a mount point and cannot be exchanged; give a folder inside it, for example %s"
                         % (shown(target), shown(os.path.join(target, "restored"))))

    def fill(self, partial):
        root = os.open(partial, DIR_FLAGS)
        try:
            self.spool = Spool(partial)
            self.tree = Tree(root)
            self.plan()
            self.preflight(partial)
            self.make()
            self.pour()
            self.remove_bad()
            self.copy_all()
            self.finish_metadata()
            self.tree.forget()
            umask = os.umask(0)
            os.umask(umask)
            self.attempt({"path": "."}, "the mode of the new folder could not be set: it is 0700",
                         lambda: os.fchmod(root, 0o777 & ~umask))
        finally:
            self.tree.forget()
            os.close(root)

    # -- planning: nothing is written before all of this holds

    def plan(self):
        wanted = self.wanted()
        lost = self.lost_segment if self.options.keep_going else None
        for component in self.snapshot.components:
            select = wanted.get(component.name)
            if select is None:
                continue
            hit = {path: False for path in select}
            say("reading the listing of %s (%d entries, %s)" % (
                component.name, component.entries, human(component.size)))
            self.spool.add({"path": component.name, "type": "top"})
            for entry in self.snapshot.walk(component, lost):
                if self.selected(entry, select, hit):
                    self.plan_entry(component, entry, entry.path in select)
            self.not_found(component, [path for path, found in hit.items() if not found])
            if not component.complete:
                self.problems.add("component %s is incomplete in this snapshot: something could not be read when it "
                                  "was made" % component.name)

    def not_found(self, component, missing):
        if missing and component.name not in self.torn:
            raise Failed("component %s has no %s in snapshot %s. Nothing was restored: `ls` shows what is in it" % (
                component.name, ", ".join(shown(p) for p in missing), self.snapshot.id))
        for path in missing:
            self.problems.add("is not in what could be read of the snapshot: the listing that would name it is lost. Try "
                              "another store", component.name.encode() + b"/" + path)

    def wanted(self):
        """component -> paths wanted in it ([b"."]: all)"""
        wanted = {}
        for name in self.options.only or ([] if self.options.paths else [c.name for c in self.snapshot.components]):
            self.snapshot.component(name)
            wanted[name] = [b"."]
        for text in self.options.paths:
            name, _, path = os.fsencode(text).strip(b"/").partition(b"/")
            name = name.decode("utf-8", "replace")
            self.snapshot.component(name)
            if self.options.only and name not in self.options.only:
                raise Failed("%s is not in the components of --only" % shown(text))
            known = wanted.setdefault(name, [])
            if self.options.only and known == [b"."]:
                known.clear()
            known.append(path or b".")
        return wanted

    @staticmethod
    def selected(entry, select, hit):
        chosen = False
        for path in select:
            if path == b"." or entry.path == path or entry.path.startswith(path + b"/"):
                hit[path] = chosen = True
            elif entry.type == "dir" and (entry.path == b"." or path.startswith(entry.path + b"/")):
                chosen = True  # a parent: restored for its metadata
        return chosen

    def plan_entry(self, component, entry, named):
        if entry.type in ("left", "socket"):
            why = "socket (sockets are noted, never stored)" if entry.type == "socket" else entry.why
            if named:
                self.problems.add("was asked for by name and is not in the snapshot: %s" % why,
                                  component.name.encode() + b"/" + entry.path)
            elif entry.why == "unreadable":
                self.problems.add("could not be read when the snapshot was made, so is not in it",
                                  component.name.encode() + b"/" + entry.path)
            else:
                self.notes[why] = self.notes.get(why, 0) + 1
            return
        number = len(self.spool)
        path = component.name.encode() + (b"" if entry.path == b"." else b"/" + entry.path)
        same = None
        if entry.link is not None and entry.type != "dir":
            key = component.name, entry.link
            same, digest = self.first.setdefault(key, (number, entry.twin))
            if digest != entry.twin:
                raise Damage("%s: it and another name of the same file (link %s) differ" % (shown(path), entry.link))
            same = None if same == number else same
        if same is None:
            self.plan_content(component, entry, number)
        if "unsteady" in entry.flags:
            self.problems.add("changed while it was read, so may be a mixture", path)
        self.spool.add({"path": latin(path), "type": entry.type, "mode": entry.mode, "uid": entry.uid,
                        "gid": entry.gid, "user": entry.user, "group": entry.group, "mtime": entry.mtime,
                        "size": entry.size, "target": latin(entry.target), "dev": entry.dev, "same": same,
                        "xattrs": {k: latin(v) for k, v in entry.xattrs.items()}})

    def plan_content(self, component, entry, number):
        extents = entry.extents
        try:
            for row in entry.maps:
                self.schedule(self.snapshot.map_extents(entry, component, row), number)
        except TooNew:
            raise
        except Damage as e:
            if not self.options.keep_going:
                raise
            self.lose(e)
            self.bad.add(number)
        self.schedule(extents, number)

    def schedule(self, extents, number):
        for offset, archive, tar, length in extents:
            rows = self.todo.setdefault(archive, bytearray())
            rows += self.EXTENT.pack(tar, length, number, offset)
            self.bytes += length

    def lose(self, error):
        say("DAMAGE: %s" % error)
        self.damage.append(str(error))

    def lost_segment(self, error, component, first, last, count):
        self.lose(error)
        self.torn.add(component.name)
        self.problems.add("%d entries of %s are lost, because their listing is: those from the first of these to the "
                          "second" % (count, component.name), b"%s ... %s" % (first, last))

    def preflight(self, partial):
        for archive in list(self.todo):
            size = self.snapshot.objects[archive][1]
            name = object_name("archive", archive)
            try:
                with self.snapshot.opener.store.open(name) as f:
                    there = os.fstat(f.fileno()).st_size
                if there != size:
                    raise Damage("%s is damaged: it has %d bytes and must have %d" % (name, there, size))
            except Damage as e:
                self.lose(e)
                self.spoil(archive)
        if self.damage and not self.options.keep_going:
            raise Damage("objects of this snapshot are missing or damaged (see above); nothing was restored. Try "
                         "another store of this vault, or add --keep-going to get all that is whole")
        free = shutil.disk_usage(partial).free
        if self.bytes > free:
            raise Failed("there is not enough room: %s are needed, %s are free" % (human(self.bytes), human(free)))

    def spoil(self, archive):
        """Nothing that lies in this archive can be had."""
        for _tar, _length, number, _offset in self.EXTENT.iter_unpack(bytes(self.todo.pop(archive))):
            self.bad.add(number)

    # -- making

    def trouble(self, what, fields, error, of_the_entry):
        """A failure that is `of_the_entry` is a problem; any other stops."""
        path = fields["path"].encode("latin-1")
        if not of_the_entry:
            raise Failed("%s: %s: %s. Nothing was restored: see to the disk that holds the target, or give another"
                         % (shown(path), what, error.strerror))
        self.problems.add("%s: %s" % (what, error.strerror), path)

    def make(self):
        say("making the tree")
        for number in range(len(self.spool)):
            fields = self.spool.get(number)
            if number in self.bad or fields.get("same") in self.bad:
                continue
            try:
                self.make_one(number, fields, fields["path"].encode("latin-1"))
            except OSError as e:
                self.skipped.add(number)
                kinds = {"char": "a device was not made", "block": "a device was not made"}
                self.trouble(kinds.get(fields["type"], "could not be made"), fields, e, e.errno in OF_ONE_ENTRY)

    def make_one(self, number, fields, path):
        kind = fields["type"]
        if kind == "top" or kind == "dir" and b"/" not in path:
            # The component's own folder: there already when its root comes.
            try:
                os.mkdir(path, 0o700, dir_fd=self.tree.root)
            except FileExistsError:
                pass
            return
        if self.options.keep_going:
            self.make_parents(path)
        if fields["same"] is None:
            self.make_new(fields, *self.tree.at(path))
            return
        try:
            self.make_link(fields, path)
        except OSError as e:
            if e.errno not in NO_LINK:
                raise
            self.make_new(fields, *self.tree.at(path))
            self.apart[number] = e.strerror

    def make_link(self, fields, path):
        first = self.spool.get(fields["same"])["path"].encode("latin-1")
        first_dir, first_name = self.tree.at(first)
        first_dir = os.dup(first_dir)  # the next lookup may close it
        try:
            parent, name = self.tree.at(path)
            os.link(first_name, name, src_dir_fd=first_dir, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(first_dir)

    @staticmethod
    def make_new(fields, parent, name):
        kind = fields["type"]
        if kind == "dir":
            os.mkdir(name, 0o700, dir_fd=parent)
        elif kind == "symlink":
            os.symlink(fields["target"].encode("latin-1"), name, dir_fd=parent)
        elif kind == "fifo":
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif kind in ("char", "block"):
            form = stat.S_IFCHR if kind == "char" else stat.S_IFBLK
            os.mknod(name, form | 0o600, os.makedev(*fields["dev"]), dir_fd=parent)
        else:
            make_file(parent, name, fields["size"])

    def make_parents(self, path):
        """After the listing of a folder was lost, what lay in it still gets a place."""
        parts = path.split(b"/")
        for n in range(1, len(parts)):
            above = b"/".join(parts[:n])
            parent, name = self.tree.at(above)
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
                self.problems.add("a folder's own entry is lost: made with mode 0700", above)
            except FileExistsError:
                pass

    # -- content

    def pour(self):
        left = len(self.todo)
        for count, archive in enumerate(list(self.todo), 1):
            say("archive %d of %d (%s)" % (count, left, human(self.snapshot.objects[archive][1])))
            rows = self.todo[archive]
            size = self.EXTENT.size
            order = [bytes(rows[n:n + size]) for n in range(0, len(rows), size)]
            order.sort()
            try:
                self.pour_archive(archive, order)
            except TooNew:
                raise
            except Damage as e:
                if not self.options.keep_going:
                    raise Damage("%s\nNothing was restored. Try another store of this vault, or add --keep-going to "
                                 "get all that is whole" % e)
                self.lose(e)
                self.spoil(archive)
            else:
                del self.todo[archive]

    def pour_archive(self, archive, order):
        """Streams one archive once and writes every extent that lies in it. Extents may overlap in the tar
        stream: equal content of two files lies there once."""
        whole = self.snapshot.tars[archive]
        stream = self.snapshot.opener.stream("archive", archive, self.snapshot.objects[archive][1])
        files = OpenFiles(self)
        try:
            at, next_row, active, head = 0, 0, [], b""
            for chunk in stream:
                end = at + len(chunk)
                if end > whole:
                    raise Damage("%s unpacks to more than it may" % stream.name)
                if head is not None:
                    head = self.look_at_head(head + chunk, stream.name)
                while next_row < len(order):
                    row = self.EXTENT.unpack(order[next_row])
                    if row[0] >= end:
                        break
                    active.append(row)
                    next_row += 1
                view = memoryview(chunk)
                rest = []
                for row in active:
                    tar, length, number, offset = row
                    low, high = max(tar, at), min(tar + length, end)
                    files.write(number, view[low - at:high - at], offset + low - tar)
                    if tar + length > end:
                        rest.append(row)
                active = rest
                at = end
                if not active and next_row == len(order) and head is None:
                    stream.stop()
                    break
            stream.finish()
            if not stream.stopped and (active or next_row < len(order) or at != whole or head is not None):
                raise Damage("%s is shorter than its listing says" % stream.name)
        finally:
            files.close()
            stream.close()

    def look_at_head(self, data, name):
        """The first member says whose archive this is. Returns None when it was seen, else what came so far."""
        at = 0
        while len(data) >= at + 512:
            block = data[at:at + 512]
            try:
                size = int(block[124:136].strip(b" \0") or b"0", 8)
            except ValueError:
                raise Damage("%s does not begin as an archive must" % name)
            if block[156:157] == b"x" and size <= MIB:
                at += 512 + (size + 511) // 512 * 512
                continue
            if block[:100].rstrip(b"\0") != b".backstay/archive.json" or size > MIB:
                raise Damage("%s does not begin as an archive must" % name)
            if len(data) < at + 512 + size:
                return data
            doc = parse_line(data[at + 512:at + 512 + size].rstrip(b"\n"), name)
            check_version(doc, name)
            if doc.get("type") != "archive" or doc.get("vault") != self.snapshot.record.vault or \
                    doc.get("host") != self.snapshot.record.host:
                raise Damage("%s is an archive of another host or vault" % name)
            return None
        if len(data) > 4 * MIB:
            raise Damage("%s does not begin as an archive must" % name)
        return data

    def remove_bad(self):
        if not self.bad:
            return
        for number in range(len(self.spool)):
            fields = self.spool.get(number)
            if number not in self.bad and fields.get("same") not in self.bad:
                continue
            path = fields["path"].encode("latin-1")
            self.skipped.add(number)
            self.problems.add("lost: its bytes lie in a missing or damaged object", path)
            try:
                parent, name = self.tree.at(path)
                os.unlink(name, dir_fd=parent)
            except FileNotFoundError:
                pass

    # -- further names that could not be links

    def copy_all(self):
        """Gives them the content, when that of the first name is known to be whole."""
        for number, why in self.apart.items():
            if number in self.skipped:
                continue
            fields = self.spool.get(number)
            path = fields["path"].encode("latin-1")
            try:
                if fields["type"] == "file":
                    self.copy(fields, path)
            except OSError as e:
                self.skipped.add(number)
                parent, name = self.tree.at(path)
                os.unlink(name, dir_fd=parent)
                self.trouble("could not be a hard link (%s), and its content could not be copied either, so it is not there"
                             % why, fields, e, e.errno in OF_ONE_ENTRY | NO_ROOM)
            else:
                self.problems.add("is a file of its own and no hard link to its other names, because the target's file "
                                  "system refused one (%s): what changes in one of them does not in the others" % why, path)

    def copy(self, fields, path):
        parent, name = self.tree.at(self.spool.get(fields["same"])["path"].encode("latin-1"))
        source = os.open(name, FILE_FLAGS | os.O_RDONLY, dir_fd=parent)
        try:
            parent, name = self.tree.at(path)
            into = os.open(name, FILE_FLAGS | os.O_WRONLY, dir_fd=parent)
            try:
                copy_content(source, into, fields["size"])
            finally:
                os.close(into)
        finally:
            os.close(source)

    # -- metadata: files first, directories from the deepest up, so that nothing disturbs what was set

    def finish_metadata(self):
        say("setting owners, modes, times")
        umask = os.umask(0)
        os.umask(umask)
        dirs = array.array("Q")
        for number in range(len(self.spool)):
            fields = self.spool.get(number)
            if fields["type"] == "dir":
                dirs.append(number)
            elif number not in self.skipped and fields["type"] != "top" and (
                    fields["same"] is None or number in self.apart):
                self.set_metadata(fields)
            elif fields["type"] == "top":
                name = fields["path"].encode("latin-1")
                self.attempt(fields, "its mode could not be set",
                             lambda: os.chmod(name, 0o777 & ~umask, dir_fd=self.tree.root))
        for number in reversed(dirs):
            if number not in self.skipped:
                self.set_metadata(self.spool.get(number))

    def set_metadata(self, fields):
        path = fields["path"].encode("latin-1")
        kind = fields["type"]
        try:
            if kind == "dir":
                fd = os.dup(self.tree.dir(path))
            elif kind == "file":
                parent, name = self.tree.at(path)
                fd = os.open(name, FILE_FLAGS | os.O_RDONLY, dir_fd=parent)
            else:
                self.set_by_name(fields, *self.tree.at(path))
                return
        except OSError as e:
            self.trouble("its metadata could not be set", fields, e, e.errno not in BROKEN)
            return
        try:
            mode = self.set_owner(fields, lambda u, g: os.fchown(fd, u, g))
            # Attributes before the mode: a read-only file takes none from an ordinary user.
            self.set_xattrs(fields, lambda k, v: os.setxattr(fd, k, v))
            self.attempt(fields, "its mode could not be set", lambda: os.fchmod(fd, mode))
            self.attempt(fields, "its time could not be set", lambda: os.utime(fd, ns=(fields["mtime"],) * 2))
        finally:
            os.close(fd)

    def set_by_name(self, fields, parent, name):
        """For what must not be opened: links, FIFOs, devices. The last part is never followed."""
        mode = self.set_owner(fields, lambda u, g: os.chown(name, u, g, dir_fd=parent, follow_symlinks=False))
        if fields["xattrs"]:
            by_fd = b"/proc/self/fd/%d/%s" % (parent, name)
            self.set_xattrs(fields, lambda k, v: os.setxattr(by_fd, k, v, follow_symlinks=False))
        if fields["type"] != "symlink":
            # Made by us in a folder only we can enter: this is no link, and chmod has no other way here.
            self.attempt(fields, "its mode could not be set", lambda: os.chmod(name, mode, dir_fd=parent))
        self.attempt(fields, "its time could not be set", lambda: os.utime(
            name, ns=(fields["mtime"],) * 2, dir_fd=parent, follow_symlinks=False))

    def attempt(self, fields, what, action):
        try:
            action()
        except OverflowError:
            self.problems.add(what + ": out of this system's range", fields["path"].encode("latin-1"))
        except OSError as e:
            self.trouble(what, fields, e, e.errno not in BROKEN)

    def set_owner(self, fields, chown):
        """Sets the owner and returns the mode to give: set-id bits only with the right owner."""
        uid = self.owner(pwd and pwd.getpwnam, "pw_uid", fields["user"], fields["uid"])
        gid = self.owner(grp and grp.getgrnam, "gr_gid", fields["group"], fields["gid"])
        mode = fields["mode"]
        try:
            chown(uid, gid)
        except OSError as e:
            if e.errno in BROKEN:
                self.trouble("its owner could not be set", fields, e, False)
            self.problems.add("the owner could not be set to %s:%s (%s)" % (
                shown(fields["user"] or uid), shown(fields["group"] or gid),
                e.strerror if os.geteuid() == 0 else "only root can"))
            if mode & 0o6000:
                self.problems.add("set-user-id or set-group-id was not set, because the owner could not be",
                                  fields["path"].encode("latin-1"))
            try:
                chown(-1, gid)
            except OSError:
                pass
            mode &= 0o1777
        return mode

    def owner(self, lookup, field, name, number):
        if self.options.numeric_owner or name is None or lookup is None:
            return number
        key = field, name
        if key not in self.owners:
            try:
                self.owners[key] = getattr(lookup(name), field)
            except (KeyError, ValueError):
                self.owners[key] = None
        return number if self.owners[key] is None else self.owners[key]

    def set_xattrs(self, fields, put):
        for name, value in fields["xattrs"].items():
            if not hasattr(os, "setxattr"):
                self.problems.add("extended attributes cannot be set on this system")
                return
            self.attempt(fields, "its extended attribute %s could not be set" % shown(name),
                         lambda: put(name, value.encode("latin-1")))


def make_file(parent, name, size):
    fd = os.open(name, FILE_FLAGS | os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent)
    try:
        os.ftruncate(fd, size)
    except OSError:
        os.unlink(name, dir_fd=parent)  # an empty file would pass for restored, and its other names would be linked to it
        raise
    finally:
        os.close(fd)


def stretches(fd, size):
    """[from, to) of what is not a hole: there may be terabytes of them."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except (OSError, AttributeError) as e:
            if getattr(e, "errno", None) == errno.ENXIO:
                return  # nothing but a hole from here on
            start, end = at, size  # what lies where cannot be asked for here
        yield start, min(end, size)
        at = end


def copy_content(source, into, size):
    for at, end in stretches(source, size):
        while at < end:
            data = os.pread(source, min(CHUNK, end - at), at)
            if not data:
                raise OSError(errno.EIO, "the other name is shorter than it was written")
            write_at(into, data, at)
            at += len(data)


def write_at(fd, data, offset):
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done


def sync(path):
    """Everything on the file system of `path` reaches the disk, before the new name says that it is there."""
    try:
        done = subprocess.run(["sync", "-f", path], stderr=subprocess.PIPE, env=dict(os.environ, LC_ALL="C"))
    except OSError:
        done = None
    if done and done.returncode == 0:
        return
    said = done.stderr.decode("utf-8", "replace") if done else ""
    # What the disk could not keep of what was written before is told here, and once. A `sync` without -f says something else.
    if any(os.strerror(code) in said for code in BROKEN | NO_ROOM):
        raise Failed("what was restored did not reach the disk, so nothing was: %s. See to that disk, or give another target"
                     % shown(said.strip()))
    os.sync()


def sync_dir(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)


class OpenFiles:
    """The files being written, some of them open."""

    KEEP = 32

    def __init__(self, restore):
        self.restore, self.fds = restore, {}

    def write(self, number, data, offset):
        if number in self.restore.skipped or number in self.restore.bad:
            return
        fd = self.fds.get(number)
        if fd is None:
            while len(self.fds) >= self.KEEP:
                os.close(self.fds.pop(next(iter(self.fds))))
            path = self.restore.spool.get(number)["path"].encode("latin-1")
            parent, name = self.restore.tree.at(path)
            fd = self.fds[number] = os.open(name, FILE_FLAGS | os.O_WRONLY, dir_fd=parent)
        write_at(fd, data, offset)

    def close(self):
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}


# ---------------------------------------------------------------- commands

def command_list(vault, _opener, _options):
    print("%-25s  %-9s  %-8s  %-8s  %10s  %-5s  %s" % (
        "SNAPSHOT", "PROOF", "KIND", "HOST", "SIZE", "WHOLE", "TAGS"))
    for record in vault.records:
        if record.error:
            print("%-25s  %-9s  %s" % (os.path.basename(record.name)[:25], vault.state(record), shown(record.error)))
            continue
        f = record.fields
        tags, milestone = vault.labels(record)
        tags += ["(milestone)"] if milestone else []
        print("%-25s  %-9s  %-8s  %-8s  %10s  %-5s  %s" % (
            record.id, vault.state(record), f["kind"], record.host[:8],
            human(sum(c["size"] for c in f["components"])), "yes" if f["complete"] else "NO", shown(" ".join(tags))))
    if not vault.checked:
        say("\nNothing was checked: %s." % (
            "ssh-keygen is not installed" if not vault.keygen.program else
            "no trusted key was given (--trust 'ssh-ed25519 AAAA...', from the kit)"))
    code = OK
    for signer, faults in vault.breaks:
        for fault in faults:
            say("HISTORY of host %s: %s" % (vault.host_of(signer)[:8], fault))
            code = DAMAGED
    for doc in vault.damaged():
        say("DAMAGED: %s" % shown(doc.error))
        code = DAMAGED
    return code


def command_show(vault, opener, options):
    record = vault.find(options.id, options.host, True)
    snapshot = Snapshot(record, opener)
    index, f = snapshot.index, record.fields
    if options.config:
        sys.stdout.write(get(index, "config", str, "the index"))
        return OK
    for label, value in (
            ("snapshot", "%s (%s, %s)" % (record.id, f["kind"], vault.state(record))),
            ("host", "%s (%s)" % (index.get("hostname"), record.host)), ("project", index.get("project")),
            ("begun", f["started"]), ("note", index.get("note") or "-"), ("tags", " ".join(vault.labels(record)[0]) or "-"),
            ("complete", "yes" if f["complete"] else "NO: something could not be read"),
            ("alone", "yes: `tar` is enough, see RECOVER.md" if f["alone"] else "no: use `restore`"),
            ("objects", "%d, %s" % (len(snapshot.rows), human(sum(row[1] for row in snapshot.rows)))),
            ("configuration", "%s (print it: show %s --config)" % (index.get("config_path"), record.id))):
        print("%-14s %s" % (label, shown(value)))
    print("\n%-20s  %-8s  %9s  %10s  %-8s  %s" % ("COMPONENT", "KIND", "ENTRIES", "SIZE", "CHECK", "CAME FROM"))
    for c, line in zip(snapshot.components, f["components"]):
        print("%-20s  %-8s  %9d  %10s  %-8s  %s" % (
            c.name, shown(c.kind), c.entries, human(c.size), line["check"], shown(c.base)))
    return OK


def command_ls(vault, opener, options):
    snapshot = Snapshot(vault.find(options.id, options.host, True), opener)
    if options.path is None:
        for c in snapshot.components:
            print("%s/  (%d entries, %s)" % (c.name, c.entries, human(c.size)))
        return OK
    name, _, path = os.fsencode(options.path).strip(b"/").partition(b"/")
    component = snapshot.component(name.decode("utf-8", "replace"))
    found = False
    letters = {"file": "-", "dir": "d", "symlink": "l", "fifo": "p", "char": "c", "block": "b", "socket": "s"}
    for e in snapshot.walk(component):
        if path and e.path != path and not e.path.startswith(path + b"/"):
            continue
        found = True
        if e.type == "left":
            print("?         %-17s  %10s  %-19s  %s" % ("not stored", "", e.why, shown(e.path)))
            continue
        try:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(e.mtime // 10**9))
        except (ValueError, OverflowError, OSError):
            when = str(e.mtime // 10**9)
        owner = "%s:%s" % (e.user or e.uid, e.group or e.gid)
        arrow = " -> " + shown(e.target) if e.target is not None else ""
        print("%s%04o     %-17s  %10d  %-19s  %s%s" % (
            letters[e.type], e.mode, shown(owner), e.size, when, shown(e.path), arrow))
    if not found:
        raise Failed("component %s has no %s in snapshot %s" % (component.name, shown(path), snapshot.id))
    return OK


def check_object(store, name, size, sha):
    digest, total = hashlib.sha256(), 0
    with store.open(name) as f:
        while True:
            try:
                data = f.read(CHUNK)
            except OSError as e:
                raise Damage("%s cannot be read: %s" % (name, e.strerror))
            if not data:
                break
            digest.update(data)
            total += len(data)
    if total != size or digest.hexdigest() != sha:
        raise Damage("%s is damaged: size or SHA-256 differ" % name)


def command_check(vault, opener, options):
    record = vault.find(options.id, options.host, options.unsigned)
    bad = 0
    objects = record.objects()
    for number, (kind, size, sha, _set) in enumerate(objects, 1):
        name = object_name(kind, sha)
        if number % 100 == 0 or kind == "archive":
            say("%d of %d: %s" % (number, len(objects), name))
        try:
            check_object(vault.store, name, size, sha)
        except Damage as e:
            bad += 1
            say("DAMAGE: %s" % shown(e))
    if bad:
        raise Damage("%d of %d objects of %s are missing or damaged" % (bad, len(objects), record.id))
    if opener.files or opener.text:
        opener.ready()
        snapshot = Snapshot(record, opener)
        for component in snapshot.components:
            for entry in snapshot.walk(component):
                for row in entry.maps:
                    snapshot.map_extents(entry, component, row)
        print("%s: all %d objects are whole, and its listings open and agree" % (record.id, len(objects)))
    else:
        print("%s: all %d objects are whole (with -i IDENTITY its listings would be opened too)" % (
            record.id, len(objects)))
    return OK


def command_restore(vault, opener, options):
    record = vault.find(options.id, options.host, options.unsigned)
    say("snapshot %s, begun %s" % (record.id, record.fields["started"]))
    problems = Problems()
    restore = Restore(Snapshot(record, opener), options, problems)
    restore.run()
    for why, count in sorted(restore.notes.items()):
        say("not in the snapshot, by design: %d x %s" % (count, why))
    if problems.kinds:
        say("\nRestored to %s, with problems:" % shown(options.to))
        problems.report()
    if restore.damage:
        say("\nDAMAGE: %d objects are missing or damaged; what needs them is not in %s. Try another store." % (
            len(restore.damage), shown(options.to)))
        return DAMAGED
    if problems.kinds:
        return PROBLEMS
    say("Restored to %s. Everything is there." % shown(options.to))
    return OK


def arguments(argv):
    def add_common(p, top):
        # The same options before and after the command; what is not given after it must not undo the first.
        nothing = {} if top else {"default": argparse.SUPPRESS}
        many = {"action": "append", "metavar": "X"}
        p.add_argument("-i", "--identity", **dict(many, metavar="FILE"), dest="identity" if top else "identity2",
                       help="file with the age identity (AGE-SECRET-KEY-1...); repeatable")
        p.add_argument("--trust", **dict(many, metavar="KEY"), dest="trust" if top else "trust2",
                       help="a trusted key, `ssh-ed25519 AAAA... [roles=host,verify,prune]`; repeatable")
        p.add_argument("--trust-file", **dict(many, metavar="FILE"), dest="trust_file" if top else "trust_file2",
                       help="file of such lines (allowed_signers form will do)")
        p.add_argument("--kit", metavar="FILE", help="a recovery kit with the identity and `trusted` lines", **nothing)
        p.add_argument("--vault", metavar="ID", help="the vault id, from the kit", **nothing)
        p.add_argument("--host", metavar="ID", help="(beginning of) a host id, for `latest`", **nothing)
        p.add_argument("--unsigned", "--accept-untrusted", action="store_true",
                       help="go on though nothing proves who wrote the snapshot", **nothing)

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", metavar="STORE_DIR", help="the folder that holds backstay.json")
    add_common(parser, True)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True

    def command(name, action, text, needs_identity):
        p = commands.add_parser(name, help=text, description=text)
        add_common(p, False)
        p.set_defaults(action=action, needs_identity=needs_identity)
        return p

    command("list", command_list, "lists snapshots", False)
    p = command("show", command_show, "shows a snapshot and its components", True)
    p.add_argument("id", metavar="ID", help="a snapshot id, a unique beginning of one, or `latest`")
    p.add_argument("--config", action="store_true", help="prints the configuration file kept in it")
    p = command("ls", command_ls, "lists what is in a snapshot", True)
    p.add_argument("id", metavar="ID")
    p.add_argument("path", metavar="COMPONENT[/PATH]", nargs="?")
    p = command("restore", command_restore, "restores a snapshot, or parts of it, into a new folder", True)
    p.add_argument("id", metavar="ID")
    p.add_argument("paths", metavar="COMPONENT/PATH", nargs="*")
    p.add_argument("--to", metavar="DIR", required=True, help="the folder to make (or an empty one)")
    p.add_argument("--only", metavar="COMPONENT", action="append", help="only this component; repeatable")
    p.add_argument("--numeric-owner", action="store_true", help="owners by number, not by name")
    p.add_argument("--keep-going", action="store_true",
                   help="restore what is whole although objects are missing or damaged (exit code stays 13)")
    p = command("check", command_check, "reads every object of a snapshot and compares its hash", False)
    p.add_argument("id", metavar="ID")
    # argparse takes no paths after an option that follows the id: it hands them back as unknown.
    options, rest = parser.parse_known_args(argv)
    if rest and (options.command != "restore" or any(word.startswith("-") for word in rest if word != "--")):
        parser.error("unknown argument: %s" % rest[0])
    if options.command == "restore":
        options.paths += [word for word in rest if word != "--"]
    for name in ("identity", "trust", "trust_file"):
        both = (getattr(options, name) or []) + (getattr(options, name + "2", None) or [])
        setattr(options, name, both)
    return options


KIT_BEGIN, KIT_END = "-----BEGIN BACKSTAY KIT-----", "-----END BACKSTAY KIT-----"


def kit_check(text, size):
    """What stands at the end of a line of a kit: the beginning of its SHA-256 in base 32."""
    return base64.b32encode(hashlib.sha256(text.encode("utf-8")).digest()).decode().lower()[:size]


def kit_lines(lines, where):
    """(field, value) of each line of a kit's block, `sum` left out, when every line and the whole are as they were printed."""
    whole, out = "", []
    for number in range(1, len(lines) + 2):
        line = lines[number - 1] if number <= len(lines) else KIT_END
        parts = line.split()
        if line != KIT_END and (len(parts) != 4 or kit_check(" ".join(parts[:3]), 4) != parts[3]):
            raise Failed("%s: line %d of the kit's block is mistyped or incomplete: compare it with the paper, "
                         "capital and small letters, too" % (where, number))
        if line == KIT_END or parts[0] != str(number):
            raise Failed("%s: line %d of the kit's block is missing or not at its place" % (where, number))
        if number == 1 and (parts[1] != "kit" or parts[2] not in ("1", "locked-1")):
            raise Failed("%s is a kit of a form that this script does not know; use the recover.py of that version" % where)
        if parts[1] == "sum":
            if parts[2] != kit_check(whole, 16):
                raise Failed("%s: the lines of the kit's block do not belong together: one is from another kit" % where)
            if lines[number:number + 1] != [KIT_END]:
                break
            return out, lines[number + 1:]
        whole += " ".join(parts[:3]) + "\n"
        out.append((parts[1], parts[2]))
    raise Failed("%s: the kit's block is cut off, or its last line, %s, is mistyped" % (where, KIT_END))


def kit_value(text, where):
    if text == "-":
        return ""
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise Failed("%s: a value in the kit's block is malformed" % where)
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m.group(1), 16)]), text.encode("utf-8"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Failed("%s: a value in the kit's block is malformed" % where)


def kit_fields(text, where):
    """(name, value) of each field of a kit's block, and the lines that are not of it. No fields: there is no block."""
    lines = text.splitlines()
    bare = [re.sub(r"\A[\s>]*", "", line).rstrip() for line in lines]
    if KIT_BEGIN not in bare:
        if any(KIT_LINE.match(line) for line in bare):
            raise Failed("%s: the line %s is missing or mistyped" % (where, KIT_BEGIN))
        return [], lines
    begin = bare.index(KIT_BEGIN)
    pairs, rest = kit_lines([line for line in bare[begin + 1:] if line], where)
    if KIT_BEGIN in rest:
        raise Failed("%s holds more than one kit" % where)
    fields = []
    for name, value in pairs:
        if name == "+" and fields:
            fields[-1][1] += value
        else:
            fields.append([name, value])
    if fields[0][1] == "locked-1":
        raise Failed("%s is protected by a passphrase. This asks for it and writes the kit itself, which --kit then takes:\n"
                     "  awk '$2 == \"locked\" || $2 == \"+\" {printf \"%%s\", $3}' KIT | base64 -d | age -d > kit-open.txt" % where)
    return [(name, kit_value(value, where)) for name, value in fields], lines[:begin] + rest


class Kit:
    """What a recovery kit says: secret keys, vault, host and the heads of histories; its trusted keys go into `trusted`."""

    def __init__(self, path, trusted):
        fields, lines = kit_fields(read_text(path), path)
        self.vault = self.host = None
        self.heads, self.secrets, keys = {}, [], []
        for name, value in fields:
            if name == "trusted":
                keys.append(["ssh-ed25519 " + value, "", None])
            elif name == "trusted-host" and keys and HEX32.match(value):
                keys[-1][2] = value
            elif name == "trusted-roles" and keys:
                keys[-1][1] = value
            elif name == "identity":
                self.secrets.append(value)
            elif name in ("vault", "host"):
                setattr(self, name, value)
            elif name == "head":
                self._head(value, path)
        for key, roles, host in keys:
            # One without roles is named, and trusted for nothing; its chain is held to what is known of it all the same.
            trusted.add_key(key, {role for role in roles.split(",") if role}, path, host)
        if not fields:
            # A text that somebody wrote. Of a whole kit only the block counts: it has checks, and what is said beside it has none.
            self.secrets = SECRET_KEY.findall("\n".join(lines))
            for line in lines:
                self._trusted_line(line, trusted, path)

    def _head(self, value, path):
        head = re.match(r"\A([0-9a-f]{32}):([0-9]{1,10}):([0-9a-f]{64})\Z", value)
        if not head:
            raise Failed("%s: a head in the kit's block is malformed" % path)
        self.heads[head.group(1)] = (int(head.group(2)), head.group(3))

    @staticmethod
    def _trusted_line(line, trusted, path):
        words = line.strip(" \t#*|->").split()
        if words and words[0].lower().startswith("trusted") and PUBLIC_KEY.search(line):
            if "roles=" not in line:
                roles = [w for w in re.split(r"[\s,;()\[\]]+", PUBLIC_KEY.sub(" ", line)) if w in ROLES]
                line += " roles=" + ",".join(roles or ["host"])
            trusted.add(line, path)


def run(argv):
    options = arguments(argv)
    if not hasattr(os, "O_NOFOLLOW"):
        raise Failed("this needs Linux, macOS or another Unix")
    trusted, kit = TrustedKeys(), None
    for text in options.trust:
        trusted.add(text, "--trust")
    for path in options.trust_file:
        trusted.add_file(path)
    if options.kit:
        kit = Kit(options.kit, trusted)
    for path in options.identity:
        read_text(path)
    store = Store(options.store, options.vault or kit and kit.vault)
    opener = Opener(store, list(options.identity), kit.secrets if kit else [])
    if options.needs_identity:
        opener.ready()
    vault = Vault(store, trusted, kit.heads if kit else {})
    if kit and kit.host and not options.host:
        options.host = vault.host_of(kit.host)
    return options.action(vault, opener, options)


def stopped(number, _frame):
    raise KeyboardInterrupt(number)


def main():
    for out in (sys.stdout, sys.stderr):
        if out is not None:
            out.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, stopped)
    try:
        return run(sys.argv[1:])
    except TooNew as e:
        say("recover.py: %s" % e)
        return DAMAGED
    except Damage as e:
        say("recover.py: DAMAGE OR NO PROOF: %s" % e)
        return DAMAGED
    except Failed as e:
        say("recover.py: %s" % e)
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except OSError as e:
        say("recover.py: %s" % e)
        return FAILED
    except KeyboardInterrupt:
        say("recover.py: stopped")
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
