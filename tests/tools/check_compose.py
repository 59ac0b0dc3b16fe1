#!/usr/bin/env python3
"""What must hold of docker-compose.yml and of what it uses, without an engine: run by ./test. Needs PyYAML. With docker-compose or docker's plug-in installed it also asks that."""
import json, os, pathlib, re, shutil, subprocess, sys, tempfile
import yaml

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
MINIO = TOP / "deploy/minio"
USERS = ("host", "verifier", "pruner")
WRITES = {"s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}
failed = []


def must(what, holds):
    if not holds:
        failed.append(what)


def image(text):
    """The default of `${NAME:-default}`."""
    found = re.fullmatch(r"\$\{[A-Z_]+:-([^}]+)\}", text)
    return found[1] if found else text


def name_caps(name, service):
    """What gives volumes to another user needs rights for that; nothing else has any."""
    return set(service.get("cap_add", [])) <= ({"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID"} if name in ("prepare", "recover") else set())


def demo(services):
    agent, app = services["agent"], services["app"]
    must("the agent sees the data of the application, and writes none of it", "app-data:/srv/demo:ro" in agent["volumes"] and "app-data:/srv/demo" in app["volumes"])
    must("the agent writes to its state alone", [v for v in agent["volumes"] if not v.endswith(":ro")] == ["backstay-state:/var/lib/backstay"])
    for name in ("agent", "app"):
        must(f"{name}: a root that is read only, no capability, a /tmp", services[name]["read_only"] and services[name]["cap_drop"] == ["ALL"] and services[name]["tmpfs"] == ["/tmp"])
        must(f"{name}: waits for what makes its volumes", services[name]["depends_on"]["prepare"]["condition"] == "service_completed_successfully")
    must("the agent has the time to end", agent["stop_grace_period"] == "30s")
    must("the agent's host does not change its name", agent["hostname"] == services["recover"]["hostname"] == services["prepare"]["hostname"])
    lines = (TOP / "Dockerfile").read_text().splitlines()
    for line in ("FROM scratch", "USER 65532:65532", "STOPSIGNAL SIGTERM", 'ENTRYPOINT ["/usr/bin/backstay"]', 'CMD ["agent"]'):
        must(f"Dockerfile: {line}", line in lines)
    check = [line for line in lines if line.startswith("HEALTHCHECK")]
    must("Dockerfile: the health check asks the program", len(check) == 1 and check[0].endswith('CMD ["/usr/bin/backstay", "--quiet", "status", "--check"]'))
    version = re.search(r'^version = "(.+)"', (TOP / "Cargo.toml").read_text(), re.M)[1]
    must("images have the version of the program", image(agent["image"]) == f"backstay:{version}" and f"backstay:{version}" in (TOP / "deploy/demo/Dockerfile").read_text())
    rust = re.search(r'^rust-version = "(.+)"', (TOP / "Cargo.toml").read_text(), re.M)[1]
    must("Dockerfile: the compiler is the one that is needed", any(line.startswith(f"ARG BUILD_IMAGE=rust:{rust}.") for line in lines))
    ignored = (TOP / ".dockerignore").read_text().splitlines()
    must(".dockerignore leaves out all that it does not name", "*" in ignored and not any("secrets" in line or ".git" in line for line in ignored))
    host = yaml.safe_load((TOP / "deploy/demo/host/docker-compose.yml").read_text())["services"]["app"]
    must("host: ports on loopback only", all(p.startswith("127.0.0.1:") for p in host["ports"]))


def stack():
    stack = yaml.safe_load((TOP / "docker-compose.yml").read_text())
    services = stack["services"]
    profiles = {"minio": None, "setup": None, "try": ["test"], "app": ["demo", "recover"], "prepare": ["demo", "recover"], "agent": ["demo"], "recover": ["recover"]}
    must("each service has its profiles", {name: service.get("profiles") for name, service in services.items()} == profiles)
    for name, service in services.items():
        tag = image(service["image"]).rpartition(":")[2]
        must(f"{name}: the image is pinned, or made here", service.get("build") or ":" in image(service["image"]) and tag != "latest")
        must(f"{name}: the image can be another", service["image"].startswith("${"))
        must(f"{name}: no new privileges, and none given", service["security_opt"] == ["no-new-privileges:true"] and not service.get("privileged") and name_caps(name, service))
        must(f"{name}: ports on loopback only", all(p.startswith("127.0.0.1:") for p in service.get("ports", [])))
        for variable, value in service.get("environment", {}).items():
            must(f"{name}: {variable} holds no secret", variable.endswith("_FILE") or not re.search("PASSWORD|SECRET|KEY|TOKEN|USER", variable))
            must(f"{name}: {variable} names a secret that the service has", not variable.endswith("_FILE") or value.startswith("/etc/backstay/") or value.removeprefix("/run/secrets/") in service["secrets"])
        for secret in service.get("secrets", []):
            must(f"{name}: the secret {secret} is in a folder that git leaves out", stack["secrets"][secret]["file"] == f"./deploy/minio/secrets/{secret}")
        for volume in service.get("volumes", []):
            source, target, *mode = volume.rsplit(":", 2) if volume.endswith(":ro") else volume.rsplit(":", 1)
            source = image(source) if name == "recover" else source
            must(f"{name}: {volume} is a volume, or read only", source in stack["volumes"] or mode == ["ro"])
            must(f"{name}: {source} is there", not source.startswith("./") or "/secrets/" in source or (TOP / source).exists())
        for word in service.get("entrypoint", []):
            must(f"{name}: {word} is there", not word.startswith("/deploy/") or (MINIO / word.removeprefix("/deploy/")).is_file())
            must(f"{name}: {word} is there", not word.startswith("/opt/demo/") or (TOP / "deploy/demo" / word.removeprefix("/opt/demo/")).is_file())
    must("the image of minio is the last that was published", image(services["minio"]["image"]) == "minio/minio:RELEASE.2025-09-07T16-13-09Z")
    must("minio has a health check", services["minio"]["healthcheck"]["test"][0] == "CMD")
    must("setup waits until minio is well", services["setup"]["depends_on"]["minio"]["condition"] == "service_healthy")
    must("setup and try run once", services["setup"]["restart"] == services["try"]["restart"] == "no")
    must("setup has the keys that it hands out", set(services["setup"]["secrets"]) == set(stack["secrets"]))
    must("what makes backups does not see the server's own keys", all(services[name].get("secrets", ["host.credentials"]) == ["host.credentials"] for name in ("try", "app", "prepare", "agent", "recover")))
    demo(services)
    over = yaml.safe_load((TOP / "deploy/compose-test.yml").read_text())
    must("the override changes services that are there", set(over["services"]) <= set(services))
    must("SeaweedFS opens nothing but S3 to others", "-ip.bind=127.0.0.1" in over["services"]["minio"]["entrypoint"])
    ignored = (TOP / ".gitignore").read_text().splitlines()
    must("git leaves keys out", "/deploy/minio/secrets/" in ignored and "/.env" in ignored)


def policies():
    allowed = {}
    for user in USERS:
        statements = json.loads((MINIO / f"{user}.json").read_text())["Statement"]
        must(f"{user}: only allows", all(s["Effect"] == "Allow" for s in statements))
        must(f"{user}: no wildcard", not any("*" in a for s in statements for a in s["Action"]))
        must(f"{user}: one bucket", {r for s in statements for r in s["Resource"]} <= {"arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*", "arn:aws:s3:::BUCKET/*/marks/*", "arn:aws:s3:::BUCKET/*/tombstones/*"})
        allowed[user] = {a for s in statements for a in s["Action"]}
    must("host may write", WRITES <= allowed["host"])
    must("host may delete nothing and change no setting", not any(re.match("s3:(Delete|PutBucket|PutLifecycle|PutObjectRetention|Bypass)", a) for a in allowed["host"]))
    must("verifier is the one of deploy/policies", (MINIO / "verifier.json").read_text() == (TOP / "deploy/policies/verifier.json").read_text())
    must("pruner is the one of deploy/policies", (MINIO / "pruner.json").read_text() == (TOP / "deploy/policies/pruner.json").read_text())
    must("pruner may delete, and that is all it has more", allowed["pruner"] - allowed["host"] == {"s3:DeleteObject"})


STUB = """#!/bin/sh
# Notes every call; keeps nothing, so that everything has to be made.
printf '%s\\n' "mc $*" >>"$CALLS"
case "$*" in
  "admin user add store") while read -r line; do printf 'stdin %s\\n' "$line" >>"$CALLS"; done ;;
  "admin policy create"*) printf 'policy %s\\n' "$(tr -d ' \\n' <"$6")" >>"$CALLS" ;;
  "admin user info"*) exit 1 ;;
esac
"""


def setup_script():
    """Runs secrets.sh and setup.sh with a stand-in for `mc`."""
    for shell in [s for s in ("dash", "bash", "busybox") if shutil.which(s)]:
        with tempfile.TemporaryDirectory() as scratch:
            work = pathlib.Path(scratch)
            shutil.copytree(MINIO, work / "minio", ignore=shutil.ignore_patterns("secrets"))
            (work / "mc").write_text(STUB)
            (work / "mc").chmod(0o755)
            run = [shell, "sh"] if shell == "busybox" else [shell]
            env = {"PATH": f"{work}:/usr/bin:/bin", "CALLS": f"{work}/calls", "BUCKET": "my-backups", "BACKUP_BUCKET": "my-backups", "ENDPOINT_HOST": "minio:9000", "SECRETS": f"{work}/minio/secrets",
                   "DEPLOY": f"{work}/minio", "WORK": scratch}
            made = subprocess.run([*run, f"{work}/minio/secrets.sh"], env=env, capture_output=True, text=True)
            must(f"{shell}: secrets.sh ends well: {made.stderr}", made.returncode == 0 and not made.stderr)
            secrets = {p.name: p.read_text() for p in (work / "minio/secrets").iterdir()}
            must(f"{shell}: secrets are for their owner alone", all(p.stat().st_mode & 0o777 == 0o600 for p in (work / "minio/secrets").iterdir()))
            again = subprocess.run([*run, f"{work}/minio/secrets.sh"], env=env, capture_output=True, text=True)
            must(f"{shell}: secrets that are there are kept", not again.stdout and secrets == {p.name: p.read_text() for p in (work / "minio/secrets").iterdir()})
            weed = json.loads(secrets["seaweedfs.json"])
            must(f"{shell}: SeaweedFS has the same policies", [json.loads(p["content"]) for p in weed["policies"]] == [json.loads((MINIO / f"{u}.json").read_text().replace("BUCKET", "my-backups")) for u in USERS])
            ran = subprocess.run([*run, f"{work}/minio/setup.sh"], env=env, capture_output=True, text=True)
            must(f"{shell}: setup.sh ends well: {ran.stderr}", ran.returncode == 0)
            calls = (work / "calls").read_text().splitlines()
            arguments = [c for c in calls if c.startswith("mc ")]
            private = [secrets["root_password"].strip(), *re.findall(r"aws_secret_access_key = (\S+)", "".join(secrets[f"{user}.credentials"] for user in USERS))]
            must(f"{shell}: four secrets of 48 characters", len(set(private)) == 4 and all(len(p) == 48 for p in private))
            must(f"{shell}: no secret is an argument or said", not any(p in text for p in private for text in [*arguments, ran.stdout, ran.stderr, made.stdout]))
            for user in USERS:
                access, secret = re.findall(r" = (\S+)", secrets[f"{user}.credentials"])
                must(f"{shell}: {user} is made with its own keys", any(calls[n:n + 3] == ["mc admin user add store", f"stdin {access}", f"stdin {secret}"] for n in range(len(calls))))
                must(f"{shell}: {user} gets its policy", f"mc admin policy attach store my-backups-{user} --user {access}" in calls)
                policy = re.sub(r"\s", "", (MINIO / f"{user}.json").read_text().replace("BUCKET", "my-backups"))
                must(f"{shell}: the policy of {user} names the bucket", f"policy {policy}" in calls)
            must(f"{shell}: versions are on before there are users", [c for c in arguments if "version enable" in c or "user add" in c][:2] == ["mc version enable store/my-backups", "mc admin user add store"])


def engines():
    for compose in (["docker-compose"], ["docker", "compose"]):
        if not shutil.which(compose[0]) or subprocess.run([*compose, "version"], capture_output=True).returncode:
            continue
        for files in ([], ["-f", "docker-compose.yml", "-f", "deploy/compose-test.yml"]):
            ran = subprocess.run([*compose, *files, "--profile", "test", "--profile", "demo", "--profile", "recover", "config", "-q"], cwd=TOP, capture_output=True, text=True)
            must(f"{' '.join(compose + files)}: {ran.stderr}", ran.returncode == 0)
        return
    line = "NOT RUN: docker-compose config (docker-compose is not installed; the files were checked by this project's own rules)"
    print(line)
    if path := os.environ.get("BACKSTAY_NOT_RUN_FILE"):
        with open(path, "a") as out:
            out.write(line + "\n")


for check in (stack, policies, setup_script, engines):
    check()
for what in failed:
    print("does not hold:", what)
sys.exit(bool(failed))
