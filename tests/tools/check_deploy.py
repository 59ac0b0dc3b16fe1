#!/usr/bin/env python3
"""What must hold of deploy/, without a cluster, an account or a system to install on: run by ./test, each part by its name, or all.

  check_deploy.py [systemd] [terraform] [kubernetes]

`kubernetes` needs PyYAML; it and `systemd` ask the program in BACKSTAY_PROGRAM, else target/debug/backstay, whether it takes the configuration, and what it prints.

What cannot be asked for on this machine is said as NOT RUN.
"""
import json, os, pathlib, re, shutil, subprocess, sys, tempfile

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
    printed()


CONFIG = """
[project]
name = "x"
[[store]]
name = "local"
path = "/srv/store"
[signing]
key_file = "/etc/backstay/signing_key"
[state]
dir = "/var/lib/backstay"
"""


def printed():
    """The unit that the program prints."""
    program = pathlib.Path(os.environ.get("BACKSTAY_PROGRAM") or TOP / "target/debug/backstay")
    if not program.exists():
        return not_run("the figure of the unit that is printed (the program is not built)")
    with tempfile.TemporaryDirectory() as scratch:
        place = pathlib.Path(scratch)
        (place / "backstay.toml").write_text(CONFIG)
        said = ran(str(program), "-c", str(place / "backstay.toml"), "agent", "--print", "systemd")
        must(f"the program prints a unit: {said.stderr}", said.returncode == 0)
        (place / "printed.service").write_text(said.stdout)
        found = exposure(place / "printed.service")
    must(f"docs/agent.md: the figure of the unit that is printed is {found}", f"(`systemd-analyze security` gives {found}, systemd 252," in (TOP / "docs/agent.md").read_text())


# ---------------------------------------------------------------- terraform

def policies():
    """The policies by role, with names in the places of BUCKET and HOST."""
    text = lambda role, host="": (DEPLOY / f"policies/{role}.json").read_text().replace("BUCKET", "my-backups").replace("HOST", host)
    return {"host-web-1": text("host", "web-1"), "host-web-2": text("host", "web-2"), "verifier": text("verifier"), "pruner": text("pruner")}


def terraform():
    fleet = (TOP / "docs/fleet.md").read_text()
    for role in ("host", "verifier", "pruner"):
        block = fleet.split(f"<!-- policy: {role} -->\n```json\n")[1].split("```")[0]
        must(f"docs/fleet.md has the policy of deploy/policies/{role}.json", block == (DEPLOY / f"policies/{role}.json").read_text())
    texts = {path.name: path.read_text() for path in (DEPLOY / "terraform/s3").glob("*.tf")}
    main = texts["main.tf"]
    for what in ('status = "Enabled"', "object_lock_enabled = true", "abort_incomplete_multipart_upload", "noncurrent_version_expiration", "prevent_destroy = true", "restrict_public_buckets = true",
                 '"aws:SecureTransport" = "false"'):
        must(f"main.tf: {what}", what in main)
    must("no current version is deleted by a rule", not re.search(r"expiration \{\s*(days|date)", main))
    must("no key is made: it would lie in the state", "aws_iam_access_key" not in "".join(texts.values()))
    named = set(re.findall(r"\bvar\.(\w+)", "".join(texts.values())))
    must("each variable is used and each that is used is there", named == set(re.findall(r'^variable "(\w+)"', texts["variables.tf"], re.M)))
    if not shutil.which("terraform"):
        return not_run("terraform fmt and the policies as Terraform renders them (terraform is not installed)")
    said = ran("terraform", "fmt", "-check", "-diff", str(DEPLOY / "terraform"))
    must(f"terraform fmt: {said.stdout}", said.returncode == 0)
    with tempfile.TemporaryDirectory() as scratch:
        # What needs no provider: variables and locals.
        place = pathlib.Path(scratch) / "terraform/s3"
        place.mkdir(parents=True)
        shutil.copytree(DEPLOY / "policies", f"{scratch}/policies")
        for name in ("variables.tf", "policies.tf"):
            shutil.copy(DEPLOY / "terraform/s3" / name, place)
        console = lambda hosts: ran("terraform", "console", "-var", "bucket=my-backups", "-var", f"hosts={hosts}", cwd=place, input="jsonencode(local.policies)\n", env={**os.environ, "CHECKPOINT_DISABLE": "1"})
        said = console('["web-1","web-2"]')
        rendered = json.loads(json.loads(said.stdout)) if said.returncode == 0 else {}
        must(f"Terraform renders the policies that are tried on a server: {said.stderr}", rendered == policies())
        must("every policy that it renders is JSON", all(json.loads(text)["Version"] == "2012-10-17" for text in rendered.values()))
        must("a host that no {host} can be is refused", console('["Web_1"]').returncode != 0)
    providers = ran("terraform", f"-chdir={DEPLOY / 'terraform/s3'}", "validate", "-json")
    if '"valid": true' not in providers.stdout:
        not_run("terraform validate and plan of deploy/terraform/s3 (the provider for AWS is not here; `terraform init` fetches it)")


# ---------------------------------------------------------------- kubernetes

def documents():
    import yaml
    return {path.stem: list(yaml.safe_load_all(path.read_text())) for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))}


def pod_of(document):
    spec = document["spec"]
    return (spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec)["template"]["spec"]


def check_pod(name, pod, version):
    must(f"{name}: not root", pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0)
    must(f"{name}: default seccomp", pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault")
    must(f"{name}: no token of the cluster", pod["automountServiceAccountToken"] is False)
    must(f"{name}: a host name that stays", pod["hostname"])
    must(f"{name}: has the time to end", pod["terminationGracePeriodSeconds"] >= 30)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in [*pod["initContainers"], *pod["containers"]]:
        what, inner = f"{name}, {container['name']}", container["securityContext"]
        must(f"{what}: a version is named", re.fullmatch(r".+:\d+\.\d+\.\d+", container["image"]))
        must(f"{what}: nothing that it does not need", inner["readOnlyRootFilesystem"] is True and inner["allowPrivilegeEscalation"] is False and inner["capabilities"] == {"drop": ["ALL"]})
        must(f"{what}: limits", "memory" in container["resources"]["limits"] and {"cpu", "memory"} <= set(container["resources"]["requests"]))
        must(f"{what}: no secret in the environment", not any("secretKeyRef" in str(e) for e in container.get("env", [])) and "envFrom" not in container)
        must(f"{what}: what it mounts is there", {m["name"] for m in container["volumeMounts"]} <= set(volumes))
    program = pod["containers"][0]
    must(f"{name}: the image has the version of the program", program["image"].endswith(f"/backstay:{version}"))
    mounts = {m["mountPath"]: m for m in program["volumeMounts"]}
    must(f"{name}: it writes to state and scratch alone", [p for p, m in mounts.items() if not m.get("readOnly") and p != "/tmp"] == ["/var/lib/backstay"])
    must(f"{name}: the data's owners stay as they are", volumes[mounts["/data"]["name"]]["persistentVolumeClaim"]["readOnly"] is True)
    must(f"{name}: keys are in memory alone", volumes[mounts["/keys"]["name"]]["emptyDir"]["medium"] == "Memory")
    cli = (TOP / "docs/cli.md").read_text()
    commands = [program["args"], *[p["exec"]["command"][1:] for p in [program.get("readinessProbe")] if p]]
    for words in commands:
        command = next(word for word in words if f"\n## `backstay {word}`" in cli)
        section = cli.split(f"\n## `backstay {command}`")[1].split("\n## ")[0]
        must(f"{name}: {words} is in docs/cli.md", all(word in section for word in words if word.startswith("-")))
    return mounts, " ".join(pod["initContainers"][0]["command"])


def kubernetes():
    try:
        found = documents()
    except ImportError:
        return not_run("deploy/kubernetes (no YAML parser for Python)")
    version = re.search(r'^version = "(.+)"', (TOP / "Cargo.toml").read_text(), re.M)[1]
    configuration = found["configmap"][0]["data"]["backstay.toml"]
    pods = {name: pod_of(found[name][0]) for name in ("init", "deployment", "cronjob")}
    for name, pod in pods.items():
        mounts, copies = check_pod(name, pod, version)
        for path in re.findall(r'"(/[^"]*)"', configuration):
            must(f"{name}: {path} of the configuration is mounted", any(path.startswith(f"{mount}/") for mount in mounts))
        must(f"{name}: keys are copied again when its init container runs again", " cp -f " in copies)
        for key in re.findall(r'"/keys/([^"]*)"', configuration):
            must(f"{name}: the key {key} is brought", f"/secret/{key}" in copies and key in (DEPLOY / "kubernetes" / f"{name}.yaml").read_text().split("--from-file", 1)[1])
    must("one that stays, or one every five minutes: never two with one state", found["deployment"][0]["spec"]["strategy"]["type"] == "Recreate" and found["deployment"][0]["spec"]["replicas"] == 1
         and found["cronjob"][0]["spec"]["concurrencyPolicy"] == "Forbid")
    must("the agent has the time until its first snapshot to become ready", found["deployment"][0]["spec"]["progressDeadlineSeconds"] >= 3600)
    apart = [name for name in ("init", "deployment") if pods[name]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"]["matchLabels"]
             != found[name][0]["spec"]["template"]["metadata"]["labels"] or found[name][0]["spec"]["template"]["metadata"]["labels"] != {"app.kubernetes.io/name": "backstay"}]
    must("the job and the agent run on one node, where the state's claim can be mounted by both", not apart)
    must("a job that has ended goes: it could not be changed", 0 < found["init"][0]["spec"]["ttlSecondsAfterFinished"] <= 3600)
    resources = found["kustomization"][0]["resources"]
    must("kustomization.yaml names files that are there, and one of the two", all((DEPLOY / "kubernetes" / r).exists() for r in resources) and ("deployment.yaml" in resources) != ("cronjob.yaml" in resources))
    must("pods are held to the strictest standard", found["namespace"][0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted")
    if shutil.which("kubectl"):
        built = ran("kubectl", "kustomize", str(DEPLOY / "kubernetes"))
        must(f"kubectl kustomize: {built.stderr}", built.returncode == 0 and built.stdout.count("\nkind: ") + built.stdout.startswith("kind") >= len(resources))
    else:
        not_run("kubectl kustomize (kubectl is not installed)")
    program = os.environ.get("BACKSTAY_PROGRAM") or TOP / "target/debug/backstay"
    if not pathlib.Path(program).exists():
        return not_run("the configuration of deploy/kubernetes, asked of the program (it is not built)")
    with tempfile.TemporaryDirectory() as scratch:
        place = pathlib.Path(scratch) / "backstay.toml"
        place.write_text(configuration)
        said = ran(str(program), "-c", str(place), "agent", "--print", "cron")
        must(f"the program takes the configuration: {said.stderr}", said.returncode == 0)
        place.write_text(configuration + "\nnonsense = 1\n")
        must("and would not take a wrong one", ran(str(program), "-c", str(place), "agent", "--print", "cron").returncode == 14)


PARTS = {"systemd": systemd, "terraform": terraform, "kubernetes": kubernetes}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
    for what in failed:
        print("does not hold:", what)
    sys.exit(bool(failed))
