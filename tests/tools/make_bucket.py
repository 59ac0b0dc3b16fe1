#!/usr/bin/env python3
"""What deploy/minio/setup.sh does, for a server whose users are in its configuration: waits for it, makes the bucket, turns versions on. Keys: /run/secrets/root_user, root_password."""
import os, pathlib, time
from s3 import S3, md5_b64

secrets = pathlib.Path("/run/secrets")
s3 = S3(os.environ["S3_ENDPOINT"], *((secrets / name).read_text().strip() for name in ("root_user", "root_password")))
bucket = os.environ["BUCKET"]
for attempt in range(240):
    try:
        answer = s3.ask("PUT", bucket)
        if answer.status in (200, 409):
            break
    except OSError as e:
        answer = e
    time.sleep(0.25)
else:
    raise SystemExit(f"the bucket {bucket} cannot be made: {answer}")
on = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
answer = s3.ask("PUT", bucket, {"versioning": ""}, on, {"content-md5": md5_b64(on)})
if answer.status != 200:
    raise SystemExit(f"versions cannot be turned on: {answer}")
print(f"bucket {bucket} is ready: versions are kept")
