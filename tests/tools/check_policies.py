#!/usr/bin/env python3
"""What the users `host`, `verifier` and `pruner` of the compose stack may do and may not: S3_ENDPOINT, the bucket in BACKUP_BUCKET, their keys from deploy/minio/secrets.

  S3_ENDPOINT=http://127.0.0.1:9000 tests/tools/check_policies.py
"""
import os, pathlib, sys
from rights import Rights
from s3 import S3

SECRETS = pathlib.Path(__file__).resolve().parent.parent.parent / "deploy/minio/secrets"
BUCKET = os.environ.get("BACKUP_BUCKET", "backups")
rights = Rights(BUCKET)
see, never, delete_many, failed = rights.see, rights.never, rights.delete_many, rights.failed


def client(user):
    values = dict(line.split(" = ") for line in (SECRETS / f"{user}.credentials").read_text().splitlines() if " = " in line)
    return S3(os.environ["S3_ENDPOINT"], values["aws_access_key_id"], values["aws_secret_access_key"])


def check_host(key):
    user, s3 = "host", client("host")
    put = s3.ask("PUT", key, body=b"first")
    version = put.headers.get("x-amz-version-id", "")
    see(user, "put", put, True)
    see(user, "get", s3.ask("GET", key), True)
    see(user, "list versions", s3.ask("GET", BUCKET, {"versions": "", "prefix": key.split("/", 1)[1]}), True)
    see(user, "get a version", s3.ask("GET", key, {"versionId": version}), True)
    see(user, "list", s3.ask("GET", BUCKET, {"list-type": "2"}), True)
    see(user, "ask for versioning", s3.ask("GET", BUCKET, {"versioning": ""}), True)
    upload = s3.ask("POST", key + "-parts", {"uploads": ""}).one("UploadId")
    see(user, "send a part", s3.ask("PUT", key + "-parts", {"partNumber": "1", "uploadId": upload}, b"part"), True)
    see(user, "list parts", s3.ask("GET", key + "-parts", {"uploadId": upload}), True)
    see(user, "abort an upload", s3.ask("DELETE", key + "-parts", {"uploadId": upload}), True)
    see(user, "delete", s3.ask("DELETE", key), False)
    see(user, "delete many", delete_many(s3, key), False)
    never(user, s3, key, version)
    if not version:
        failed.append("no version was given: are versions on?")
    if s3.ask("GET", key).body != b"first":
        failed.append("the object is gone")
    return version


def check_verifier(key):
    s3 = client("verifier")
    see("verifier", "get", s3.ask("GET", key), True)
    see("verifier", "list", s3.ask("GET", BUCKET, {"list-type": "2"}), True)
    see("verifier", "put a verdict", s3.ask("PUT", f"{BUCKET}/policy-check/marks/{os.getpid()}", body=b"verdict"), True)
    see("verifier", "put anything else", s3.ask("PUT", f"{key}-verifier", body=b"new"), False)
    see("verifier", "delete", s3.ask("DELETE", key), False)
    see("verifier", "delete the bucket", s3.ask("DELETE", BUCKET), False)


def check_pruner(key, version):
    user, s3 = "pruner", client("pruner")
    see(user, "get", s3.ask("GET", key), True)
    see(user, "list", s3.ask("GET", BUCKET, {"list-type": "2"}), True)
    see(user, "ask for versioning", s3.ask("GET", BUCKET, {"versioning": ""}), True)
    for folder in ("marks", "tombstones"):
        see(user, f"put below {folder}/", s3.ask("PUT", f"{BUCKET}/policy-check/{folder}/pruner-{os.getpid()}", body=b"new"), True)
    see(user, "put an object", s3.ask("PUT", f"{BUCKET}/policy-check/archives/{os.getpid()}", body=b"new"), False)
    see(user, "overwrite an object", s3.ask("PUT", key, body=b"new"), False)
    see(user, "begin an upload", s3.ask("POST", f"{key}-parts", {"uploads": ""}), False)
    never(user, s3, key, version)
    see(user, "delete, which hides", s3.ask("DELETE", key), True)
    see(user, "delete many", delete_many(s3, key), True)


key = f"{BUCKET}/policy-check/host-{os.getpid()}"
version = check_host(key)
check_verifier(key)
check_pruner(key, version)
if failed:
    print("FAILED:", ", ".join(failed), file=sys.stderr)
    sys.exit(1)
