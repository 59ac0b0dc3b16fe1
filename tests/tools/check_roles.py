#!/usr/bin/env python3
"""What the keys of deploy/policies (host, verifier, pruner) may do and may not, on a server that enforces policies: SeaweedFS, started here.

  check_roles.py [PROGRAM]      a line for each; with PROGRAM also that backstay does its work with no more than these

The same texts are given to AWS by deploy/terraform/s3. Exit code 77: SeaweedFS is not installed.
"""
import json, pathlib, re, subprocess, sys, tempfile
import servers
from rights import Rights
from s3 import S3, md5_b64

POLICIES = pathlib.Path(__file__).resolve().parent.parent.parent / "deploy/policies"
FLEET = pathlib.Path(__file__).resolve().parent.parent.parent / "docs/fleet.md"
BUCKET, HOST, OTHER = "fleet", "web-1", "web-2"
ROLES = ("host", "verifier", "pruner")
rights = Rights(BUCKET)
see, never, delete_many, failed = rights.see, rights.never, rights.delete_many, rights.failed


def configuration():
    text = lambda role: (POLICIES / f"{role}.json").read_text().replace("BUCKET", BUCKET).replace("HOST", HOST)
    return {
        "identities": [{"name": role, "credentials": [{"accessKey": f"key-{role}", "secretKey": f"secret-{role}"}], "policyNames": [role]} for role in ROLES],
        "policies": [{"name": role, "content": json.dumps(json.loads(text(role)))} for role in ROLES],
    }


def versions(s3, prefix):
    return s3.ask("GET", BUCKET, {"versions": "", "prefix": prefix})


def listed(s3, prefix=None):
    return s3.ask("GET", BUCKET, {"list-type": "2"} | ({"prefix": prefix} if prefix else {}))


def host(s3, own, other, version):
    see("host", "put below its prefix", s3.ask("PUT", f"{own}-new", body=b"new"), True)
    see("host", "get below its prefix", s3.ask("GET", own), True)
    see("host", "list its prefix", listed(s3, f"{HOST}/"), True)
    see("host", "list versions below its prefix", versions(s3, f"{HOST}/app/"), True)
    see("host", "get a version", s3.ask("GET", own, {"versionId": version}), True)
    upload = s3.ask("POST", f"{own}-parts", {"uploads": ""}).one("UploadId")
    see("host", "send a part", s3.ask("PUT", f"{own}-parts", {"partNumber": "1", "uploadId": upload}, b"part"), True)
    see("host", "list parts", s3.ask("GET", f"{own}-parts", {"uploadId": upload}), True)
    see("host", "abort an upload", s3.ask("DELETE", f"{own}-parts", {"uploadId": upload}), True)
    see("host", "ask for versioning", s3.ask("GET", BUCKET, {"versioning": ""}), True)
    see("host", "put below another's prefix", s3.ask("PUT", other, body=b"new"), False)
    see("host", "get below another's prefix", s3.ask("GET", other), False)
    see("host", "list another's prefix", listed(s3, f"{OTHER}/"), False)
    see("host", "list versions below another's prefix", versions(s3, f"{OTHER}/"), False)
    see("host", "list all versions", s3.ask("GET", BUCKET, {"versions": ""}), False)
    see("host", "list everything", listed(s3), False)
    see("host", "delete", s3.ask("DELETE", own), False)
    see("host", "delete many", delete_many(s3, own), False)
    never("host", s3, own, version)


def verifier(s3, own, other, version):
    for key in (own, other):
        see("verifier", f"get {key}", s3.ask("GET", key), True)
    see("verifier", "list everything", listed(s3), True)
    see("verifier", "list versions", s3.ask("GET", BUCKET, {"versions": ""}), True)
    see("verifier", "put a verdict", s3.ask("PUT", f"{BUCKET}/{HOST}/app/marks/verdict", body=b"verdict"), True)
    see("verifier", "put an object", s3.ask("PUT", f"{BUCKET}/{HOST}/app/objects/new", body=b"new"), False)
    see("verifier", "put a record", s3.ask("PUT", f"{BUCKET}/{HOST}/app/snapshots/new", body=b"new"), False)
    see("verifier", "delete", s3.ask("DELETE", own), False)
    see("verifier", "delete many", delete_many(s3, own), False)
    never("verifier", s3, own, version)


def pruner(s3, own, other, version):
    see("pruner", "get", s3.ask("GET", other), True)
    see("pruner", "list everything", listed(s3), True)
    see("pruner", "put a mark", s3.ask("PUT", f"{BUCKET}/{HOST}/app/marks/prune", body=b"prune"), True)
    see("pruner", "put a tombstone", s3.ask("PUT", f"{BUCKET}/{HOST}/app/tombstones/new", body=b"tombstone"), True)
    see("pruner", "put an object", s3.ask("PUT", f"{BUCKET}/{HOST}/app/objects/new", body=b"new"), False)
    never("pruner", s3, own, version)
    see("pruner", "delete, which hides", s3.ask("DELETE", own), True)
    see("pruner", "delete many", delete_many(s3, other), True)


def configure_host(place, endpoint, trusted, recipients):
    (place / "backstay.toml").write_text(f"""
project = {{ name = "app" }}
store = [{{ name = "bucket", url = "s3://{BUCKET}/{HOST}/app", endpoint = "{endpoint}", prune = "elsewhere" }}]
encryption = {{ recipients = ["{recipients}"] }}
signing = {{ key_file = "{place}/home/.config/backstay/host/signing_key", trusted = [{trusted}] }}
state = {{ dir = "{place}/state" }}
component = [{{ name = "files", path = "app" }}]
""")


def configure(place, role, endpoint, trusted):
    """As docs/fleet.md says it for a verifier, and for a pruner by what differs."""
    text = FLEET.read_text().split("<!-- configuration: verifier -->\n```toml\n")[1].split("```")[0]
    for old, new in {
        r"s3://example-backups/web-17/tsushin": f"s3://{BUCKET}/{HOST}/app",
        r'(?m)^region = .*$': f'endpoint = "{endpoint}"',
        r'(?m)^credentials_file = .*$': "",
        r"/etc/backstay/verifier_key": f"{place}/key",
        r"(?ms)^trusted = \[.*?^\]": f"trusted = [{trusted}]",
        r"/var/lib/backstay/fleet/web-17": f"{place}/state",
    }.items():
        text, found = re.subn(old, new, text)
        if found != 1:
            failed.append(f"docs/fleet.md: {old} is {found} times in the configuration of a verifier")
    if role == "pruner":
        text = text.replace('prune = "elsewhere"', 'prune = "here"') + "[retention]\nkeep_last = 1\nmin_keep = 1\n"
    (place / "backstay.toml").write_text(text)


def work(program, endpoint, top):
    """A host that backs up and holds no identity, a verifier that signs what it found, a pruner that announces what is to go, a drill by somebody who has the identity: each with its own keys and no others."""
    def run(role, *words, code=0):
        place = top / role
        env = {"HOME": f"{place}/home", "PATH": "/usr/bin:/bin", "AWS_ACCESS_KEY_ID": f"key-{role}", "AWS_SECRET_ACCESS_KEY": f"secret-{role}"}
        ran = subprocess.run([program, *words], cwd=place, env=env, capture_output=True, text=True)
        print(f"{'FAIL' if ran.returncode != code else 'ok  '} {role} does: backstay {' '.join(words)[:40]}")
        if ran.returncode != code:
            failed.append(f"{role}: {words}: {ran.returncode}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    for role in ROLES:
        (top / role / "home").mkdir(parents=True)
    (top / "host/app").mkdir()
    run("host", "init", "--yes", "--store", f"{top}/host/keys-only")
    made = (top / "host/backstay.toml").read_text()
    keys = {"host": re.search(r'"(ssh-ed25519 \S+)"', made)[1]}
    for role in ("verifier", "pruner"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", role, "-f", f"{top}/{role}/key"], check=True)
        keys[role] = " ".join((top / role / "key.pub").read_text().split()[:2])
    word = {"host": "host", "verifier": "verify", "pruner": "prune"}
    trusted = ", ".join(f'{{ key = "{keys[role]}", name = "{role}", roles = ["{word[role]}"] }}' for role in ROLES)
    configure_host(top / "host", endpoint, trusted, re.search(r'"(age1\w+)"', made)[1])
    subprocess.run(["rm", "-rf", f"{top}/host/home/.local"], check=True)
    run("host", "init", "--yes", "--kit", f"{top}/host.kit")
    for role in ("verifier", "pruner"):
        configure(top / role, role, endpoint, trusted)
    for n in range(3):
        (top / "host/app" / str(n)).write_text(f"{n}" * 9000)
        run("host", "backup")
    identity = top / "identity.txt"
    (top / "host/home/.config/backstay/host/identity.txt").rename(identity)
    said = run("verifier", "verify", "--read-data")
    if "3 verdicts signed" not in said:
        failed.append(f"the verifier signs what it found: {said}")
    said = json.loads(run("pruner", "--json", "prune") or '{"stores": [{}]}')
    if len(said["stores"][0].get("waiting", [])) != 1:
        failed.append(f"the pruner announces what is to go: {said}")
    run("host", "drill", code=12)
    run("verifier", "-i", str(identity), "--all-hosts", "drill")
    said = json.loads(run("host", "--json", "status") or "{}")
    if not (said.get("last_drill") or {}).get("good") or said["last_drill"]["by"] != "verifier":
        failed.append(f"the host sees the drill: {said.get('last_drill')}")
    run("host", "list")
    doctor(program, top / "host", ("key-host", "secret-host"), "well", "stays as an older version, and these keys cannot remove that")
    doctor(program, top / "host", (servers.ACCESS, servers.SECRET), "warning", "older versions stay, but these keys may remove them")


def doctor(program, place, keys, severity, words):
    """What `backstay doctor` says of the bucket with these keys: it is tried, not believed."""
    env = {"HOME": f"{place}/home", "PATH": "/usr/bin:/bin", "AWS_ACCESS_KEY_ID": keys[0], "AWS_SECRET_ACCESS_KEY": keys[1]}
    ran = subprocess.run([program, "--json", "doctor"], cwd=place, env=env, capture_output=True, text=True)
    found = json.loads(ran.stdout)["findings"] if ran.returncode in (0, 18) else []
    well = any(f["subject"] == "bucket" and f["severity"] == severity and words in f["what"] for f in found)
    print(f"{'ok  ' if well else 'FAIL'} doctor with {keys[0]}: {severity}: {words}")
    if not well:
        failed.append(f"doctor with {keys[0]}: {ran.stdout}{ran.stderr}")


def main():
    with tempfile.TemporaryDirectory(prefix="bs3-", ignore_cleanup_errors=True) as home:
        try:
            with servers.weed(home, more=configuration()) as (endpoint, _):
                root = S3(endpoint, servers.ACCESS, servers.SECRET)
                root.ask("PUT", BUCKET)
                on = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
                root.ask("PUT", BUCKET, {"versioning": ""}, on, {"content-md5": md5_b64(on)})
                own, other = f"{BUCKET}/{HOST}/app/objects/a", f"{BUCKET}/{OTHER}/app/objects/a"
                version = root.ask("PUT", own, body=b"first").headers.get("x-amz-version-id", "")
                root.ask("PUT", other, body=b"first")
                if not version:
                    failed.append("no version was given: are versions on?")
                for role, check in (("host", host), ("verifier", verifier), ("pruner", pruner)):
                    check(S3(endpoint, f"key-{role}", f"secret-{role}"), own, other, version)
                if len(sys.argv) > 1:
                    for key in ("new", "marks/verdict", "marks/prune", "tombstones/new", "objects/a", "objects/a-new"):
                        root.ask("DELETE", f"{BUCKET}/{HOST}/app/{key}")
                    work(str(pathlib.Path(sys.argv[1]).resolve()), endpoint, pathlib.Path(home) / "work")
                if root.ask("GET", own, {"versionId": version}).body != b"first":
                    failed.append("a version is gone")
        except servers.NotInstalled as e:
            print(e, file=sys.stderr)
            return 77
    if failed:
        print("FAILED:", "; ".join(failed), file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
