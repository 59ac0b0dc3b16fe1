#!/usr/bin/env python3
"""recover.py and RECOVER.md against vaults made by mini_vault.py, honest and hostile.

    python3 tests/recover_test.py [-v] [TestClass[.test_name]]

Without arguments all of them, in a process for each processor.

Needs age, age-keygen, zstd, ssh-keygen and GNU tar. Run as root it also tests owners, devices and trusted attributes.
"""

import ast
import hashlib
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "tools"))
sys.dont_write_bytecode = True
import mini_vault  # noqa: E402
from compare import RECOVER, compare, recover  # noqa: E402

RECOVER_MD = os.path.join(os.path.dirname(RECOVER), "RECOVER.md")
ROOT = os.geteuid() == 0
OK, FAILED, USAGE, PROBLEMS, DAMAGED = 0, 1, 2, 3, 13
SHARED = {}


def setUpModule():
    work = tempfile.mkdtemp(prefix="recover-test-")
    SHARED["work"] = work
    SHARED["vault"] = mini_vault.standard(os.path.join(work, "standard"))
    for name in ("one", "two"):
        SHARED[name] = mini_vault.Identity(os.path.join(work, name + ".txt"))
    for name in ("key", "other", "pruner"):
        SHARED[name] = mini_vault.Signer(os.path.join(work, name))


def tearDownModule():
    subprocess.run(["chmod", "-R", "u+rwX", SHARED["work"]], check=False)
    subprocess.run(["rm", "-rf", SHARED["work"]], check=True)


def signer(name):
    """A key at the beginning of its chain."""
    return mini_vault.Signer(os.path.join(SHARED["work"], name))


class Case(unittest.TestCase):
    """A folder of its own, with a canary beside everything."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(dir=SHARED["work"])
        self.to = os.path.join(self.dir, "restored")
        self.canary = os.path.join(self.dir, "canary")
        with open(self.canary, "w") as f:
            f.write("alive")

    def tearDown(self):
        with open(self.canary) as f:
            self.assertEqual(f.read(), "alive")
        left = [name for name in os.listdir(self.dir) if ".partial-" in name]
        self.assertEqual(left, [], "an unfinished folder was left behind")
        subprocess.run(["chmod", "-R", "u+rwX", self.dir], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", self.dir], check=True)

    def run_recover(self, code, *words, env=None, **options):
        done = recover(list(words), env=env, **options)
        self.assertEqual(done.returncode, code, "%s\n%s\n%s" % (words, done.stdout, done.stderr))
        self.assertNotIn("Traceback", done.stderr)
        return done

    def copy_store(self):
        store = os.path.join(self.dir, "store")
        subprocess.run(["cp", "-a", SHARED["vault"]["store"], store], check=True)
        return store

    def standard(self, code, *words, store=None, trust=True, identity=0, **options):
        v = SHARED["vault"]
        words = [store or v["store"], "-i", v["identities"][identity]] + list(words)
        return self.run_recover(code, *words, *(["--trust", v["trust"]] if trust else []), **options)

    def assert_equal_trees(self, snapshot, found=None, **options):
        expected = os.path.join(SHARED["vault"]["expected"], snapshot)
        self.assertEqual(compare(expected, found or self.to, **options), [])

    def assert_nothing_restored(self):
        self.assertFalse(os.path.lexists(self.to), "something was restored")


def damage(path, how):
    """Replaces a file by a damaged one (never changes it in place: names may be shared)."""
    with open(path, "rb") as f:
        data = bytearray(f.read())
    os.unlink(path)
    if how == "missing":
        return
    if how == "cut":
        data = data[:-1]
    elif how == "longer":
        data += b"\0"
    elif how == "empty":
        data = b""
    else:
        at = {"first": 0, "middle": len(data) // 2, "last": len(data) - 1}[how]
        data[at] ^= 1
    with open(path, "wb") as f:
        f.write(data)


def record_of(store, snapshot):
    with open(os.path.join(store, "snapshots", snapshot + ".json"), "rb") as f:
        return json.loads(f.readline())


def object_path(store, kind, sha):
    form = "archives/%s/%s.tar.zst.age" if kind == "archive" else "manifests/%s/%s.jsonl.zst.age"
    return os.path.join(store, form % (sha[:2], sha))


# ---------------------------------------------------------------- vaults of earlier programs

class Golden(Case):
    """What backstay itself wrote, committed once and never made again (tests/golden)."""

    GOLDEN = os.path.join(HERE, "golden")

    def vaults(self):
        found = sorted(name for name in os.listdir(self.GOLDEN) if os.path.isfile(os.path.join(self.GOLDEN, name, "kit.txt")))
        self.assertTrue(found, "there are no golden vaults")
        return [os.path.join(self.GOLDEN, name) for name in found]

    def expected(self, vault):
        """Snapshot -> path -> kind and mode, time, link target or SHA-256."""
        snapshots, current = {}, None
        with open(os.path.join(vault, "expected.txt")) as f:
            for line in f.read().splitlines():
                if line.startswith("# "):
                    current = snapshots.setdefault(line[2:], {})
                else:
                    path, what = line.split(" ", 1)
                    current[bytes.fromhex(path)] = what
        return snapshots

    def look(self, path):
        facts = os.lstat(path)
        what = "-"
        if stat.S_ISLNK(facts.st_mode):
            what = os.readlink(path).decode("utf8", "surrogateescape")
        elif stat.S_ISREG(facts.st_mode):
            with open(path, "rb") as f:
                what = hashlib.sha256(f.read()).hexdigest()
        return "%s %d %s" % (stat.filemode(facts.st_mode), facts.st_mtime_ns, what)

    def test_every_snapshot_of_every_golden_vault_comes_back_exactly(self):
        count = 0
        for vault in self.vaults():
            stores = sorted(name for name in os.listdir(vault) if os.path.isfile(os.path.join(vault, name, "backstay.json")))
            for store in stores:
                words = [os.path.join(vault, store), "--kit", os.path.join(vault, "kit.txt")]
                listed = self.run_recover(OK, *words, "list").stdout
                for snapshot, wanted in self.expected(vault).items():
                    if not os.path.exists(os.path.join(vault, store, "snapshots", snapshot + ".json")):
                        continue        # an absent mark says that it never came here; list would say 13 if none did
                    self.assertIn(snapshot, listed)
                    to = os.path.join(self.dir, "%s-%s-%s" % (os.path.basename(vault), store, snapshot))
                    # Owners are those of the machine that made it; an ordinary user is told that they cannot be set.
                    self.run_recover(OK if ROOT else PROBLEMS, *words, "restore", snapshot, "--to", to)
                    found = set()
                    for folder, folders, files in os.walk(os.fsencode(to)):
                        found.update(os.path.relpath(os.path.join(folder, name), os.fsencode(to)) for name in folders + files)
                    tops = {path.split(b"/")[0] for path in wanted}
                    made = tops | {os.path.dirname(path) for path in wanted}     # folders of a list are the restore's own
                    self.assertEqual(found - made, set(wanted) - made, snapshot)
                    for path, what in wanted.items():
                        got = self.look(os.path.join(os.fsencode(to), path))
                        same = got == what or (path in tops and what.startswith("d") and got.startswith("d"))
                        same = same or (what.startswith("? ? ") and got.split(" ")[2] == what[4:])     # a command's output
                        self.assertTrue(same, "%s: %r: %s became %s" % (snapshot, path, what, got))
                        count += 1
        self.assertGreater(count, 30)


# ---------------------------------------------------------------- the tools themselves

class Tools(unittest.TestCase):
    def test_blake3_in_python_is_blake3(self):
        known = {b"": "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
                 b"abc": "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"}
        for data, digest in known.items():
            self.assertEqual(mini_vault.blake3_pure(data).hex(), digest)
        if not mini_vault.B3SUM:
            self.skipTest("b3sum is not installed: longer inputs are not compared")
        for size in (1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3072, 5000, 8192, 8193, 31744, 70001):
            data = random.Random(size).randbytes(size)
            self.assertEqual(mini_vault.blake3_pure(data), mini_vault.blake3(data) if size > 8192 else bytes.fromhex(
                subprocess.run([mini_vault.B3SUM, "--no-names"], input=data, stdout=subprocess.PIPE,
                               check=True).stdout.decode().strip()), size)

    def test_the_comparison_sees_every_kind_of_difference(self):
        with tempfile.TemporaryDirectory(dir=SHARED["work"]) as work:
            a = os.path.join(work, "a")
            os.makedirs(a + "/c/d")
            mini_vault.put_file(os.fsencode(a) + b"/c/file", b"x" * 5000)
            mini_vault.put_file(os.fsencode(a) + b"/c/one", b"1")
            os.link(a + "/c/one", a + "/c/two")
            os.symlink("one", a + "/c/link")
            changes = {
                "missing": lambda b: os.unlink(b + "/c/file"),
                "too much": lambda b: os.mkdir(b + "/new"),
                "mode": lambda b: os.chmod(b + "/c/d", 0o700),
                "time": lambda b: os.utime(b + "/c/d", ns=(1, os.stat(b + "/c/d").st_mtime_ns + 1)),
                "content": lambda b: self.same_time(b + "/c/file", b"x" * 4999 + b"y"),
                "target": lambda b: (os.unlink(b + "/c/link"), os.symlink("two", b + "/c/link")),
                "hard links": lambda b: (os.unlink(b + "/c/two"), shutil.copy2(b + "/c/one", b + "/c/two")),
                "type": lambda b: (os.rmdir(b + "/c/d"), os.mkfifo(b + "/c/d")),
            }
            if ROOT:
                changes["owner"] = lambda b: os.chown(b + "/c/d", 5, 5)
            for word, change in changes.items():
                b = os.path.join(work, "b")
                subprocess.run(["cp", "-a", a, b], check=True)
                self.assertEqual(compare(a, b), [])
                change(b)
                self.assertTrue(any(line.startswith(word) for line in compare(a, b)), word)
                shutil.rmtree(b)

    @staticmethod
    def same_time(path, data):
        st = os.stat(path)
        with open(path, "wb") as f:
            f.write(data)
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))

    def test_the_script_needs_python_3_8_and_its_library_only(self):
        with open(RECOVER) as f:
            tree = ast.parse(f.read(), feature_version=(3, 8))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if hasattr(sys, "stdlib_module_names"):
            self.assertEqual({n.split(".")[0] for n in names} - set(sys.stdlib_module_names), set())


# ---------------------------------------------------------------- honest vaults

class Honest(Case):
    def test_every_snapshot_comes_back_exactly_with_either_identity(self):
        for name, code in (("alone", OK), ("delta", OK), ("latest", PROBLEMS), ("safety", OK)):
            for identity in (0, 1):
                with self.subTest(name=name, identity=identity):
                    snapshot = SHARED["vault"]["snapshots"][name]
                    to = "%s-%s-%d" % (self.to, name, identity)
                    self.standard(code, "restore", snapshot, "--to", to, identity=identity)
                    self.assert_equal_trees(snapshot, to)

    def test_the_vault_holds_what_is_to_be_tested(self):
        v = SHARED["vault"]
        self.assertTrue(record_of(v["store"], v["snapshots"]["alone"])["alone"])
        delta = record_of(v["store"], v["snapshots"]["delta"])
        self.assertFalse(delta["alone"])
        shared = {row[2] for row in delta["objects"]} & {
            row[2] for row in record_of(v["store"], v["snapshots"]["alone"])["objects"]}
        self.assertTrue(any(row[0] == "archive" for row in delta["objects"] if row[2] in shared))
        self.assertEqual(len(delta["recipients"][0]), 2)
        out = self.standard(OK, "check", v["snapshots"]["delta"]).stdout
        self.assertIn("listings open and agree", out)

    def test_latest_is_the_highest_trusted_normal_snapshot(self):
        done = self.standard(PROBLEMS, "restore", "latest", "--to", self.to, "--only", "settings", "--only", "backend")
        self.assertIn("snapshot " + SHARED["vault"]["snapshots"]["latest"], done.stderr)
        self.assertIn("backend/locked", done.stderr)

    def test_a_beginning_of_an_id_is_enough_if_only_one_begins_so(self):
        snapshot = SHARED["vault"]["snapshots"]["alone"]
        self.standard(OK, "show", snapshot[:13])
        self.assertIn("beginning of", self.standard(FAILED, "show", "2026").stderr)
        self.assertIn("no snapshot", self.standard(FAILED, "show", "2027").stderr)
        self.standard(FAILED, "show", "")

    def test_only_what_is_asked_for_is_restored(self):
        snapshot = SHARED["vault"]["snapshots"]["delta"]
        self.standard(OK, "restore", snapshot, "--to", self.to, "backend/data.bin", "backend/zz", "settings/.env")
        self.assertEqual(sorted(os.listdir(self.to)), ["backend", "settings"])
        self.assertEqual(sorted(os.listdir(self.to + "/backend")), ["data.bin", "zz"])
        expected = os.path.join(SHARED["vault"]["expected"], snapshot)
        for name in ("backend/data.bin", "backend/zz/three", "settings/.env"):
            with open(os.path.join(expected, name), "rb") as f, open(os.path.join(self.to, name), "rb") as g:
                self.assertEqual(f.read(), g.read())
        self.assertEqual(os.stat(expected + "/backend").st_mtime_ns, os.stat(self.to + "/backend").st_mtime_ns)
        self.assertIn("has no", self.standard(FAILED, "restore", snapshot, "--to", self.to + "2", "backend/nix").stderr)
        self.assertIn("no component", self.standard(
            FAILED, "restore", snapshot, "--to", self.to + "2", "--only", "nix").stderr)

    def test_one_component_alone_equals_the_expected_one(self):
        snapshot = SHARED["vault"]["snapshots"]["delta"]
        self.standard(OK, "restore", snapshot, "--to", self.to, "--only", "settings")
        expected = os.path.join(SHARED["vault"]["expected"], snapshot)
        self.assertEqual(os.listdir(self.to), ["settings"])
        self.assertEqual(compare(expected + "/settings", self.to + "/settings"), [])

    def test_void_and_partial_are_never_used(self):
        v = SHARED["vault"]
        done = self.standard(DAMAGED, "restore", v["snapshots"]["void"], "--to", self.to)
        self.assertIn("void", done.stderr)
        partial = [n for n in os.listdir(v["store"] + "/snapshots") if n[:-5] not in v["snapshots"].values()]
        self.standard(FAILED, "restore", partial[0][:-5], "--to", self.to)
        self.assert_nothing_restored()

    def test_list_says_what_is_proved_and_tags_of_marks_count(self):
        out = self.standard(OK, "list").stdout
        states = dict(re.findall(r"^(\S{25})  (\S+)", out, re.M))
        ids = SHARED["vault"]["snapshots"]
        self.assertEqual([states[ids[n]] for n in ("alone", "delta", "void", "latest")],
                         ["signed", "signed", "void", "signed"])
        self.assertRegex(out, ids["alone"] + r".*kept stable")
        out = self.run_recover(OK, SHARED["vault"]["store"], "list").stdout
        self.assertIn("unchecked", out)

    def test_show_and_ls_print_nothing_that_moves_the_cursor(self):
        ids = SHARED["vault"]["snapshots"]
        out = self.standard(OK, "show", ids["alone"]).stdout
        self.assertIn("before the change", out)
        self.assertEqual(self.standard(OK, "show", ids["alone"], "--config").stdout, "[project]\nname = \"mini\"\n")
        out = self.standard(OK, "ls", ids["delta"], "backend").stdout
        self.assertNotIn("\x1b", out)
        self.assertIn("names/\\x1b[31m red", out)
        self.assertIn("names/\\xff\\xfe not utf-8", out)
        self.assertRegex(out, r"not stored .*component +venv")
        self.assertIn("backend/", self.standard(OK, "ls", ids["delta"]).stdout)
        self.assertEqual(len(self.standard(OK, "ls", ids["delta"], "backend/hard").stdout.splitlines()), 5)

    def test_a_plain_copy_without_the_store_file_still_works(self):
        store = self.copy_store()
        os.unlink(store + "/backstay.json")
        done = self.standard(PROBLEMS, "restore", "latest", "--to", self.to, store=store)
        self.assertIn("backstay.json is missing", done.stderr)
        self.assert_equal_trees(SHARED["vault"]["snapshots"]["latest"])

    def test_it_does_not_depend_on_locale_umask_or_closed_stdin(self):
        snapshot = SHARED["vault"]["snapshots"]["alone"]
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        self.standard(OK, "restore", snapshot, "--to", self.to, env=env, stdin=subprocess.DEVNULL,
                      preexec_fn=lambda: os.umask(0o777))
        os.chmod(self.to, 0o755)
        for name in os.listdir(self.to):
            if name == "db":
                os.chmod(os.path.join(self.to, name), 0o755)
        self.assert_equal_trees(snapshot)

    def test_it_only_reads_the_store(self):
        store = self.copy_store()
        before = [(p, st.st_mtime_ns, st.st_size) for p, st in sorted(walk_all(store).items())]
        self.standard(PROBLEMS, "restore", "latest", "--to", self.to, store=store)
        self.assertEqual(before, [(p, st.st_mtime_ns, st.st_size) for p, st in sorted(walk_all(store).items())])

    def test_a_kit_gives_identity_and_trust(self):
        v = SHARED["vault"]
        with open(v["identities"][1]) as f:
            secret = [line for line in f if line.startswith("AGE-SECRET-KEY-")][0].strip()
        kit = os.path.join(self.dir, "kit.txt")
        with open(kit, "w") as f:
            f.write("A recovery kit\nidentity  %s\n\ntrusted  mini-1  %s  host, verify, prune\n" % (secret, v["trust"]))
        done = self.run_recover(OK, v["store"], "--kit", kit, "restore", v["snapshots"]["alone"], "--to", self.to)
        self.assertNotIn(secret, done.stderr + done.stdout)
        self.assert_equal_trees(v["snapshots"]["alone"])

    def test_a_trust_file_in_the_form_of_allowed_signers_will_do(self):
        v = SHARED["vault"]
        path = os.path.join(self.dir, "allowed_signers")
        with open(path, "w") as f:
            f.write("# keys\nmini-1 namespaces=\"backstay-*\" %s roles=host,prune\n" % v["trust"])
        self.run_recover(PROBLEMS, v["store"], "restore", "latest", "-i", v["identities"][0], "--trust-file", path,
                         "--to", self.to)
        with open(path, "w") as f:
            f.write("mini-1 ssh-ed25519 AAAA\n")
        self.run_recover(FAILED, v["store"], "list", "--trust-file", path)

    @unittest.skipUnless(ROOT, "only root can become somebody else")
    def test_an_ordinary_user_gets_the_bytes_and_is_told_what_could_not_be_set(self):
        if sys.version_info < (3, 9):
            self.skipTest("needs subprocess's user=")
        snapshot = SHARED["vault"]["snapshots"]["alone"]
        store = self.copy_store()
        key = os.path.join(self.dir, "key.txt")
        shutil.copy(SHARED["vault"]["identities"][0], key)
        script = os.path.join(self.dir, "recover.py")
        shutil.copy(RECOVER, script)
        os.chmod(key, 0o644)
        os.chmod(self.dir, 0o777)
        os.chmod(SHARED["work"], 0o711)
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
        done = subprocess.run([python, script, store, "-i", key, "--trust", SHARED["vault"]["trust"], "restore",
                               snapshot, "--to", self.to], user=65534, group=65534, extra_groups=[],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        self.assertEqual(done.returncode, PROBLEMS, done.stderr)
        for text in ("only root can", "a device was not made", "set-user-id"):
            self.assertIn(text, done.stderr)
        lines = compare(os.path.join(SHARED["vault"]["expected"], snapshot), self.to, owners=False)
        odd = [line for line in lines if not line.startswith("xattrs: ") and "/block'" not in line
               and "/null'" not in line and "/setuid'" not in line and "big\\nname" not in line]
        self.assertEqual(odd, [])
        self.assertEqual(os.stat(self.to + "/backend/setuid").st_mode & 0o7777, 0o755)


def walk_all(top):
    return {os.path.join(folder, name): os.lstat(os.path.join(folder, name))
            for folder, dirs, files in os.walk(top) for name in dirs + files}


class Target(Case):
    def test_nothing_is_written_over(self):
        snapshot = SHARED["vault"]["snapshots"]["alone"]
        os.mkdir(self.to)
        with open(self.to + "/mine", "w") as f:
            f.write("1")
        self.assertIn("not empty", self.standard(FAILED, "restore", snapshot, "--to", self.to).stderr)
        self.assertEqual(os.listdir(self.to), ["mine"])
        link = os.path.join(self.dir, "link")
        os.symlink(self.dir, link)
        self.standard(FAILED, "restore", snapshot, "--to", link)
        self.standard(FAILED, "restore", snapshot, "--to", self.canary)
        self.standard(FAILED, "restore", snapshot, "--to", os.path.join(self.dir, "no", "such"))
        self.standard(FAILED, "restore", snapshot, "--to", "/")
        self.standard(FAILED, "restore", snapshot, "--to", "/proc")

    def test_an_empty_folder_is_taken(self):
        snapshot = SHARED["vault"]["snapshots"]["alone"]
        os.mkdir(self.to)
        self.standard(OK, "restore", snapshot, "--to", self.to + "/")
        self.assert_equal_trees(snapshot)

    def test_wrong_usage_is_2(self):
        self.run_recover(USAGE)
        self.standard(USAGE, "restore", "latest")
        self.standard(USAGE, "restore", "latest", "--to", self.to, "--wrong")
        self.standard(USAGE, "list", "more")

    def test_a_stopped_restore_leaves_nothing_behind(self):
        bin_dir = os.path.join(self.dir, "bin")
        os.mkdir(bin_dir)
        with open(bin_dir + "/sync", "w") as f:  # what it runs last: by then everything is written
            f.write("#!/bin/sh\nkill -TERM $PPID\nexit 1\n")
        os.chmod(bin_dir + "/sync", 0o755)
        env = dict(os.environ, PATH=bin_dir + ":" + os.environ["PATH"])
        snapshot = SHARED["vault"]["snapshots"]["alone"]
        done = self.standard(FAILED, "restore", snapshot, "--to", self.to, env=env)
        self.assertIn("stopped", done.stderr)
        self.assert_nothing_restored()

    def test_a_protected_identity_is_asked_for_once(self):
        v = SHARED["vault"]
        locked = os.path.join(self.dir, "locked.age")
        self.at_terminal(["age", "-p", "-o", locked, v["identities"][0]], [b"word\n", b"word\n"])
        snapshot = v["snapshots"]["alone"]
        code, text = self.at_terminal([sys.executable, RECOVER, v["store"], "-i", locked, "--trust", v["trust"], "restore",
                                       snapshot, "--to", self.to], [b"word\n"])
        self.assertEqual((code, text.count("Enter passphrase")), (OK, 1), text)
        self.assert_equal_trees(snapshot)

    def at_terminal(self, words, answers):
        """Runs a command at a terminal of its own; answers each question for a passphrase."""
        import pty
        pid, fd = pty.fork()
        if pid == 0:
            os.execvp(words[0], words)
        text, asked = b"", 0
        while True:
            try:
                data = os.read(fd, 4096)
            except OSError:
                break
            if not data:
                break
            text += data
            if len(re.findall(rb"(?i)(?:enter|confirm) passphrase", text)) > asked and asked < len(answers):
                os.write(fd, answers[asked])
                asked += 1
        os.close(fd)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text.decode("utf-8", "replace")

    def test_a_wrong_identity_says_so(self):
        v = SHARED["vault"]
        done = self.run_recover(FAILED, v["store"], "-i", SHARED["one"].path, "--trust", v["trust"], "restore", "latest",
                                "--to", self.to)
        self.assertIn("identity given does not open", done.stderr)
        self.run_recover(FAILED, v["store"], "--trust", v["trust"], "restore", "latest", "--to", self.to)
        self.run_recover(FAILED, v["store"], "-i", self.dir + "/nix", "restore", "latest", "--to", self.to)
        self.run_recover(FAILED, self.dir, "list")
        self.run_recover(FAILED, self.dir + "/nix", "list")
        self.assert_nothing_restored()


# ---------------------------------------------------------------- damage

class Damaged(Case):
    def needed(self, store, name, kind):
        return [row[2] for row in record_of(store, SHARED["vault"]["snapshots"][name])["objects"] if row[0] == kind]

    def test_each_damaged_object_is_found_and_nothing_is_restored(self):
        store = self.copy_store()
        snapshot = SHARED["vault"]["snapshots"]["delta"]
        archives = self.needed(store, "delta", "archive")
        manifests = self.needed(store, "delta", "manifest")
        hows = ["first", "middle", "last", "cut", "longer", "empty", "missing"]
        for n, (kind, sha) in enumerate([("archive", s) for s in archives] + [("manifest", s) for s in manifests]):
            how = hows[n % len(hows)]
            path = object_path(store, kind, sha)
            with self.subTest(kind=kind, how=how):
                shutil.copy(path, self.dir + "/kept")
                damage(path, how)
                done = self.standard(DAMAGED, "check", snapshot, store=store)
                self.assertIn(sha, done.stderr)
                if n < 2 * len(hows) or kind == "manifest":
                    used = self.standard(DAMAGED, "restore", snapshot, "--to", self.to, store=store)
                    self.assertTrue(sha[:12] in used.stderr, used.stderr)
                    self.assert_nothing_restored()
                os.replace(self.dir + "/kept", path)
        self.standard(OK, "check", snapshot, store=store)

    def test_keep_going_brings_what_is_whole_and_names_what_is_lost(self):
        store = self.copy_store()
        snapshot = SHARED["vault"]["snapshots"]["delta"]
        newest = self.needed(store, "delta", "archive")[0]
        for how in ("middle", "missing"):
            with self.subTest(how=how):
                to = self.to + how
                damage(object_path(store, "archive", newest), how)
                done = self.standard(DAMAGED, "restore", snapshot, "--to", to, "--keep-going", store=store)
                self.assertIn("backend/data.bin", done.stderr)
                lines = compare(os.path.join(SHARED["vault"]["expected"], snapshot), to)
                self.assertIn("missing: b'backend/data.bin'", lines)
                self.assertNotIn("content", " ".join(lines))
                self.assertTrue(all(line.startswith("missing") for line in lines), lines)
                with open(object_path(store, "archive", newest), "wb") as f, \
                        open(object_path(SHARED["vault"]["store"], "archive", newest), "rb") as g:
                    f.write(g.read())

    def test_keep_going_survives_a_lost_listing(self):
        store = self.copy_store()
        snapshot = SHARED["vault"]["snapshots"]["delta"]
        seen = 0
        for sha in self.needed(store, "delta", "manifest")[:-1]:
            path = object_path(store, "manifest", sha)
            damage(path, "middle")
            done = self.standard(DAMAGED, "restore", snapshot, "--to", self.to + sha[:8], "--keep-going", store=store)
            lines = compare(os.path.join(SHARED["vault"]["expected"], snapshot), self.to + sha[:8])
            self.assertFalse([x for x in lines if x.startswith(("content", "too much"))], lines)
            seen += "lost" in done.stderr
            shutil.copy(object_path(SHARED["vault"]["store"], "manifest", sha), path)
        self.assertGreater(seen, 3)

    def test_a_damaged_record_is_used_for_nothing(self):
        store = self.copy_store()
        snapshot = SHARED["vault"]["snapshots"]["alone"]
        path = os.path.join(store, "snapshots", snapshot + ".json")
        with open(path, "rb") as f:
            good = f.read()
        line, signature = good.split(b"\n", 1)
        for name, data in (("tags changed", good.replace(b'"stable"', b'"stable","x"')), ("no signature", line + b"\n"),
                           ("no end of line", line), ("cut", good[:-40]), ("empty", b""), ("twice", good + signature),
                           ("a space more", line + b" \n" + signature), ("not JSON", b"{\n" + signature),
                           ("a byte order mark", b"\xef\xbb\xbf" + good)):
            with self.subTest(name=name):
                self.assertNotEqual(data, good)
                os.unlink(path)
                with open(path, "wb") as f:
                    f.write(data)
                for more in ((), ("--unsigned",)):
                    self.standard(DAMAGED, "restore", snapshot, "--to", self.to, *more, store=store)
                self.standard(DAMAGED, "restore", "latest", "--to", self.to, store=store)
                self.standard(DAMAGED, "list", store=store)
                self.assert_nothing_restored()


# ---------------------------------------------------------------- trust and history

class Trust(Case):
    def test_without_a_trusted_key_it_stops_and_says_so_loudly(self):
        snapshot = SHARED["vault"]["snapshots"]["alone"]
        done = self.standard(DAMAGED, "restore", snapshot, "--to", self.to, trust=False)
        self.assertIn("NOTHING PROVES WHO WROTE", done.stderr)
        self.assert_nothing_restored()
        self.standard(FAILED, "restore", "latest", "--to", self.to, "--unsigned", trust=False)
        done = self.standard(OK, "restore", snapshot, "--to", self.to, "--unsigned", trust=False)
        self.assertIn("NOTHING PROVES WHO WROTE", done.stderr)
        self.assert_equal_trees(snapshot)

    def test_without_ssh_keygen_it_goes_on_only_when_told_to(self):
        bin_dir = os.path.join(self.dir, "bin")
        os.mkdir(bin_dir)
        for name in ("age", "zstd", "rm", "chmod"):
            os.symlink(shutil.which(name), os.path.join(bin_dir, name))
        env = {"PATH": bin_dir}
        snapshot = SHARED["vault"]["snapshots"]["delta"]
        done = self.standard(DAMAGED, "restore", snapshot, "--to", self.to, env=env)
        self.assertIn("ssh-keygen is not installed", done.stderr)
        self.standard(OK, "restore", snapshot, "--to", self.to, "--unsigned", env=env)
        self.assert_equal_trees(snapshot)

    def test_the_second_key_alone_is_not_of_the_first_host(self):
        v = SHARED["vault"]
        self.run_recover(DAMAGED, v["store"], "-i", v["identities"][0], "--trust", v["trust2"], "restore", "latest",
                         "--to", self.to)

    def test_a_gap_hides_latest_but_not_a_named_snapshot(self):
        v = SHARED["vault"]
        for victim in ("snapshots/%s.json" % v["snapshots"]["delta"], "snapshots/%s.json" % v["snapshots"]["latest"],
                       "marks/%s/0000000003.json" % v["host"], "marks/%s/0000000005.json" % v["host"]):
            with self.subTest(victim=victim):
                store = self.copy_store()
                os.unlink(os.path.join(store, victim))
                done = self.standard(DAMAGED, "restore", "latest", "--to", self.to, store=store)
                self.assertIn("missing here", done.stderr)
                self.assert_nothing_restored()
                self.standard(DAMAGED, "list", store=store)
                done = self.standard(OK, "restore", v["snapshots"]["alone"], "--to", self.to, store=store)
                self.assertIn("not whole", done.stderr)
                for path in (store, self.to):
                    subprocess.run(["rm", "-rf", path], check=True)

    def test_a_hidden_introduction_leaves_the_second_key_untrusted(self):
        store = self.copy_store()
        v = SHARED["vault"]
        os.unlink(store + "/marks/%s/0000000006.json" % v["host"])
        done = self.standard(DAMAGED, "restore", v["snapshots"]["latest"], "--to", self.to, store=store)
        self.assertIn("NOTHING PROVES", done.stderr)

    def test_another_vault_is_refused(self):
        store = self.copy_store()
        v = SHARED["vault"]
        other = "a" * 26
        self.standard(DAMAGED, "list", "--vault", other)
        with open(store + "/backstay.json") as f:
            text = f.read()
        os.unlink(store + "/backstay.json")
        with open(store + "/backstay.json", "w") as f:
            f.write(text.replace(v["vault"], other))
        done = self.standard(DAMAGED, "restore", v["snapshots"]["alone"], "--to", self.to, "--unsigned", store=store)
        self.assertIn("another vault", done.stderr)

    def test_a_record_under_another_name_is_damage(self):
        store = self.copy_store()
        v = SHARED["vault"]
        os.rename(store + "/snapshots/%s.json" % v["snapshots"]["alone"],
                  store + "/snapshots/20991231T235959Z-aaaaaaaa.json")
        self.standard(DAMAGED, "restore", "2099", "--to", self.to, store=store)
        self.standard(DAMAGED, "restore", "latest", "--to", self.to, store=store)
        self.assert_nothing_restored()


# ---------------------------------------------------------------- vaults made for one test

def meta(path, kind, mode=0o644, **more):
    return dict({"path": path, "type": kind, "mode": mode, "uid": os.getuid(), "gid": os.getgid(),
                 "mtime": [1700000000, 5], "xattrs": {}}, **more)


def folder(path):
    return meta(path, "dir", 0o755)


def plain(path, data=b"content\n", **more):
    return meta(path, "file", size=len(data), content=[(0, data)] if data else [],
                hash="b3:" + mini_vault.blake3(data).hex(), **more)


def symlink(path, target):
    return meta(path, "symlink", 0o777, target=target)


def component(*entries, name="c", **more):
    return mini_vault.Component(name, [folder(b".")] + list(entries), **more)


class Made(Case):
    def make(self, name="made", **options):
        return mini_vault.MiniVault(os.path.join(self.dir, name), [SHARED["one"]], **options)

    def words(self, vault, *trust):
        words = [vault.store, "-i", SHARED["one"].path]
        return words + [word for t in trust for word in ("--trust", t)]

    def refused(self, snapshot, vault, text=None, code=DAMAGED, more=()):
        done = self.run_recover(code, *self.words(vault, SHARED["key"].public), "restore", snapshot, "--to", self.to, *more)
        self.assert_nothing_restored()
        if text:
            self.assertIn(text, done.stderr)
        return done

    def accepted(self, snapshot, vault, more=(), trust=None, code=OK):
        done = self.run_recover(code, *self.words(vault, *(trust or [SHARED["key"].public])), "restore", snapshot,
                                "--to", self.to, *more)
        subprocess.run(["rm", "-rf", self.to], check=True)
        return done


# ---------------------------------------------------------------- what a disk, a file system or a person does

FAULTS = """
import errno, os

def failing(name, code, when=lambda *words, **more: True):
    real = getattr(os, name)
    def call(*words, **more):
        if when(*words, **more):
            raise OSError(code, os.strerror(code))
        return real(*words, **more)
    setattr(os, name, call)

def below(folder):
    return lambda path, *words, **more: isinstance(path, str) and "/%s/" % folder in path

def named(name):
    return lambda fd, *words, **more: os.readlink("/proc/self/fd/%d" % fd).endswith("/" + name)

"""


class Mishaps(Made):
    def faults(self, *lines):
        """An environment in which system calls of recover.py fail as `lines` say."""
        folder = os.path.join(self.dir, "faults")
        os.makedirs(folder, exist_ok=True)
        with open(folder + "/sitecustomize.py", "w") as f:
            f.write(FAULTS + "\n".join(lines) + "\n")
        return dict(os.environ, PYTHONPATH=folder, PYTHONDONTWRITEBYTECODE="1")

    def vault_of(self, *components, name="made"):
        vault = self.make(name)
        return vault, vault.commit(signer("key"), list(components))

    def restore(self, code, vault, snapshot, *more, env=None):
        subprocess.run(["rm", "-rf", self.to], check=True)
        return self.run_recover(code, *self.words(vault, SHARED["key"].public), "restore", snapshot, "--to", self.to,
                                *more, env=env)

    def content(self, path):
        with open(os.path.join(self.to, path), "rb") as f:
            return f.read()

    def objects(self, vault, snapshot, kind):
        return [object_path(vault.store, kind, row[2]) for row in record_of(vault.store, snapshot)["objects"] if row[0] == kind]

    def test_what_the_disk_says_last_is_heard(self):
        vault, snapshot = self.vault_of(component(plain(b"g")))
        bin_dir = os.path.join(self.dir, "bin")
        os.mkdir(bin_dir)
        env = dict(os.environ, PATH=bin_dir + ":" + os.environ["PATH"])
        for said, code in (("sync: error syncing '/x': Input/output error", FAILED), ("sync: invalid option -- 'f'", OK)):
            with open(bin_dir + "/sync", "w") as f:
                f.write('#!/bin/sh\necho "%s" >&2\nexit 1\n' % said)
            os.chmod(bin_dir + "/sync", 0o755)
            done = self.restore(code, vault, snapshot, env=env)
            self.assertEqual("Input/output error" in done.stderr, code == FAILED)
            self.assertEqual(os.path.lexists(self.to), code == OK)

    def test_objects_that_cannot_be_opened_are_damage_and_stop_nothing_else(self):
        vault, snapshot = self.vault_of(component(plain(b"g")), component(plain(b"h", b"other\n"), name="d"),
                                        component(plain(b"i", b"third\n"), name="e"))
        bad = [self.objects(vault, snapshot, "archive")[0], self.objects(vault, snapshot, "manifest")[1]]
        for path in bad:
            os.unlink(path)
            os.symlink(os.path.basename(path), path)      # ELOOP when it is opened
        words = self.words(vault, SHARED["key"].public)
        done = self.run_recover(DAMAGED, *words, "check", snapshot)
        self.assertIn("2 of 7 objects", done.stderr)
        for path in bad:
            self.assertRegex(done.stderr, "DAMAGE: [^\n]*%s[^\n]* cannot be read: " % os.path.basename(path))
        self.restore(DAMAGED, vault, snapshot)
        self.assert_nothing_restored()
        done = self.restore(DAMAGED, vault, snapshot, "--keep-going")
        self.assertEqual(self.content("e/i"), b"third\n")
        self.assertEqual(os.listdir(self.to + "/c") + os.listdir(self.to + "/d"), [])
        self.assertIn("c/g", done.stderr)

    def test_a_disk_that_cannot_read_an_object_is_damage_and_a_full_machine_is_not(self):
        vault, snapshot = self.vault_of(component(plain(b"g")))
        words = self.words(vault, SHARED["key"].public)
        for code, wanted in (("EIO", DAMAGED), ("EUCLEAN", DAMAGED), ("EACCES", DAMAGED), ("EMFILE", FAILED), ("ENOMEM", FAILED)):
            with self.subTest(code=code):
                env = self.faults("failing('open', errno.%s, below('archives'))" % code)
                done = self.run_recover(wanted, *words, "check", snapshot, env=env)
                self.assertIn("cannot be read: ", done.stderr)
                self.assertEqual("1 of 3 objects" in done.stderr, wanted == DAMAGED)
                self.restore(wanted, vault, snapshot, "--keep-going", env=env)
                self.assertFalse(os.path.lexists(self.to + "/c/g"))

    def test_names_of_one_inode_that_is_no_file_may_differ_in_all_but_what_it_is(self):
        one, two = "%016x" % 1, "%016x" % 2
        pairs = [meta(b"a", "fifo", 0o600, link=one), dict(meta(b"b", "fifo", 0o640, link=one), mtime=[1600000000, 1])]
        pairs += [dict(symlink(b"x", b"t"), link=two), dict(symlink(b"y", b"t"), link=two, mtime=[1600000000, 1])]
        vault, snapshot = self.vault_of(component(*pairs))
        self.restore(OK, vault, snapshot)
        self.assertEqual(os.lstat(self.to + "/c/a").st_ino, os.lstat(self.to + "/c/b").st_ino)
        pairs[-1]["target"] = b"other"
        vault, snapshot = self.vault_of(component(*pairs), name="differs")
        self.assertIn("differ", self.restore(DAMAGED, vault, snapshot).stderr)
        self.assert_nothing_restored()

    def test_metadata_that_does_not_fit_the_target_is_a_problem_of_its_entry(self):
        vault, snapshot = self.vault_of(component(
            meta(b"d", "dir", 0o750, xattrs={"user.a": b"x"}), plain(b"d/f", xattrs={"user.b": b"x"}), symlink(b"l", b"t")))
        for call, codes in (("setxattr", ("ENOSPC", "E2BIG", "ERANGE", "EDQUOT", "ENOSYS")), ("fchown", ("EDQUOT",)),
                            ("chown", ("ENOSYS",)), ("fchmod", ("ENOSPC", "EPERM")), ("chmod", ("EPERM",)), ("utime", ("ENOSPC",))):
            for code in codes:
                with self.subTest(call=call, code=code):
                    done = self.restore(PROBLEMS, vault, snapshot, env=self.faults("failing(%r, errno.%s)" % (call, code)))
                    self.assertIn("could not be set", done.stderr)
                    self.assertNotIn("Everything is there", done.stderr)
                    self.assertEqual(self.content("c/d/f"), b"content\n")
                    self.assertEqual(os.readlink(self.to + "/c/l"), "t")
        with self.subTest("the disk is broken"):
            for code in ("EIO", "EROFS", "EUCLEAN"):
                self.restore(FAILED, vault, snapshot, env=self.faults("failing('setxattr', errno.%s)" % code))
                self.assert_nothing_restored()

    def test_what_the_target_does_not_know_is_a_problem_of_its_entry(self):
        vault, snapshot = self.vault_of(component(meta(b"fifo", "fifo"), plain(b"g"), plain(b"h", b"large\n")))
        done = self.restore(PROBLEMS, vault, snapshot, env=self.faults("failing('mkfifo', errno.ENOSYS)"))
        self.assertIn("c/fifo", done.stderr)
        self.assertEqual(self.content("c/g"), b"content\n")
        done = self.restore(PROBLEMS, vault, snapshot, env=self.faults("failing('ftruncate', errno.EFBIG, named('h'))"))
        self.assertIn("c/h", done.stderr)
        self.assertEqual(os.listdir(self.to + "/c"), ["g"] if not os.path.lexists(self.to + "/c/fifo") else ["fifo", "g"])

    def linked(self):
        """Two names each of a file with a hole, of a FIFO and of a symbolic link."""
        one, two, three = ("%016x" % n for n in (1, 2, 3))
        size = 3 << 20
        content = [(0, b"begin"), (size - 3, b"end")]
        more = dict(size=size, content=content, hash="b3:" + mini_vault.blake3(b"beginend").hex(), link=one)
        return self.vault_of(component(
            meta(b"a", "file", 0o640, **more), meta(b"b", "file", 0o640, **more),
            meta(b"p", "fifo", 0o620, link=two), meta(b"q", "fifo", 0o620, link=two),
            dict(symlink(b"x", b"t"), link=three), dict(symlink(b"y", b"t"), link=three)))

    def test_where_there_are_no_hard_links_each_name_has_the_content(self):
        vault, snapshot = self.linked()
        whole = b"begin" + bytes((3 << 20) - 8) + b"end"
        self.restore(OK, vault, snapshot)
        self.assertEqual(os.stat(self.to + "/c/a").st_nlink, 2)
        for code in ("EPERM", "EOPNOTSUPP", "EMLINK", "ENOSYS"):
            with self.subTest(code=code):
                done = self.restore(PROBLEMS, vault, snapshot, env=self.faults("failing('link', errno.%s)" % code))
                self.assertRegex(done.stderr, "hard link[^\n]*\n +c/b\n +c/q\n +c/y\n")
                for name in "ab":
                    self.assertEqual(self.content("c/" + name), whole)
                    facts = os.stat(self.to + "/c/" + name)
                    self.assertEqual((facts.st_nlink, facts.st_mode & 0o7777, facts.st_mtime), (1, 0o640, 1700000000.000000005))
                    self.assertLess(facts.st_blocks * 512, 1 << 20, "a hole was filled")
                self.assertEqual(stat.filemode(os.stat(self.to + "/c/q").st_mode), "prw--w----")
                self.assertEqual(os.readlink(self.to + "/c/y"), "t")

    def test_a_copy_for_which_there_is_no_room_or_no_content_is_not_there(self):
        vault, snapshot = self.linked()
        links = "failing('link', errno.EPERM)"
        done = self.restore(PROBLEMS, vault, snapshot, env=self.faults(links, "failing('pwrite', errno.ENOSPC, named('b'))"))
        self.assertRegex(done.stderr, "No space left on device[^\n]*\n +c/b\n")
        self.assertEqual(sorted(os.listdir(self.to + "/c")), ["a", "p", "q", "x", "y"])
        damage(self.objects(vault, snapshot, "archive")[0], "middle")
        self.restore(DAMAGED, vault, snapshot, "--keep-going", env=self.faults(links))
        self.assertEqual(sorted(os.listdir(self.to + "/c")), ["p", "q", "x", "y"])

    def test_a_path_that_is_not_in_the_snapshot_is_refused_also_with_keep_going(self):
        vault, snapshot = self.vault_of(component(plain(b"g")))
        for more in ((), ("--keep-going",)):
            done = self.restore(FAILED, vault, snapshot, "c/g", "c/typo", *more)
            self.assertIn("has no typo", done.stderr)
            self.assert_nothing_restored()

    def test_a_path_that_is_named_and_was_not_stored_is_a_problem(self):
        vault, snapshot = self.vault_of(component(plain(b"g"), dict(path=b"m", type="left", why="mount"), meta(b"s", "socket")))
        self.restore(OK, vault, snapshot)
        done = self.restore(PROBLEMS, vault, snapshot, "c/g", "c/m", "c/s")
        self.assertRegex(done.stderr, "mount\n +c/m\n")
        self.assertRegex(done.stderr, "never stored\\)\n +c/s\n")
        self.assertNotIn("Everything is there", done.stderr)

    def test_a_path_whose_listing_is_lost_is_named_and_one_of_a_whole_listing_refused(self):
        vault, snapshot = self.vault_of(component(plain(b"g")), component(plain(b"h", b"other\n"), name="d"))
        damage(self.objects(vault, snapshot, "manifest")[0], "middle")
        done = self.restore(DAMAGED, vault, snapshot, "c/g", "d/h", "--keep-going")
        self.assertRegex(done.stderr, "is not in what could be read of the snapshot[^\n]*\n +c/g\n")
        self.assertEqual(self.content("d/h"), b"other\n")
        done = self.restore(FAILED, vault, snapshot, "c/g", "d/typo", "--keep-going")
        self.assertIn("component d has no typo", done.stderr)
        self.assert_nothing_restored()

    def absent_by_the_format(self):
        """The fields of an entry that format.md says are absent when they are empty."""
        with open(os.path.join(HERE, "..", "docs", "format.md")) as f:
            rows = f.read().split("| absent | means |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
        return {name for row in rows for name in re.findall("`([a-z_]+)`", row.split("|")[1])}

    def test_fields_that_are_empty_may_be_absent_and_no_others(self):
        absent = self.absent_by_the_format()
        self.assertEqual(absent, {"extents", "maps", "user", "group", "link", "xattrs", "flags", "attrs"})
        changes = [(OK, lambda doc: {k: v for k, v in doc.items() if k not in absent}),
                   (OK, lambda doc: dict(doc, flags=[], xattrs={}, extents=[])),
                   (OK, lambda doc: dict({k: v for k, v in doc.items() if k != "extents"}, maps=[]))]
        changes += [(DAMAGED, lambda doc, key=key: {k: v for k, v in doc.items() if k != key})
                    for key in ("path", "type", "mode", "uid", "gid", "mtime", "size", "hash")]
        for number, (code, change) in enumerate(changes):
            vault = self.make("empty-%d" % number)
            of_the_file = lambda what, value: change(value) if what == "entry" and value["type"] == "file" else value
            snapshot = vault.commit(signer("key"), [component(plain(b"empty", b""))], tamper=of_the_file)
            with self.subTest(number=number):
                self.restore(code, vault, snapshot)
                self.assertEqual(code == OK, os.path.lexists(self.to + "/c/empty"))


class Chains(Made):
    def test_a_strangers_snapshot_is_never_taken_by_itself(self):
        vault, key, stranger = self.make(), signer("key"), signer("other")
        good = vault.commit(key, [component(plain(b"f"))])
        bad = vault.commit(stranger, [component(plain(b"f"))])
        self.assertIn(good, self.accepted("latest", vault).stderr)
        self.refused(bad, vault, "not a trusted key of that host")
        self.accepted(bad, vault, more=("--unsigned",))

    def test_a_stranger_cannot_pretend_to_be_the_host(self):
        vault, key, stranger = self.make(), signer("key"), signer("other")
        good = vault.commit(key, [component(plain(b"f"))])
        bad = vault.commit(stranger, [component(plain(b"f"))], host=key.host)
        self.assertIn(good, self.accepted("latest", vault).stderr)
        self.refused(bad, vault, "not a trusted key of that host")
        third = vault.commit(stranger, [component(plain(b"f"))], host=key.host,
                             tamper=lambda what, v: dict(v, signer=key.id) if what == "record" else v)
        self.refused(third, vault, "another key")

    def test_two_trusted_hosts_are_kept_apart(self):
        vault, key, other = self.make(), signer("key"), signer("other")
        mine = vault.commit(key, [component(plain(b"f"))])
        theirs = vault.commit(other, [component(plain(b"f"))])
        forged = vault.commit(other, [component(plain(b"f"))], host=key.host)
        both = [key.public, other.public]
        done = self.run_recover(FAILED, *self.words(vault, *both), "restore", "latest", "--to", self.to)
        self.assertIn("several hosts", done.stderr)
        for host, snapshot in ((key.host, mine), (other.host, theirs)):
            self.assertIn(snapshot, self.accepted("latest", vault, trust=both, more=("--host", host[:8])).stderr)
        done = self.run_recover(DAMAGED, *self.words(vault, *both), "restore", forged, "--to", self.to)
        self.assertIn("not a trusted key of that host", done.stderr)

    def test_a_fork_is_seen(self):
        vault, key = self.make(), signer("key")
        vault.commit(key, [component(plain(b"f"))])
        number, previous = key.number, key.previous
        one = vault.commit(key, [component(plain(b"f"))])
        key.number, key.previous = number, previous
        two = vault.commit(key, [component(plain(b"f", b"other"))])
        self.refused("latest", vault, "two different entries")
        self.accepted(one, vault)
        pruner = signer("pruner")
        vault.mark(pruner, "settle", of=key.id, entry=number, keep=vault.record_hash(two), drop=[vault.record_hash(one)])
        self.refused("latest", vault, "two different entries")  # the key has no role here
        trust = [key.public, pruner.public + " roles=prune"]
        self.assertIn(two, self.accepted("latest", vault, trust=trust).stderr)

    def test_a_signer_cannot_settle_its_own_fork(self):
        vault, key = self.make(), signer("key")
        number, previous = key.number, key.previous
        one = vault.commit(key, [component(plain(b"f"))])
        key.number, key.previous = number, previous
        two = vault.commit(key, [component(plain(b"f", b"other"))])
        vault.mark(key, "settle", of=key.id, entry=number, keep=vault.record_hash(two), drop=[vault.record_hash(one)])
        done = self.run_recover(DAMAGED, *self.words(vault, key.public + " roles=host,prune"), "restore", "latest", "--to",
                                self.to)
        self.assertIn("two different entries", done.stderr)

    def test_a_damaged_newest_record_is_not_passed_over(self):
        vault, key = self.make(), signer("key")
        old = vault.commit(key, [component(plain(b"f"))])
        new = vault.commit(key, [component(plain(b"f"))])
        damage(vault.store + "/snapshots/%s.json" % new, "middle")
        self.refused("latest", vault, "newer by its name")
        self.accepted(old, vault)

    def test_a_rewritten_past_is_seen(self):
        vault, key = self.make(), signer("key")
        vault.commit(key, [component(plain(b"f"))])
        key.previous = "0" * 64
        vault.commit(key, [component(plain(b"f"))])
        self.refused("latest", vault, "does not follow")

    def test_a_gap_counts_as_pruned_only_when_a_pruner_says_so(self):
        vault, key, pruner = self.make(), signer("key"), signer("pruner")
        first = vault.commit(key, [component(plain(b"f"))])
        row = {"signer": key.id, "number": 1, "hash": vault.record_hash(first), "snapshot": first}
        newest = vault.commit(key, [component(plain(b"f"))])
        elsewhere = dict(instance="b" * 26, removed=[row])
        vault.mark(pruner, "prune", **elsewhere)
        os.unlink(vault.store + "/snapshots/%s.json" % first)
        pruners = [key.public, pruner.public + " roles=prune"]
        self.run_recover(DAMAGED, *self.words(vault, *pruners), "restore", "latest", "--to", self.to)
        vault.mark(pruner, "prune", instance=vault.instance, removed=[row])
        done = self.refused("latest", vault, "deleted on purpose")
        self.assertIn(pruner.public, done.stderr)
        self.assertIn(newest, self.accepted("latest", vault, trust=pruners).stderr)
        wrong = [key.public, pruner.public + " roles=verify"]
        self.run_recover(DAMAGED, *self.words(vault, *wrong), "restore", "latest", "--to", self.to)

    def test_an_excused_entry_must_be_the_one_that_the_next_follows(self):
        vault, key, pruner = self.make(), signer("key"), signer("pruner")
        first = vault.commit(key, [component(plain(b"f"))])
        vault.commit(key, [component(plain(b"f"))])
        vault.mark(pruner, "prune", instance=vault.instance, removed=[
            {"signer": key.id, "number": 1, "hash": "1" * 64, "snapshot": first}])
        os.unlink(vault.store + "/snapshots/%s.json" % first)
        self.run_recover(DAMAGED, *self.words(vault, key.public, pruner.public + " roles=prune"), "restore", "latest",
                         "--to", self.to)

    def test_absent_entries_are_excused_by_their_own_signer(self):
        vault, key = self.make(), signer("key")
        first = vault.commit(key, [component(plain(b"f"))])
        newest = vault.commit(key, [component(plain(b"f"))])
        vault.mark(key, "absent", instance=vault.instance, entries=[
            {"signer": key.id, "number": 1, "hash": vault.record_hash(first), "snapshot": first}])
        os.unlink(vault.store + "/snapshots/%s.json" % first)
        self.assertIn(newest, self.accepted("latest", vault).stderr)

    def test_nobody_else_can_excuse_absent_entries(self):
        vault, key, other = self.make(), signer("key"), signer("other")
        first = vault.commit(key, [component(plain(b"f"))])
        vault.commit(key, [component(plain(b"f"))])
        vault.mark(other, "absent", instance=vault.instance, entries=[
            {"signer": key.id, "number": 1, "hash": vault.record_hash(first), "snapshot": first}])
        os.unlink(vault.store + "/snapshots/%s.json" % first)
        self.refused("latest", vault, "missing here")
        done = self.run_recover(DAMAGED, *self.words(vault, key.public, other.public), "restore", "latest", "--to", self.to)
        self.assertIn("missing here", done.stderr)

    def test_a_gap_as_wide_as_the_numbers_allow_costs_no_time(self):
        vault, key = self.make(), signer("key")
        vault.commit(key, [component(plain(b"f"))])
        key.number = 9999999998
        vault.commit(key, [component(plain(b"f"))])
        self.refused("latest", vault, "2 to 9999999997")

    def test_what_a_retired_key_signs_later_counts_for_nothing(self):
        vault, old, new = self.make(), signer("key"), signer("other")
        vault.commit(old, [component(plain(b"f"))])
        number, digest = vault.mark(old, "key", action="introduce", key=new.public, **{"for": old.host}, last=None)
        new.introduced(old.host, number, digest)
        vault.mark(new, "key", action="retire", key=old.public, **{"for": old.host}, last=[number, digest])
        good = vault.commit(new, [component(plain(b"f"))])
        stolen = vault.commit(old, [component(plain(b"f"))])
        self.assertIn(good, self.accepted("latest", vault).stderr)
        self.refused(stolen, vault, "not a trusted key of that host")
        self.retire_back(vault, old, new, good, [number, digest])

    def retire_back(self, vault, old, new, good, last):
        """The stolen key retires the new one in its turn: it comes too late, as it does in backstay."""
        pruner = signer("pruner")
        vault.mark(old, "key", action="retire", key=new.public, **{"for": old.host}, last=last)
        self.assertIn(good, self.accepted("latest", vault).stderr)
        vault.mark(pruner, "key", action="retire", key=old.public, **{"for": old.host}, last=last)
        self.assertIn(good, self.accepted("latest", vault).stderr)
        trust = [old.public, pruner.public + " roles=prune"]
        self.assertIn(good, self.accepted("latest", vault, trust=trust).stderr)

    def test_of_two_keys_that_retire_each_other_at_once_the_later_introduced_one_stays(self):
        for swapped in (False, True):      # else the order of their ids could be what decides
            with self.subTest(swapped=swapped):
                vault, old, new = self.make("both-%d" % swapped), signer("key"), signer("other")
                old, new = (new, old) if swapped else (old, new)
                mark = self.key_mark(vault, old, "introduce", new)
                new.introduced(old.host, *mark)
                self.key_mark(vault, new, "retire", old, last=mark)
                self.key_mark(vault, old, "retire", new, last=mark)
                good = vault.commit(new, [component(plain(b"f"))])
                vault.commit(old, [component(plain(b"f"))])
                self.assertIn("snapshot " + good, self.accepted("latest", vault, trust=[old.public]).stderr)

    def test_a_pruner_has_the_word_before_a_stolen_key(self):
        vault, old, new, pruner = self.make(), signer("key"), signer("other"), signer("pruner")
        mark = self.key_mark(vault, old, "introduce", new)
        new.introduced(old.host, *mark)
        first, good = (vault.commit(new, [component(plain(b"f"))]) for _ in range(2))
        self.key_mark(vault, old, "retire", new, last=(2, vault.record_hash(first)))
        trust = [old.public, pruner.public + " roles=prune"]
        self.assertEqual(self.listed(OK, vault, *trust)[0], {first: "signed", good: "UNTRUSTED"})
        said = {"snapshot": good, "record": vault.record_hash(good)}
        for _ in range(3):     # so that its mark has the higher number
            vault.mark(pruner, "tag", **said, add=[], remove=[])
        self.key_mark(vault, pruner, "retire", old, host=old.host, last=mark)
        self.assertIn("snapshot " + good, self.accepted("latest", vault, trust=trust).stderr)

    def key_mark(self, vault, by, action, key, host=None, last=None):
        """(number, hash) of a `key` mark; for the signer's own host if none is said."""
        return vault.mark(by, "key", action=action, key=key.public, **{"for": host or by.host}, last=last and list(last))

    def listed(self, code, vault, *trust):
        """How each snapshot stands in `list`, and the whole of what was said."""
        done = self.run_recover(code, *self.words(vault, *trust), "list")
        return dict(re.findall(r"^(\S{25})  (\S+)", done.stdout, re.M)), done.stdout + done.stderr

    def test_a_host_cannot_take_a_verifiers_or_pruners_roles_away(self):
        for introduced in (True, False):
            with self.subTest(introduced=introduced):
                vault, key, pruner = self.make("roles-%d" % introduced), signer("key"), signer("pruner")
                a = vault.commit(key, [component(plain(b"f"))])
                said = {"snapshot": a, "record": vault.record_hash(a)}
                first = vault.mark(pruner, "delete", **said)
                if introduced:
                    self.key_mark(vault, key, "introduce", pruner)
                self.key_mark(vault, key, "retire", pruner, last=first)
                self.key_mark(vault, key, "retire", pruner, host=pruner.host, last=first)
                vault.mark(pruner, "milestone", **said, on=True)
                trust = [key.public, pruner.public + " roles=prune"]
                self.assertIn("(milestone)", self.listed(OK, vault, *trust)[1])
                newest = vault.commit(key, [component(plain(b"f"))])
                vault.mark(pruner, "prune", instance=vault.instance, removed=[
                    {"signer": key.id, "number": 1, "hash": said["record"], "snapshot": a}])
                os.unlink(os.path.join(vault.store, "snapshots", a + ".json"))
                self.assertEqual(self.listed(OK, vault, *trust)[0], {newest: "signed"})
                self.assertIn(newest, self.accepted("latest", vault, trust=trust).stderr)

    def test_a_pruner_is_no_key_of_a_host_before_its_first_entry_nor_when_that_is_gone(self):
        vault, key, pruner = self.make(), signer("key"), signer("pruner")
        a = vault.commit(key, [component(plain(b"f"))])
        trust = [key.public, pruner.public + " roles=prune"]
        self.key_mark(vault, key, "introduce", pruner)
        self.key_mark(vault, key, "retire", pruner, last=(1, "1" * 64))
        self.listed(OK, vault, *trust)
        gone = [vault.mark(pruner, "delete", snapshot=a, record=vault.record_hash(a)) for _ in range(2)]
        vault.mark(pruner, "prune", instance=vault.instance, removed=[
            {"signer": pruner.id, "number": n, "hash": h, "snapshot": None} for n, h in gone])
        for number, _hash in gone:
            os.unlink(os.path.join(vault.store, "marks", pruner.id, "%010d.json" % number))
        self.listed(OK, vault, *trust)
        forged = vault.commit(pruner, [component(plain(b"f"))], host=key.host)
        states, _said = self.listed(OK, vault, *trust)
        self.assertEqual((states[a], states[forged]), ("signed", "UNTRUSTED"))

    def test_a_key_that_has_a_chain_of_its_own_is_made_no_key_of_another_host(self):
        vault, one, four, nine = self.make(), signer("key"), signer("other"), signer("pruner")
        mine, theirs = (vault.commit(key, [component(plain(b"f"))]) for key in (one, four))
        self.key_mark(vault, one, "introduce", four)
        forged = vault.commit(four, [component(plain(b"f"))], host=one.host)
        both = [one.public, four.public]
        states, _said = self.listed(OK, vault, *both)
        self.assertEqual(states, {mine: "signed", theirs: "signed", forged: "UNTRUSTED"})
        for host, snapshot in ((one.host, mine), (four.host, theirs)):
            self.assertIn(snapshot, self.accepted("latest", vault, trust=both, more=("--host", host)).stderr)
        # A pruner's key that took over as a host's, and whose first entries were pruned, stays one.
        nine.introduced(one.host, *self.key_mark(vault, one, "introduce", nine))
        trust = [one.public, four.public, nine.public + " roles=host,prune"]
        first = vault.commit(nine, [component(plain(b"f"))])
        self.assertEqual(self.listed(OK, vault, *trust)[0][first], "signed")
        second = vault.commit(nine, [component(plain(b"f"))])
        number = nine.number
        vault.mark(nine, "prune", instance=vault.instance, removed=[
            {"signer": nine.id, "number": number - 2 + at, "hash": vault.record_hash(s), "snapshot": s}
            for at, s in enumerate((first, second))])
        self.assertEqual(self.listed(OK, vault, *trust)[0][second], "signed")
        for snapshot in (first, second):
            os.unlink(os.path.join(vault.store, "snapshots", snapshot + ".json"))
        last = vault.commit(nine, [component(plain(b"f"))])
        self.assertEqual(self.listed(OK, vault, *trust)[0][last], "signed")

    def test_a_thief_of_one_hosts_key_retires_no_key_of_another_host(self):
        vault, thief, key = self.make(), signer("other"), signer("key")
        vault.commit(thief, [component(plain(b"f"))])
        old = vault.commit(key, [component(plain(b"f"))])
        new = vault.commit(key, [component(plain(b"f"))])
        self.key_mark(vault, thief, "retire", key, last=(1, vault.record_hash(old)))
        both = [key.public, thief.public]
        done = self.accepted("latest", vault, trust=both, more=("--host", key.host))
        self.assertIn("snapshot " + new, done.stderr)
        self.assertEqual(self.listed(OK, vault, *both)[0][new], "signed")

    def test_a_key_may_retire_itself_and_that_may_not_be_hidden(self):
        vault, key = self.make(), signer("key")
        a, b = (vault.commit(key, [component(plain(b"f"))]) for _ in range(2))
        own = self.key_mark(vault, key, "retire", key, last=(2, vault.record_hash(b)))
        late = vault.commit(key, [component(plain(b"f"))])
        self.assertIn("snapshot " + b, self.accepted("latest", vault).stderr)
        self.assertEqual(self.listed(OK, vault, key.public)[0], {a: "signed", b: "signed", late: "UNTRUSTED"})
        self.assertEqual(own[0], 3)

    def test_of_equal_numbers_the_later_introduced_keys_snapshot_is_the_latest(self):
        vault, old, new = self.make(), signer("key"), signer("other")
        new.introduced(old.host, *self.key_mark(vault, old, "introduce", new))
        newest = vault.commit(new, [component(plain(b"f"))])
        vault.commit(old, [component(plain(b"f"))])
        self.assertIn("snapshot " + newest, self.accepted("latest", vault).stderr)

    def test_a_broken_chain_of_a_pruner_is_said_and_hides_no_hosts_latest(self):
        vault, key, pruner = self.make(), signer("key"), signer("pruner")
        a = vault.commit(key, [component(plain(b"f"))])
        said = {"snapshot": a, "record": vault.record_hash(a)}
        lost, _hash = vault.mark(pruner, "tag", **said, add=["x"], remove=[])
        vault.mark(pruner, "tag", **said, add=["y"], remove=[])
        os.unlink(os.path.join(vault.store, "marks", pruner.id, "%010d.json" % lost))
        trust = [key.public, pruner.public + " roles=prune"]
        self.assertIn("missing here: 1", self.listed(DAMAGED, vault, *trust)[1])
        self.assertIn(a, self.accepted("latest", vault, trust=trust).stderr)

    def test_a_mark_that_calls_an_entry_gone_that_was_another_one_is_a_fork(self):
        vault, key, pruner = self.make(), signer("key"), signer("pruner")
        a, _b = (vault.commit(key, [component(plain(b"f"))]) for _ in range(2))
        vault.mark(pruner, "prune", instance=vault.instance, removed=[
            {"signer": key.id, "number": 1, "hash": "1" * 64, "snapshot": a}])
        self.assertIn("two different entries", self.listed(DAMAGED, vault, key.public, pruner.public + " roles=prune")[1])

    def test_a_later_settlement_takes_the_place_of_an_earlier_and_drops_nothing_else(self):
        vault, key, pruner = self.make(), signer("key"), signer("pruner")
        place = key.number, key.previous
        one = vault.commit(key, [component(plain(b"f"))])
        key.number, key.previous = place
        two = vault.commit(key, [component(plain(b"f", b"other"))])
        third = vault.commit(key, [component(plain(b"f"))])
        hashes = {s: vault.record_hash(s) for s in (one, two, third)}
        trust = [key.public, pruner.public + " roles=prune"]
        # The first one is wrong about which side stands, and names an entry of another number, which it does not drop.
        vault.mark(pruner, "settle", of=key.id, entry=1, keep=hashes[one], drop=[hashes[two], hashes[third]])
        states, _said = self.listed(DAMAGED, vault, *trust)
        self.assertEqual((states[one], states[third]), ("signed", "signed"))
        vault.mark(pruner, "settle", of=key.id, entry=1, keep=hashes[two], drop=[hashes[one], hashes[two]])
        states, _said = self.listed(OK, vault, *trust)
        self.assertEqual(states, {one: "UNTRUSTED", two: "signed", third: "signed"})
        self.assertIn("snapshot " + third, self.accepted("latest", vault, trust=trust).stderr)

    def test_what_was_dropped_introduces_and_retires_nobody(self):
        vault, key, pruner, other = self.make(), signer("key"), signer("pruner"), signer("other")
        a = vault.commit(key, [component(plain(b"f"))])
        place = key.number, key.previous
        mark = self.key_mark(vault, key, "introduce", other)
        other.introduced(key.host, *mark)
        theirs = vault.commit(other, [component(plain(b"f"))])
        key.number, key.previous = place
        b = vault.commit(key, [component(plain(b"f"))])
        vault.mark(pruner, "settle", of=key.id, entry=2, keep=vault.record_hash(b), drop=[mark[1]])
        trust = [key.public, pruner.public + " roles=prune"]
        self.assertEqual(self.listed(OK, vault, *trust)[0], {a: "signed", b: "signed", theirs: "UNTRUSTED"})
        self.assertIn("snapshot " + b, self.accepted("latest", vault, trust=trust).stderr)

    def test_a_mark_about_a_key_that_is_none_says_nothing(self):
        vault, key, stranger = self.make(), signer("key"), signer("other")
        a = vault.commit(key, [component(plain(b"f"))])
        text = "key: " + stranger.public
        vault.mark(key, "key", action="introduce", key=text, **{"for": key.host}, last=None)
        vault.mark(key, "key", action="retire", key=key.public, **{"for": key.host}, last=None)
        self.assertEqual(self.listed(OK, vault, key.public)[0], {a: "signed"})

    def test_impossible_times_do_not_make_a_mark_the_last_word(self):
        vault, key, pruner = self.make(), signer("key"), signer("pruner")
        a = vault.commit(key, [component(plain(b"f"))])
        said = {"snapshot": a, "record": vault.record_hash(a)}
        now = vault.time
        for by, time, tag in ((key, now + (200 * 365 << 16), "future"), (pruner, now + 600, "plain"), (pruner, now + 120, "back")):
            vault.time = time
            others = [t for t in ("future", "plain", "back") if t != tag]
            vault.mark(by, "tag", **said, add=[tag], remove=others)
            _states, text = self.listed(OK, vault, key.public, pruner.public + " roles=prune")
            self.assertRegex(text, r"yes +%s\n" % tag)

    def test_a_mark_counts_for_the_record_it_names_only(self):
        vault, key = self.make(), signer("key")
        a = vault.commit(key, [component(plain(b"f"))])
        other = {"snapshot": "20200101T000000Z-aaaaaaaa", "record": vault.record_hash(a)}
        vault.mark(key, "tag", **other, add=["wrong"], remove=[])
        vault.mark(key, "void", **other, instance=None, reason="of another")
        states, text = self.listed(OK, vault, key.public)
        self.assertEqual(states, {a: "signed"})
        self.assertNotIn("wrong", text)

    def test_a_rotated_key_that_the_kit_trusts_by_itself_has_a_whole_history(self):
        vault, old, new = self.make(), signer("key"), signer("other")
        vault.commit(old, [component(plain(b"f"))])
        mark = vault.mark(old, "key", action="introduce", key=new.public, **{"for": old.host}, last=None)
        new.introduced(old.host, *mark)
        both = [old.public + " roles=host,verify,prune", new.public + " roles=host,verify,prune"]
        self.run_recover(OK, *self.words(vault, *both), "list")  # the new one has signed nothing yet
        first = vault.commit(new, [component(plain(b"f"))])
        last = vault.commit(new, [component(plain(b"f"))])
        self.run_recover(OK, *self.words(vault, *both), "list")
        self.assertIn(last, self.accepted("latest", vault, trust=both).stderr)
        os.unlink(os.path.join(vault.store, "snapshots", first + ".json"))
        done = self.run_recover(DAMAGED, *self.words(vault, *both), "list")
        self.assertIn("entries missing here: 3", done.stderr)

    def test_a_mark_that_introduces_a_key_hides_no_gap_of_its_history(self):
        vault, key, stranger = self.make(), signer("key"), signer("other")
        lost = vault.commit(key, [component(plain(b"f"))])
        vault.commit(key, [component(plain(b"f"))])
        vault.mark(stranger, "key", action="introduce", key=key.public, **{"for": stranger.host}, last=None)
        os.unlink(os.path.join(vault.store, "snapshots", lost + ".json"))
        self.refused("latest", vault, "history")

    def test_list_shows_tags_and_milestones_as_marks_left_them(self):
        vault, key, pruner = self.make(), signer("key"), signer("pruner")
        snapshot = vault.commit(key, [component(plain(b"f"))], tags=["first", "second"])
        said = {"snapshot": snapshot, "record": vault.record_hash(snapshot)}
        words = self.words(vault, key.public, pruner.public + " roles=prune") + ["list"]
        vault.mark(key, "tag", **said, add=["third"], remove=["first"])
        vault.mark(pruner, "tag", **said, add=["theirs"], remove=["second"])
        vault.mark(key, "tag", **said, add=[], remove=["theirs"])
        vault.mark(key, "milestone", **said, on=True)
        vault.mark(key, "milestone", **said, on=False)
        self.assertRegex(self.run_recover(OK, *words).stdout, r"yes +theirs third \(milestone\)\n")
        vault.mark(pruner, "milestone", **said, on=False)
        self.assertRegex(self.run_recover(OK, *words).stdout, r"yes +theirs third\n")

    def test_a_strangers_garbage_marks_change_nothing(self):
        vault, key, stranger = self.make(), signer("key"), signer("other")
        good = vault.commit(key, [component(plain(b"f"))])
        said = {"snapshot": good, "record": vault.record_hash(good)}
        vault.mark(stranger, "void", **said, instance=None, reason="mine")
        vault.mark(stranger, "key", action="retire", key=key.public, **{"for": key.host}, last=[1, "0" * 64])
        vault.mark(stranger, "key", action="introduce", key=stranger.public, **{"for": key.host}, last=None)
        vault.mark(stranger, "key", action="nonsense", key=5)
        vault.mark(stranger, "settle", of=key.id, entry=1, keep=None, drop=[vault.record_hash(good)])
        vault.mark(stranger, "tag", **said, add=["evil"], remove=[])
        self.assertIn(good, self.accepted("latest", vault).stderr)
        out = self.run_recover(DAMAGED, *self.words(vault, key.public), "list").stdout
        self.assertNotIn("evil", out)
        self.assertRegex(out, good + "  signed")

    def test_a_void_for_another_store_leaves_it_good_here(self):
        vault, key = self.make(), signer("key")
        good = vault.commit(key, [component(plain(b"f"))])
        said = {"snapshot": good, "record": vault.record_hash(good)}
        vault.mark(key, "void", **said, instance="b" * 26, reason="elsewhere")
        self.accepted("latest", vault)
        vault.mark(key, "void", snapshot=good, record="2" * 64, instance=None, reason="another record")
        self.accepted("latest", vault)
        vault.mark(key, "void", **said, instance=vault.instance, reason="here")
        self.refused("latest", vault)


class Kits(Made):
    """What a recovery kit says beside the keys, and how it is read."""

    PROSE = "They need a file identity.txt with this:\n%s\n\n"

    def setUp(self):
        super().setUp()
        self.made, self.key = self.make(), signer("key")
        self.snapshots = [self.made.commit(self.key, [component(plain(b"f"))]) for _ in range(2)]
        with open(SHARED["one"].path) as f:
            self.secret = [line for line in f if line.startswith("AGE-SECRET-KEY-")][0].strip()

    def fields(self, **changed):
        fields = {"kit": "1", "printed": "2026-11-23T08:00:00Z", "project": "mini p", "hostname": "",
                  "host": self.key.host, "vault": self.made.vault, "store": "local", "store-path": "/srv/a b/%",
                  "identity": self.secret, "trusted": self.key.public.split()[1], "trusted-name": "mini-1",
                  "trusted-roles": "host,verify,prune", "head": self.head(2)}
        fields.update(changed)
        return [(name.replace("_", "-"), value) for name, value in fields.items() if value is not None]

    def head(self, number):
        return "%s:%d:%s" % (self.key.id, number, self.made.record_hash(self.snapshots[number - 1]))

    def kit(self, lines, prose=""):
        path = os.path.join(self.dir, "kit.txt")
        with open(path, "w") as f:
            f.write(prose + "\n".join(lines) + "\n")
        return path

    def with_kit(self, code, lines, *words, prose=""):
        done = self.run_recover(code, self.made.store, "--kit", self.kit(lines, prose), *(words or ["list"]))
        subprocess.run(["rm", "-rf", self.to], check=True)
        self.assertNotIn(self.secret, done.stderr + done.stdout)
        return done

    def restore(self, code, lines, **more):
        return self.with_kit(code, lines, "restore", "latest", "--to", self.to, **more)

    def test_a_store_that_was_rolled_back_below_the_kits_head_has_no_latest(self):
        lines, headless = mini_vault.kit_block(self.fields()), mini_vault.kit_block(self.fields(head=None))
        self.with_kit(OK, lines)
        self.assertIn(self.snapshots[1], self.restore(OK, lines).stderr)
        os.unlink(os.path.join(self.made.store, "snapshots", self.snapshots[1] + ".json"))
        for done in (self.with_kit(DAMAGED, lines), self.restore(DAMAGED, lines)):
            self.assertIn("the kit knows of number 2", done.stderr)
        self.with_kit(OK, lines, "restore", self.snapshots[0], "--to", self.to)
        self.assertIn(self.snapshots[0], self.restore(OK, headless).stderr)

    def test_another_entry_of_the_kits_number_is_a_rewritten_history(self):
        other = "%s:1:%s" % (self.key.id, "1" * 64)
        for done in (self.with_kit(DAMAGED, mini_vault.kit_block(self.fields(head=other))),
                     self.restore(DAMAGED, mini_vault.kit_block(self.fields(head=other)))):
            self.assertIn("rewritten", done.stderr)

    def test_a_head_that_a_mark_excuses_is_no_fault(self):
        gone = os.path.join(self.made.store, "snapshots", self.snapshots[1] + ".json")
        row = {"signer": self.key.id, "number": 2, "hash": self.made.record_hash(self.snapshots[1]), "snapshot": self.snapshots[1]}
        lines = mini_vault.kit_block(self.fields())
        self.made.mark(self.key, "prune", instance=self.made.instance, removed=[row])
        os.unlink(gone)
        self.with_kit(OK, lines)
        self.assertIn(self.snapshots[0], self.restore(OK, lines).stderr)

    def test_vault_and_host_come_from_the_kit(self):
        other = signer("other")
        theirs = self.made.commit(other, [component(plain(b"f"))])
        lines = mini_vault.kit_block(self.fields() + [("trusted", other.public.split()[1]), ("trusted-roles", "host")])
        self.assertIn(self.snapshots[1], self.restore(OK, lines).stderr)
        done = self.with_kit(OK, lines, "restore", "latest", "--host", other.host, "--to", self.to)
        self.assertIn(theirs, done.stderr)
        done = self.with_kit(DAMAGED, mini_vault.kit_block(self.fields(vault="b" * 26)))
        self.assertIn("belongs to vault", done.stderr)

    def test_a_key_that_the_kit_gives_to_a_host_signs_for_it(self):
        other = signer("other")
        other.introduced(self.key.host, *(self.key.number - 1, self.key.previous))
        snapshot = self.made.commit(other, [component(plain(b"f"))])
        theirs = [("trusted", other.public.split()[1]), ("trusted-roles", "host"), ("trusted-host", self.key.host)]
        done = self.with_kit(OK, mini_vault.kit_block(self.fields() + theirs), "restore", snapshot, "--to", self.to)
        self.assertNotIn("NOTHING PROVES", done.stderr)
        self.with_kit(DAMAGED, mini_vault.kit_block(self.fields() + theirs[:2]), "restore", snapshot, "--to", self.to)

    def test_another_host_whose_key_was_stolen_takes_nothing_from_the_kits_host(self):
        thief = signer("other")
        self.made.commit(thief, [component(plain(b"f"))])
        said = {"key": self.key.public, "for": thief.host}
        old = [1, self.made.record_hash(self.snapshots[0])]
        lines = mini_vault.kit_block(self.fields() + [("trusted", thief.public.split()[1]), ("trusted-roles", "host")])
        # It retires the kit's key below the kit's own head, and calls it a key of its own host.
        self.made.mark(thief, "key", action="retire", **said, last=old)
        self.assertIn("snapshot " + self.snapshots[1], self.restore(OK, lines).stderr)
        self.made.mark(thief, "key", action="introduce", **said, last=None)
        self.made.mark(thief, "key", action="retire", **said, last=old)
        self.assertIn("snapshot " + self.snapshots[1], self.restore(OK, lines).stderr)
        os.unlink(os.path.join(self.made.store, "snapshots", self.snapshots[1] + ".json"))
        self.assertIn("the kit knows of number 2", self.restore(DAMAGED, lines).stderr)

    def test_a_key_without_roles_that_the_kit_names_for_its_host_is_still_held_to_its_head(self):
        new = signer("other")
        mark = self.made.mark(self.key, "key", action="introduce", key=new.public, **{"for": self.key.host}, last=None)
        new.introduced(self.key.host, *mark)
        newest = self.made.commit(new, [component(plain(b"f"))])
        fields = self.fields(trusted_roles="", head="%s:%d:%s" % ((self.key.id,) + mark)) + [
            ("trusted", new.public.split()[1]), ("trusted-roles", "host"), ("trusted-host", self.key.host)]
        lines = mini_vault.kit_block(fields)
        self.assertIn("snapshot " + newest, self.restore(OK, lines).stderr)
        os.unlink(os.path.join(self.made.store, "marks", self.key.id, "%010d.json" % mark[0]))
        self.assertIn("the kit knows of number 3", self.restore(DAMAGED, lines).stderr)

    def test_who_retired_a_key_knew_its_last_entry(self):
        new = signer("other")
        said = {"key": self.key.public, "for": self.key.host}
        mark = self.made.mark(self.key, "key", action="introduce", **dict(said, key=new.public), last=None)
        new.introduced(self.key.host, *mark)
        self.made.mark(new, "key", action="retire", **said, last=list(mark))
        newest = self.made.commit(new, [component(plain(b"f"))])
        lines = mini_vault.kit_block(self.fields(head=None) + [
            ("trusted", new.public.split()[1]), ("trusted-roles", "host"), ("trusted-host", self.key.host)])
        self.assertIn("snapshot " + newest, self.restore(OK, lines).stderr)
        self.with_kit(OK, lines)
        os.unlink(os.path.join(self.made.store, "marks", self.key.id, "%010d.json" % mark[0]))
        for done in (self.with_kit(DAMAGED, lines), self.restore(DAMAGED, lines)):
            self.assertIn("number 3", done.stderr)

    def test_beside_a_whole_kit_no_line_of_prose_makes_a_key_trusted(self):
        other = signer("other")
        theirs = self.made.commit(other, [component(plain(b"f"))])
        lines = mini_vault.kit_block(self.fields())
        for prose in ("trusted  mini-2  %s  host\n", "Trusted no more: %s\n"):
            with self.subTest(prose=prose):
                done = self.with_kit(DAMAGED, lines, "restore", theirs, "--to", self.to, prose=prose % other.public)
                self.assertIn("not a trusted key of that host", done.stderr)
        self.assertIn(self.snapshots[1], self.restore(OK, lines, prose="trusted: %s\n" % other.public).stderr)

    def test_a_key_of_the_kit_without_roles_is_trusted_for_nothing(self):
        done = self.restore(FAILED, mini_vault.kit_block(self.fields(trusted_roles="")))
        self.assertIn("nothing proves", done.stderr)

    def test_a_misread_letter_is_named_by_its_line_and_matters_in_the_block_only(self):
        lines = mini_vault.kit_block(self.fields())
        wrong = self.secret[:-1] + ("Q" if self.secret[-1] != "Q" else "P")
        self.restore(OK, lines, prose=self.PROSE % wrong)
        self.restore(OK, ["> " + line.replace("  ", "\t") + "\r" for line in lines])
        for number in range(1, len(lines) - 1):
            with self.subTest(line=number):
                bad = list(lines)
                words = bad[number].split()
                words[2] = words[2][:-1] + ("x" if words[2][-1] != "x" else "y")
                bad[number] = " ".join(words)
                done = self.with_kit(FAILED, bad, prose=self.PROSE % self.secret)
                self.assertIn("line %d of the kit's block is mistyped" % number, done.stderr)
                done = self.with_kit(FAILED, lines[:number] + lines[number + 1:])
                self.assertRegex(done.stderr, "line %d of the kit's block is missing|cut off" % number)
        for cut in (lines[1:], lines[:-1], lines + lines, lines[:3] + lines[-1:]):
            self.with_kit(FAILED, cut)
        other = mini_vault.kit_block(self.fields(project="another"))
        self.assertIn("do not belong together", self.with_kit(FAILED, lines[:3] + other[3:4] + lines[4:]).stderr)
        self.with_kit(FAILED, mini_vault.kit_block(self.fields(kit="2")))

    def test_a_mistyped_identity_file_is_not_called_damage(self):
        path = os.path.join(self.dir, "key.txt")
        with open(path, "w") as f:
            f.write(self.secret[:-1] + ("Q" if self.secret[-1] != "Q" else "P") + "\n")
        done = self.run_recover(FAILED, self.made.store, "-i", path, "--trust", self.key.public, "restore", "latest", "--to", self.to)
        self.assertIn("typed right", done.stderr)

    def test_a_locked_kit_says_how_it_is_opened(self):
        locked = mini_vault.kit_block([("kit", "locked-1"), ("locked", "YWdlLWVuY3J5cHRpb24ub3Jn" * 5)])
        done = self.with_kit(FAILED, locked)
        self.assertIn("protected by a passphrase", done.stderr)
        self.assertIn("base64 -d | age -d", done.stderr)


class Hostile(Made):
    """Signed by the trusted key, and still not to be believed."""

    def tampered(self, where, change, *entries, **options):
        """A vault whose writer applied `change` to something."""
        vault = self.make("hostile-%d" % len(os.listdir(self.dir)))
        tamper = lambda what, value: change(value) if what == where else value
        snapshot = vault.commit(signer("key"), [component(*(entries or (folder(b"d"), plain(b"d/f"), plain(b"g"))))],
                                tamper=tamper, **options)
        return snapshot, vault

    def entry_change(self, entry, /, **fields):
        def change(doc):
            return {k: v for k, v in dict(doc, **fields).items() if v is not None} if doc.get("path") == entry else doc
        return change

    def test_the_untampered_one_is_accepted(self):
        snapshot, vault = self.tampered("entry", lambda doc: doc)
        self.accepted(snapshot, vault)

    def test_no_path_leads_out_of_the_target(self):
        for path in (b"../canary", b"/etc/passwd", b"d/../../canary", b"d/..", b"..", b"d//f", b"", b"d/./f", b"d/\0f", b"d/f/",
                     b"./g", b"d/" * 4097 + b"f", b"d/" + b"x" * 65536, b"d/../\xff"):
            with self.subTest(path=path[:40]):
                self.refused(*self.tampered("", None, folder(b"d"), plain(path, b"dead")), "not a path inside")

    def test_nothing_is_written_through_a_link(self):
        out = os.fsencode(self.dir)
        self.refused(*self.tampered("", None, symlink(b"d", out), plain(b"d/canary", b"dead")),
                     "not a directory")
        self.refused(*self.tampered("", None, plain(b"d"), plain(b"d/canary", b"dead")), "not a directory")
        self.refused(*self.tampered("", None, symlink(b"d", out), plain(b"d", b"dead")), "listed twice")

    def test_paths_come_once_in_order_and_below_folders(self):
        self.refused(*self.tampered("", None, plain(b"a"), plain(b"a")), "listed twice")
        self.refused(*self.tampered("", None, plain(b"b"), plain(b"a")), "out of order")
        self.refused(*self.tampered("", None, plain(b"a-"), folder(b"a"), plain(b"a/b")), "out of order")
        self.refused(*self.tampered("", None, plain(b"x/y")), "not a directory")
        self.refused(*self.tampered("", None, folder(b"d"), folder(b"d/e"), folder(b"f"), plain(b"f/e/x")))

    def test_entries_are_what_the_format_says(self):
        changes = [dict(type="hole"), dict(mode="644"), dict(mode="0o644"), dict(mode="9999"), dict(mode=420),
                   dict(uid=-1), dict(uid=2**32), dict(uid=True), dict(uid="0"), dict(mtime=[1]), dict(mtime=[1, 10**9]),
                   dict(mtime=[1.5, 0]), dict(mtime=[1, 0, 0]), dict(mtime=2), dict(size=-1), dict(size=None),
                   dict(size=2**53), dict(hash=None), dict(hash="b3:00"), dict(link="12"), dict(xattrs={"user.a": "%"}),
                   dict(xattrs={"": "AAAA"}), dict(xattrs=[]), dict(target="x"), dict(dev=[1, 2]), dict(flags="x"),
                   dict(path=None), dict(path_b64="Zw=="), dict(path=None, path_b64="Zw=="), dict(path="\ud800"),
                   dict(user=1), dict(maps=[]), dict(type="symlink"), dict(type="dir"), dict(type="left", why="because")]
        for fields in changes:
            with self.subTest(**fields):
                self.refused(*self.tampered("entry", self.entry_change("g", **fields)))

    def test_a_time_may_be_any_that_a_file_can_have(self):
        for seconds in (2**62, -2**63, 2**63 - 1):
            with self.subTest(seconds=seconds):
                snapshot, vault = self.tampered("entry", self.entry_change("g", mtime=[seconds, 0]))
                done = recover(self.words(vault, SHARED["key"].public) + ["restore", snapshot, "--to", self.to])
                # What a system cannot hold it cuts or refuses; that is said, and stops nothing.
                self.assertIn(done.returncode, (OK, PROBLEMS), done.stderr)
                with open(os.path.join(self.to, "c", "g"), "rb") as f:
                    self.assertEqual(f.read(), b"content\n")
                self.run_recover(OK, *self.words(vault, SHARED["key"].public), "ls", snapshot, "c")
                subprocess.run(["rm", "-rf", self.to], check=True)
        self.refused(*self.tampered("entry", self.entry_change("g", mtime=[2**63, 0])), "too large")

    def test_links_and_devices_are_what_the_format_says(self):
        for fields in (dict(target=""), dict(target="a\0b"), dict(target=None), dict(target="x" * 65536), dict(size=0)):
            with self.subTest(**fields):
                self.refused(*self.tampered("entry", self.entry_change("l", **fields), symlink(b"l", b"t")))
        self.refused(*self.tampered("entry", self.entry_change("n", dev=[-1, 0]), meta(b"n", "char", dev=[1, 3])))
        self.refused(*self.tampered("entry", self.entry_change("n", dev=None), meta(b"n", "char", dev=[1, 3])))

    def test_names_of_one_inode_say_the_same(self):
        one, two = plain(b"a", link="%016x" % 1), plain(b"b", link="%016x" % 1)
        self.accepted(*self.tampered("", None, one, two))
        self.refused(*self.tampered("entry", self.entry_change("b", mode="0600"), plain(b"a", link="%016x" % 1),
                                    plain(b"b", link="%016x" % 1)), "differ")

    def test_extents_stay_inside_file_archive_and_frames(self):
        def extents(change):
            def apply(lines):
                out = []
                for line in lines:
                    doc = json.loads(line)
                    if doc.get("path") == "g":
                        doc["extents"] = change([list(row) for row in doc["extents"]])
                    out.append(mini_vault.line_of(doc))
                return out
            return apply
        changes = [lambda r: [[r[0][0], 9, r[0][2], r[0][3]]], lambda r: [[0, -1, r[0][2], 8]], lambda r: r + r,
                   lambda r: [[0, 0, 2**40, 8]], lambda r: [[0, 0, -1, 8]], lambda r: [[-1, 0, r[0][2], 8]],
                   lambda r: [[0, 0, r[0][2], 9]], lambda r: [[1, 0, r[0][2], 8]], lambda r: [[0, 0, r[0][2], 0]],
                   lambda r: [r[0][:3]], lambda r: [r[0] + [1]], lambda r: [[0, 0, r[0][2], "8"]],
                   lambda r: [[4, 0, r[0][2], 4], [0, 0, r[0][2], 4]], lambda r: {}, lambda r: [[0.0, 0, r[0][2], 8]]]
        for n, change in enumerate(changes):
            with self.subTest(n=n):
                self.refused(*self.tampered("segment", extents(change)))
        self.accepted(*self.tampered("segment", extents(lambda r: r)))

    def test_headers_are_what_the_record_and_index_say(self):
        def header(**fields):
            def apply(lines):
                doc = dict(json.loads(lines[0]), **fields)
                return [mini_vault.line_of(doc)] + lines[1:]
            return apply

        def archive(**fields):
            def apply(lines):
                doc = json.loads(lines[0])
                doc["archives"][0].update(fields)
                return [mini_vault.line_of(doc)] + lines[1:]
            return apply
        def larger(lines):
            size = json.loads(lines[0])["archives"][0]["size"]
            return archive(size=size + 1)(lines)
        for change in (larger, header(component="other"), header(type="map"), header(archives={}), archive(size=5), archive(tar=512),
                       archive(sha256="0" * 64), archive(payload=10**9), archive(frames=[]),
                       archive(frames=[[0, 0, 9, 5 << 20]]), archive(frames=[[0, 0, 99, 512], [0, 0, 99, 512]]),
                       lambda lines: lines[:1], lambda lines: lines[:-1], lambda lines: [], lambda lines: lines + [b"\n"],
                       lambda lines: lines[:-1] + [lines[-1][:-1]], lambda lines: lines + [b"{}\n"],
                       lambda lines: lines[:1] + lines[2:],
                       lambda lines: [lines[0].replace(b'{"format"', b'{"format":1,"format"')] + lines[1:]):
            self.refused(*self.tampered("segment", change))

    def test_index_and_record_must_agree(self):
        def index(change):
            return lambda rows: (change(rows), rows)[1]
        for change in (lambda r: r[0].update(vault="b" * 26), lambda r: r[0].update(snapshot="20260101T000000Z-aaaaaaaa"),
                       lambda r: r[0].update(host="0" * 32), lambda r: r[1].update(number=5), lambda r: r[1].update(size=5),
                       lambda r: r[1].update(entries=9), lambda r: r[1].update(complete=False),
                       lambda r: r[1].update(check="passed"), lambda r: r[1].update(component="../c"),
                       lambda r: r[1].update(component=".backstay"), lambda r: r[1].update(single=True),
                       lambda r: r.append(r[1]), lambda r: r.pop(), lambda r: r[1].update(segments=[]),
                       lambda r: r[1].update(archives=[]), lambda r: r[1].update(archives=["0" * 64]),
                       lambda r: r[1]["segments"][0].update(first="x"), lambda r: r[1]["segments"][0].update(last="x"),
                       lambda r: r[1]["segments"][0].update(size=1), lambda r: r[1]["segments"][0].update(entries=2)):
            self.refused(*self.tampered("index", index(change)))
        drop_archive = lambda r: dict(r, objects=[o for o in r["objects"] if o[0] != "archive"])
        for change in (drop_archive, lambda r: dict(r, objects=r["objects"] + r["objects"][:1]),
                       lambda r: dict(r, objects=list(reversed(r["objects"]))), lambda r: dict(r, index="0" * 64),
                       lambda r: dict(r, index=None), lambda r: dict(r, components=[]), lambda r: dict(r, kind="odd"),
                       lambda r: dict(r, started="2026-11-23T09:00:01Z"), lambda r: dict(r, complete=1),
                       lambda r: dict(r, number=0), lambda r: dict(r, previous="x"), lambda r: dict(r, recipients=[]),
                       lambda r: dict(r, type="mark"), lambda r: {k: v for k, v in r.items() if k != "previous"},
                       lambda r: dict(r, objects=[[o[0], o[1] + 1] + o[2:] for o in r["objects"]])):
            self.refused(*self.tampered("record", change))

    def test_newer_is_refused_as_newer(self):
        for what in ("record", "segment", "index"):
            for fields in (dict(format=2), dict(needs=["compact-maps"])):
                def change(value, fields=fields, what=what):
                    if what == "record":
                        return dict(value, **fields)
                    if what == "index":
                        return [dict(value[0], **fields)] + value[1:]
                    return [mini_vault.line_of(dict(json.loads(value[0]), **fields))] + value[1:]
                with self.subTest(what=what, **fields):
                    done = self.refused(*self.tampered(what, change), "newer backstay", more=("--keep-going",))
                    self.assertNotIn("DAMAGE OR", done.stderr)

    def test_unknown_fields_are_ignored(self):
        self.accepted(*self.tampered("entry", lambda doc: dict(doc, colour="blue")))
        self.accepted(*self.tampered("record", lambda doc: dict(doc, colour=[1])))

    def test_an_archive_of_another_host_is_not_used(self):
        self.refused(*self.tampered("", None, archives_host="0" * 32), "another host")

    def test_maps_are_checked_like_extents(self):
        def data(n):
            return b"".join(bytes([65 + i % 20]) * 4096 for i in range(n))
        old = data(600)
        new = b"".join(old[i * 4096:(i + 1) * 4096] if i % 2 else b"!" * 4096 for i in range(600))
        rows = lambda change: lambda lines: lines[:1] + change(lines[1:])
        cases = [(lambda lines: lines, True), (rows(lambda r: list(reversed(r))), False), (rows(lambda r: r + r[-1:]), False),
                 (rows(lambda r: [b"[268435456,0,600,5]\n"]), False), (rows(lambda r: [b"[0,7,600,5]\n"]), False),
                 (rows(lambda r: r[:-1] + [r[-1][:-1]]), False), (lambda lines: lines[1:], False)]
        for n, (change, good) in enumerate(cases):
            with self.subTest(n=n):
                vault, key = self.make("maps-%d" % n), signer("key")
                vault.commit(key, [component(plain(b"f", old))])
                tamper = lambda what, value: change(value) if what == "map" else value
                snapshot = vault.commit(key, [component(plain(b"f", new))], tamper=tamper)
                (self.accepted if good else self.refused)(snapshot, vault)

    def test_a_map_stays_in_its_range(self):
        def blocks(fill):
            return [(n * 4096, bytes([fill if n % 2 else 33]) * 4096) for n in range(600)]

        def entry(fill):
            content = blocks(fill)
            return meta(b"f", "file", size=2 * mini_vault.MAP_RANGE, content=content,
                        hash="b3:" + mini_vault.blake3(b"".join(data for _, data in content)).hex())

        def beyond(lines):
            row = json.loads(lines[-1])
            return lines[:-1] + [mini_vault.line_of([mini_vault.MAP_RANGE] + row[1:])]
        for change, good in ((lambda lines: lines, True), (beyond, False)):
            vault, key = self.make("range-%d" % good), signer("key")
            vault.commit(key, [component(entry(65))])
            snapshot = vault.commit(key, [component(entry(66))],
                                    tamper=lambda what, value: change(value) if what == "map" else value)
            (self.accepted if good else self.refused)(snapshot, vault)

    def test_a_bomb_is_cut_short(self):
        bomb = b'{"path":"' + b"x" * (80 << 20) + b'"}\n'
        self.refused(*self.tampered("segment", lambda lines: lines + [bomb]))
        line = b'{"path":"' + b"x" * (17 << 20) + b'"}\n'
        self.refused(*self.tampered("segment", lambda lines: lines + [line]), "longer than it may be")
        deep = b'{"path":' + b"[" * 200000 + b"]" * 200000 + b"}\n"
        self.refused(*self.tampered("segment", lambda lines: lines + [deep]))

    def test_a_window_above_8_mib_is_refused(self):
        original = mini_vault.compress
        big = lambda piece: subprocess.run(["zstd", "-q", "--ultra", "-20", "--long=24", "-c"], input=piece, check=True,
                                           stdout=subprocess.PIPE).stdout
        mini_vault.compress = lambda piece: big(piece + b"\n" * (20 << 20)) if b'"type":"segment"' in piece else original(
            piece)
        try:
            snapshot, vault = self.tampered("", None)
        finally:
            mini_vault.compress = original
        self.refused(snapshot, vault, "cannot be unpacked")

    def test_plaintext_in_place_of_an_age_file_is_refused(self):
        vault = self.make()
        vault.encrypt = lambda data: b"age-encryption.org/v1\n--- \n" + data
        with self.assertRaises(AssertionError):
            self.accepted(vault.commit(signer("key"), [component(plain(b"f"))]), vault)

    def test_an_object_sealed_again_by_somebody_else_is_refused(self):
        """age proves nothing about the writer: whoever knows the recipient can seal other content of the same size."""
        data = random.Random(5).randbytes(5000)
        vault = self.make()
        plains = {}
        seal = vault.encrypt
        def encrypt(data):
            sealed = seal(data)
            plains[hashlib.sha256(sealed).hexdigest()] = data
            return sealed
        vault.encrypt = encrypt
        snapshot = vault.commit(signer("key"), [component(plain(b"f", data), plain(b"mode", b""))])
        self.accepted(snapshot, vault)
        for kind, _size, sha, _set in record_of(vault.store, snapshot)["objects"]:
            with self.subTest(kind=kind):
                path = object_path(vault.store, kind, sha)
                with open(path, "rb") as f:
                    good = f.read()
                packed = mini_vault.run("zstd", "-dqc", data=plains[sha])
                other = packed.replace(data[:64], b"forged!!" * 8).replace(b'"mode":"0644"', b'"mode":"4755"').replace(
                    b'"hostname":"mini-1"', b'"hostname":"evil-1"')
                self.assertNotEqual(packed, other)
                forged = seal(mini_vault.compress(other))
                # A skippable frame makes up the size, so that only the hash can tell.
                lack = len(plains[sha]) - len(mini_vault.compress(other))
                if lack >= 8:
                    forged = seal(mini_vault.compress(other) + b"\x5e\x2a\x4d\x18" + (lack - 8).to_bytes(4, "little")
                                  + b"\0" * (lack - 8))
                os.unlink(path)
                with open(path, "wb") as f:
                    f.write(forged)
                self.refused(snapshot, vault, "not those that were written")
                os.unlink(path)
                with open(path, "wb") as f:
                    f.write(good)
        self.accepted(snapshot, vault)

    def test_memory_stays_flat_for_a_large_archive(self):
        if not mini_vault.B3SUM:
            self.skipTest("b3sum is not installed: hashing so much in Python takes too long")
        vault = self.make(archive_size=1 << 30)
        data = random.Random(3).randbytes(96 << 20)
        snapshot = vault.commit(signer("key"), [component(plain(b"f", data))])
        words = self.words(vault, SHARED["key"].public) + ["restore", snapshot, "--to", self.to]
        # What the kernel says of a finished process would include this one, which forked it: it must say itself.
        measure = ("import re, resource, runpy, sys; sys.argv = sys.argv[1:]\n"
                   "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
                   "except SystemExit as e: assert e.code == 0, e.code\n"
                   "print('PEAK', re.search('VmHWM:\\s+(\\d+)', open('/proc/self/status').read()).group(1))")
        done = subprocess.run([sys.executable, "-c", measure, RECOVER] + words, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True)
        self.assertEqual(done.returncode, OK, done.stderr)
        with open(self.to + "/c/f", "rb") as f:
            self.assertEqual(hashlib.sha256(f.read()).digest(), hashlib.sha256(data).digest())
        self.assertLess(int(done.stdout.split()[-1]), 64 * 1024, "KiB at the peak")


# ---------------------------------------------------------------- RECOVER.md

def blocks():
    """name -> commands, for every code block of RECOVER.md."""
    with open(RECOVER_MD, encoding="utf-8") as f:
        text = f.read()
    found = re.findall(r"(?:<!-- (test: (\w+)|not tested: [^>]*) -->\n)?```(\w*)\n(.*?)```", text, re.S)
    assert all(language == "sh" and comment for comment, _, language, _ in found), "a code block without a mark"
    return {name or comment: body for comment, name, _language, body in found}


class Page(Case):
    """Every command of RECOVER.md, as it stands there, in bash."""

    def prepare(self):
        store = self.copy_store()
        v = SHARED["vault"]
        for name in ("RECOVER.md", "recover.py"):
            shutil.copy(os.path.join(os.path.dirname(RECOVER), name), store)
            with open(os.path.join(store, name), "rb") as f:
                signature = mini_vault.Signer(os.path.join(os.path.dirname(v["store"]), "signer-1")).sign(
                    f.read(), "backstay-recover-1")
            with open(os.path.join(store, name + ".sig"), "wb") as f:
                f.write(signature)
        values = {"STORE": store, "KEY": v["identities"][0], "TRUST": "'%s'" % v["trust"], "TO": self.to}
        settings = blocks()["settings"]
        for name, value in values.items():
            settings, count = re.subn(r"(?m)^%s=('[^']*'|\S+)" % name, lambda _: "%s=%s" % (name, value), settings)
            self.assertEqual(count, 1, name)
        return settings

    def bash(self, *scripts):
        done = subprocess.run(["bash"], input="\n".join(scripts), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, errors="replace", cwd=self.dir, env=dict(os.environ, TMPDIR=self.dir))
        return done

    def steps(self, *names):
        """The blocks, each checked to have ended well."""
        return [body for name in names for body in (blocks()[name], "[ $? -eq 0 ] || echo BLOCK-FAILED %s" % name)]

    def with_id(self, script, snapshot):
        script, count = re.subn(r"(?m)^ID=\S+", "ID=" + snapshot, script)
        self.assertEqual(count, 1)
        return script

    def test_every_block_is_known_here(self):
        self.assertEqual(set(blocks()), {"settings", "script", "recover", "more", "choose", "unpack", "join", "indexes",
                                         "not tested: installs packages"})
        for line in blocks()["not tested: installs packages"].splitlines():
            self.assertRegex(line, r"^sudo apt install age zstd python3 openssh-client\b")

    def test_it_is_about_a_page(self):
        with open(RECOVER_MD) as f:
            self.assertLess(len(f.readlines()), 150)

    def test_the_short_way(self):
        done = self.bash(self.prepare(), *self.steps("script"), blocks()["recover"], "echo CODE $?")
        self.assertIn("Good \"backstay-recover-1\" signature", done.stdout)
        self.assertIn("CODE 3", done.stdout, done.stderr)
        self.assertNotIn("BLOCK-FAILED", done.stdout)
        self.assert_equal_trees(SHARED["vault"]["snapshots"]["latest"])

    def test_the_other_commands(self):
        more = blocks()["more"].replace("COMPONENT/PATH", "backend/data.bin").replace("COMPONENT", "backend")
        done = self.bash(self.prepare(), "set -e", more.replace("data.bin\n", "data.bin || [ $? -eq 3 ]\n"), "echo ALL-DONE")
        self.assertIn("ALL-DONE", done.stdout, done.stderr)
        self.assertIn("[project]", done.stdout)
        self.assertIn("objects are whole", done.stdout)
        self.assertEqual(os.listdir(self.to + "-part/backend"), ["data.bin"])

    def test_the_bare_way_gives_exactly_the_same(self):
        snapshot = SHARED["vault"]["snapshots"]["alone"]
        choose, *rest = self.steps("choose", "unpack", "join")
        done = self.bash(self.prepare(), *self.steps("script"), self.with_id(choose, snapshot), *rest, blocks()["indexes"])
        self.assertNotIn("BLOCK-FAILED", done.stdout, done.stderr)
        self.assertNotIn("FAILED", done.stdout + done.stderr)
        self.assertIn('"alone":true', done.stdout)
        self.assertIn("Good \"backstay-record-1\" signature", done.stdout)
        self.assertIn('"type":"index"', done.stdout)
        self.assertIn("before the change", done.stdout)
        self.assert_equal_trees(snapshot, bare=("db",))

    def test_the_bare_way_sees_a_snapshot_that_does_not_stand_alone(self):
        snapshot = SHARED["vault"]["snapshots"]["delta"]
        done = self.bash(self.prepare(), *self.steps("script"), self.with_id(blocks()["choose"], snapshot))
        self.assertNotIn('"alone":true', done.stdout)

    def test_the_bare_way_sees_damage(self):
        snapshot = SHARED["vault"]["snapshots"]["alone"]
        settings = self.prepare()
        store = os.path.join(self.dir, "store")
        sha = record_of(store, snapshot)["objects"][0][2]
        damage(object_path(store, "archive", sha), "middle")
        choose, _, unpack = self.steps("choose", "unpack")[:3]
        done = self.bash(settings, *self.steps("script"), self.with_id(choose, snapshot), unpack)
        self.assertRegex(done.stdout, sha + r".*: FAILED")


def in_parts(count):
    """Runs all tests in so many processes: most of the time goes into programs that use one processor."""
    suites = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    names = ["%s.%s" % (type(test).__name__, test._testMethodName) for suite in suites for test in suite]
    assert len(names) > 100, "only %d tests were found" % len(names)
    logs = [tempfile.TemporaryFile("w+") for _ in range(count)]
    parts = [subprocess.Popen([sys.executable, os.path.abspath(__file__)] + names[at::count], stdout=log, stderr=log)
             for at, log in enumerate(logs)]
    codes = [part.wait() for part in parts]
    for log in logs:
        log.seek(0)
        sys.stdout.write(log.read())
    return max(map(abs, codes))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(in_parts(min(os.cpu_count() or 1, 4)))
    unittest.main()
