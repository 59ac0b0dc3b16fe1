#!/usr/bin/env python3
"""What the keys of deploy/policies (host, verifier, pruner) may do and may not, on a server that enforces policies: SeaweedFS, started here.

  check_roles.py [PROGRAM]      a line for each; with PROGRAM also that backstay does its work with no more than these

The same texts are given to AWS by deploy/terraform/s3. Exit code 77: SeaweedFS is not installed.
"""
import json, pathlib, re, subprocess, sys, tempfile
import servers
from s3 import S3, md5_b64

POLICIES = pathlib.Path(__file__).resolve().parent.parent.parent / "deploy/policies"
BUCKET, HOST, OTHER = "fleet", "web-1", "web-2"
ROLES = ("host", "verifier", "pruner")
failed = []


def configuration():
    text = lambda role: (POLICIES / f"{role}.json").read_text().replace("BUCKET", BUCKET).replace("HOST", HOST)
    return {
        "identities": [{"name": role, "credentials": [{"accessKey": f"key-{role}", "secretKey": f"secret-{role}"}], "policyNames": [role]} for role in ROLES],
        "policies": [{"name": role, "content": json.dumps(json.loads(text(role)))} for role in ROLES],
    }


def see(role, what, answer, allowed):
    """An answer is a refusal when it is 403, or names AccessDenied in a list of results."""
    refused = answer.status == 403 or "AccessDenied" in answer.all("Code")
    well = not refused and answer.status < 300 if allowed else refused
    print(f"{'ok  ' if well else 'FAIL'} {role} {'may' if allowed else 'may not'} {what}: {answer}")
    if not well:
        failed.append(f"{role}: {what}")


def never(role, s3, key, version):
    """What no key of the three may."""
    see(role, "delete a version", s3.ask("DELETE", key, {"versionId": version}), False)
    off = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
    see(role, "turn versions off", s3.ask("PUT", BUCKET, {"versioning": ""}, off, {"content-md5": md5_b64(off)}), False)
    see(role, "change the lifecycle", s3.ask("DELETE", BUCKET, {"lifecycle": ""}), False)
    see(role, "change the policy", s3.ask("DELETE", BUCKET, {"policy": ""}), False)
    see(role, "delete the bucket", s3.ask("DELETE", BUCKET), False)
    see(role, "make a bucket", s3.ask("PUT", f"{BUCKET}-{role}"), False)


def delete_many(s3, key):
    many = f"<Delete><Object><Key>{key.split('/', 1)[1]}</Key></Object></Delete>".encode()
    return s3.ask("POST", BUCKET, {"delete": ""}, many, {"content-md5": md5_b64(many)})


def listed(s3, prefix=None):
    return s3.ask("GET", BUCKET, {"list-type": "2"} | ({"prefix": prefix} if prefix else {}))


def host(s3, own, other, version):
    see("host", "put below its prefix", s3.ask("PUT", f"{own}-new", body=b"new"), True)
    see("host", "get below its prefix", s3.ask("GET", own), True)
    see("host", "list its prefix", listed(s3, f"{HOST}/"), True)
    upload = s3.ask("POST", f"{own}-parts", {"uploads": ""}).one("UploadId")
    see("host", "send a part", s3.ask("PUT", f"{own}-parts", {"partNumber": "1", "uploadId": upload}, b"part"), True)
    see("host", "list parts", s3.ask("GET", f"{own}-parts", {"uploadId": upload}), True)
    see("host", "abort an upload", s3.ask("DELETE", f"{own}-parts", {"uploadId": upload}), True)
    see("host", "ask for versioning", s3.ask("GET", BUCKET, {"versioning": ""}), True)
    see("host", "put below another's prefix", s3.ask("PUT", other, body=b"new"), False)
    see("host", "get below another's prefix", s3.ask("GET", other), False)
    see("host", "list another's prefix", listed(s3, f"{OTHER}/"), False)
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


def configure(place, role, endpoint, trusted, recipients):
    text = f"""
project = {{ name = "app" }}
store = [{{ name = "bucket", url = "s3://{BUCKET}/{HOST}/app", endpoint = "{endpoint}", prune = "{'here' if role == 'pruner' else 'elsewhere'}" }}]
encryption = {{ recipients = ["{recipients}"] }}
signing = {{ key_file = "{place}/home/.config/backstay/{role}/signing_key", trusted = [{trusted}] }}
retention = {{ keep_last = 1, min_keep = 1 }}
state = {{ dir = "{place}/state" }}
"""
    (place / "backstay.toml").write_text(text + ('component = [{ name = "files", path = "app" }]\n' if role == "host" else ""))


def work(program, endpoint, top):
    """A host that backs up, a verifier that signs what it found, a pruner that announces what is to go: each with its own keys and no others."""
    def run(role, *words):
        place = top / role
        env = {"HOME": f"{place}/home", "PATH": "/usr/bin:/bin", "AWS_ACCESS_KEY_ID": f"key-{role}", "AWS_SECRET_ACCESS_KEY": f"secret-{role}"}
        ran = subprocess.run([program, *words], cwd=place, env=env, capture_output=True, text=True)
        print(f"{'FAIL' if ran.returncode else 'ok  '} {role} does: backstay {' '.join(words)[:40]}")
        if ran.returncode:
            failed.append(f"{role}: {words}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    made = {}
    for role in ROLES:
        (top / role / "home").mkdir(parents=True)
        (top / role / "app").mkdir()
        run(role, "init", "--yes", "--store", f"{top}/{role}/keys-only")
        made[role] = (top / role / "backstay.toml").read_text()
    word = {"host": "host", "verifier": "verify", "pruner": "prune"}
    key = lambda role: re.search(r'"(ssh-ed25519 \S+)"', made[role])[1]
    trusted = ", ".join(f'{{ key = "{key(role)}", name = "{role}", roles = ["{word[role]}"] }}' for role in ROLES)
    recipient = re.search(r'"(age1\w+)"', made["host"])[1]
    for role in ROLES:
        configure(top / role, role, endpoint, trusted, recipient)
        subprocess.run(["rm", "-rf", f"{top}/{role}/home/.local"], check=True)
    run("host", "init", "--yes", "--kit", f"{top}/host.kit")
    for n in range(3):
        (top / "host/app" / str(n)).write_text(f"{n}" * 9000)
        run("host", "backup")
    for role in ("verifier", "pruner"):
        run(role, "init", "--yes", "--kit", f"{top}/{role}.kit")
    said = run("verifier", "verify", "--read-data")
    if "3 verdicts signed" not in said:
        failed.append(f"the verifier signs what it found: {said}")
    said = json.loads(run("pruner", "--json", "prune") or '{"stores": [{}]}')
    if len(said["stores"][0].get("waiting", [])) != 1:
        failed.append(f"the pruner announces what is to go: {said}")
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
