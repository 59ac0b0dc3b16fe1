#!/usr/bin/env python3
"""What a thief does to a bucket, and what its owner did before.

  versions.py enable ENDPOINT BUCKET       makes the bucket, and lets it keep versions
  versions.py overwrite ENDPOINT BUCKET    puts other bytes under every key

Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""
import sys
from s3 import S3


def need(answer):
    if answer.status not in (200, 204):
        sys.exit(f"the server answered {answer}")
    return answer


def keys(s3, bucket):
    token = None
    while True:
        query = {"list-type": "2"} | ({"continuation-token": token} if token else {})
        page = need(s3.ask("GET", bucket, query))
        yield from page.all("Key")
        token = page.one("NextContinuationToken")
        if page.one("IsTruncated") != "true":
            return


def main():
    what, endpoint, bucket = sys.argv[1:]
    s3 = S3(endpoint)
    if what == "enable":
        if (made := s3.ask("PUT", bucket)).status not in (200, 409):
            sys.exit(f"the bucket cannot be made: {made}")
        body = b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>'
        need(s3.ask("PUT", bucket, {"versioning": ""}, body))
        return
    count = 0
    for key in list(keys(s3, bucket)):
        need(s3.ask("PUT", f"{bucket}/{key}", body=b"overwritten\n"))
        count += 1
    print(count)


if __name__ == "__main__":
    main()
