#!/usr/bin/env python3
"""What the S3 server at S3_ENDPOINT really does, as lines `fact | answer`. Makes buckets of its own and removes them. Keys: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.

  servers.py weed store_facts.py
  S3_ENDPOINT=https://… store_facts.py [--check weed|rclone]

--check fails when a fact differs from what the project's documents say of that server.
"""
import concurrent.futures, hashlib, os, sys, time
from s3 import S3, md5_b64, sha256_b64

MIB = 1 << 20
# What the tests and docs/stores.md rely on. A newer server that does better is a reason to look at the documents again.
EXPECTED = {
    "weed": {"create-only put": "refused: 412 PreconditionFailed", "create-only complete": "refused: 412 PreconditionFailed", "8 create-only puts at once": "1 wins", "wrong sha256 on put": "refused: 400 BadDigest",
             "wrong sha256 on part": "refused: 400 BadDigest", "wrong Content-MD5": "refused: 400 BadDigest", "range": "206", "suffix range": "206", "list of 1,005": "pages 1000 + 5, none lost",
             "seen in the list at once": "yes", "versioning": "yes, old version readable", "object lock": "yes, delete of the version refused: 403 AccessDenied", "wrong secret": "403 SignatureDoesNotMatch"},
    "rclone": {"create-only put": "ignored: overwritten", "create-only complete": "ignored: overwritten", "8 create-only puts at once": "several win", "wrong sha256 on put": "accepted", "wrong sha256 on part": "accepted",
               "wrong Content-MD5": "refused: 400 BadDigest", "list of 1,005": "pages 1000 + 5, none lost", "seen in the list at once": "yes", "versioning": "no: 501 NotImplemented",
               "wrong secret": "403 SignatureDoesNotMatch"},
}


class Facts:
    def __init__(self, s3):
        self.s3, self.bucket, self.found = s3, f"facts-{os.getpid()}-{int(time.time())}", {}

    def note(self, fact, answer):
        self.found[fact] = answer
        print(f"{fact} | {answer}", flush=True)

    def put(self, key, body, **more):
        return self.s3.ask("PUT", f"{self.bucket}/{key}", body=body, **more)

    def get(self, key, **more):
        return self.s3.ask("GET", f"{self.bucket}/{key}", **more)

    def stored(self, key):
        """Puts as every client does that means to keep the object: again where the server answers that it failed. Gives how often it did."""
        for failed in range(5):
            answer = self.put(key, b"x")
            if answer.status == 200:
                return failed
            if answer.status < 500:
                break
        raise SystemExit(f"{key} cannot be put: {answer}")

    def multipart(self, key, parts, headers=None):
        begun = self.s3.ask("POST", f"{self.bucket}/{key}", {"uploads": ""})
        upload, rows = begun.one("UploadId"), []
        for n, part in enumerate(parts, 1):
            sent = self.put(key, part, query={"partNumber": str(n), "uploadId": upload})
            rows.append(f"<Part><PartNumber>{n}</PartNumber><ETag>{sent.headers.get('etag', '')}</ETag></Part>")
        body = f"<CompleteMultipartUpload>{''.join(rows)}</CompleteMultipartUpload>".encode()
        return self.s3.ask("POST", f"{self.bucket}/{key}", {"uploadId": upload}, body, headers), upload

    def conditions(self):
        only = {"if-none-match": "*"}
        self.put("once", b"first")
        again = self.put("once", b"second", headers=only)
        kept = self.get("once").body == b"first"
        self.note("create-only put", f"refused: {again}" if again.status >= 400 and kept else "ignored: overwritten" if not kept else f"answered {again}, kept")
        done, _ = self.multipart("once", [os.urandom(MIB)], only)
        kept = self.get("once").body == (b"first" if again.status >= 400 else b"second")
        self.note("create-only complete", f"refused: {done}" if done.status >= 400 and kept else "ignored: overwritten")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            race = list(pool.map(lambda n: str(self.put("race", f"{n}".encode() * 100, headers=only)), range(8)))
        # How many get through where nothing holds them back differs from run to run; what counts is whether it was one.
        wins = race.count("200")
        self.note("8 create-only puts at once", "1 wins" if wins == 1 else "several win" if wins else "none wins")
        self.note("what the others of the 8 were answered", ", ".join(sorted(set(race) - {"200"})) or "nothing: all won")
        self.note("create-only put of a new key", str(self.put("fresh", b"x", headers=only)))

    def refused(self, fact, key, answer):
        there = self.get(key).status == 200
        self.note(fact, ("accepted" if answer.status < 300 else f"refused: {answer}") + (", yet stored" if answer.status >= 300 and there else ""))

    def checksums(self):
        good, wrong = b"what was meant", b"what has come"
        self.refused("wrong sha256 on put", "bad1", self.put("bad1", wrong, headers={"x-amz-checksum-sha256": sha256_b64(good)}))
        self.refused("wrong Content-MD5", "bad2", self.put("bad2", wrong, headers={"content-md5": md5_b64(good)}))
        self.refused("wrong signed hash of the body", "bad3", self.put("bad3", wrong, payload=hashlib.sha256(good).hexdigest()))
        right = self.put("good", good, headers={"x-amz-checksum-sha256": sha256_b64(good)})
        head = self.s3.ask("HEAD", f"{self.bucket}/good", headers={"x-amz-checksum-mode": "ENABLED"})
        self.note("right sha256 on put, given back by HEAD", f"{right}, {'yes' if head.headers.get('x-amz-checksum-sha256') == sha256_b64(good) else 'no'}")
        begun = self.s3.ask("POST", f"{self.bucket}/bad4", {"uploads": ""}, headers={"x-amz-checksum-algorithm": "SHA256"})
        part = self.put("bad4", wrong, query={"partNumber": "1", "uploadId": begun.one("UploadId")}, headers={"x-amz-checksum-sha256": sha256_b64(good)})
        self.note("wrong sha256 on part", "accepted" if part.status < 300 else f"refused: {part}")
        part = self.put("bad4", wrong, query={"partNumber": "1", "uploadId": begun.one("UploadId")}, headers={"content-md5": md5_b64(good)})
        self.note("wrong Content-MD5 on part", "accepted" if part.status < 300 else f"refused: {part}")
        self.s3.ask("DELETE", f"{self.bucket}/bad4", {"uploadId": begun.one("UploadId")})

    def reading(self):
        body = bytes(range(256)) * 16
        put = self.put("bytes", body)
        for fact, wanted, expected in (("range", "bytes=10-19", body[10:20]), ("suffix range", "bytes=-7", body[-7:]), ("range to the end", "bytes=4000-", body[4000:]), ("range past the end", "bytes=4090-9999", body[4090:])):
            got = self.get("bytes", headers={"range": wanted})
            wrong = "" if got.body == expected else f", {len(got.body)} bytes of which {len(expected)} were asked for" if len(got.body) == len(body) else ", wrong bytes"
            self.note(fact, f"{got.status}{' with Content-Range' if got.status == 200 and 'content-range' in got.headers else ''}{wrong}")
        self.note("range beyond", str(self.get("bytes", headers={"range": "bytes=5000-"})))
        etag = put.headers.get("etag", "none")
        shape = "MD5" if etag.strip('"') == hashlib.md5(body).hexdigest() else "not MD5"
        done, _ = self.multipart("parts", [os.urandom(5 * MIB), os.urandom(MIB)])
        many = self.s3.ask("HEAD", f"{self.bucket}/parts").headers.get("etag", "none").strip('"')
        self.note("ETag of a put; of parts", f"{shape}; {'hash-' + many.split('-')[1] if '-' in many else 'hash'}{' unquoted' if not etag.startswith(chr(34)) else ''}")
        small, upload = self.multipart("small", [os.urandom(MIB), os.urandom(MIB)])
        self.note("parts of 1 MiB", "accepted" if small.status < 300 and not small.one("Code") else f"refused: {small}")
        self.s3.ask("DELETE", f"{self.bucket}/small", {"uploadId": upload})
        self.note("unknown upload", str(self.s3.ask("POST", f"{self.bucket}/small", {"uploadId": "nothing"}, b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>")))
        begun = self.s3.ask("POST", f"{self.bucket}/open", {"uploads": ""}).one("UploadId")
        self.put("open", b"x" * 100, query={"partNumber": "1", "uploadId": begun})
        listed = self.s3.ask("GET", self.bucket, {"uploads": ""})
        parts = self.s3.ask("GET", f"{self.bucket}/open", {"uploadId": begun})
        self.note("list of open uploads; of their parts", f"{'yes' if begun in listed.all('UploadId') else f'no ({listed})'}; {'yes' if parts.one('PartNumber') == '1' else f'no ({parts})'}")
        self.note("abort", str(self.s3.ask("DELETE", f"{self.bucket}/open", {"uploadId": begun})))

    def listing(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            again = sum(pool.map(lambda n: self.stored(f"many/{n:04}"), range(1005)))
        self.note("first puts below a new folder, 8 at once", "200" if not again else f"{again} of 1,005 answered 5xx and had to be sent again")
        pages, token, keys = [], None, []
        while True:
            page = self.s3.ask("GET", self.bucket, {"list-type": "2", "prefix": "many/", **({"continuation-token": token} if token else {})})
            pages.append(len(page.all("Key")))
            keys += page.all("Key")
            token = page.one("NextContinuationToken")
            if not token:
                break
        self.note("list of 1,005", f"pages {' + '.join(map(str, pages))}, {'none lost' if keys == [f'many/{n:04}' for n in range(1005)] else 'NOT the right keys'}")
        fresh = []
        for n in range(20):
            self.put(f"seen/{n}", b"x")
            fresh.append(f"seen/{n}" in self.s3.ask("GET", self.bucket, {"list-type": "2", "prefix": "seen/"}).all("Key"))
        self.note("seen in the list at once", "yes" if all(fresh) else f"{fresh.count(False)} of 20 not")
        names = ["odd/a b", "odd/a+b", "odd/ä", "odd/%41", "odd/a'b", "odd/a=b&c"]
        for name in names:
            self.put(name, name.encode())
        same = [n for n in names if self.get(n).body == n.encode()]
        self.note("odd names", "kept" if same == names else f"lost: {sorted(set(names) - set(same))}")
        after = self.s3.ask("GET", self.bucket, {"list-type": "2", "prefix": "many/", "start-after": "many/1000"}).all("Key")
        self.note("start-after", "yes" if after == [f"many/{n}" for n in range(1001, 1005)] else f"no: {len(after)} keys")
        extra = [k for k in self.s3.ask("GET", self.bucket, {"list-type": "2"}).all("Key") if k.endswith("/")]
        self.note("folders as keys in lists", "no" if not extra else f"yes: {extra[0]}")

    def deleting(self):
        self.note("delete of what is missing", str(self.s3.ask("DELETE", f"{self.bucket}/not-there")))
        self.note("get of what is missing", str(self.get("not-there")))
        self.put("gone", b"x")
        self.s3.ask("DELETE", f"{self.bucket}/gone")
        self.note("get of what was deleted", str(self.get("gone")))

    def versions(self):
        on = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        answer = self.s3.ask("PUT", self.bucket, {"versioning": ""}, on, {"content-md5": md5_b64(on)})
        first = self.put("v", b"one").headers.get("x-amz-version-id")
        self.put("v", b"two")
        old = self.get("v", query={"versionId": first}).body == b"one" if first else False
        self.note("versioning", "yes, old version readable" if old else f"no: {answer}")
        if old:
            self.s3.ask("DELETE", f"{self.bucket}/v")
            gone, still = self.get("v"), self.get("v", query={"versionId": first}).body == b"one"
            self.note("delete in a versioned bucket", f"get {gone}, old version {'readable' if still else 'gone'}")

    def locks(self):
        bucket, lasting = self.bucket + "-lock", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
        made = self.s3.ask("PUT", bucket, headers={"x-amz-bucket-object-lock-enabled": "true"})
        state = self.s3.ask("GET", bucket, {"object-lock": ""})
        body = b"kept"
        headers = {"x-amz-object-lock-mode": "COMPLIANCE", "x-amz-object-lock-retain-until-date": lasting, "x-amz-checksum-sha256": sha256_b64(body)}
        put = self.s3.ask("PUT", f"{bucket}/k", body=body, headers=headers)
        version = put.headers.get("x-amz-version-id")
        removed = self.s3.ask("DELETE", f"{bucket}/k", {"versionId": version} if version else None)
        held = removed.status >= 400 and self.s3.ask("GET", f"{bucket}/k", {"versionId": version} if version else None).body == body
        self.note("object lock", f"yes, delete of the version refused: {removed}" if held else f"no: bucket {made}, state {state}, put {put}, delete {removed}")

    def access(self):
        self.note("wrong secret", str(S3(os.environ["S3_ENDPOINT"], self.s3.access, "not the secret").ask("GET", self.bucket, {"list-type": "2"})))
        self.note("missing bucket", str(self.s3.ask("GET", "no-such-bucket-here", {"list-type": "2"})))
        self.note("put to a missing bucket", str(self.s3.ask("PUT", "no-such-bucket-here/x", body=b"x")))

    def run(self):
        made = self.s3.ask("PUT", self.bucket)
        if made.status != 200:
            raise SystemExit(f"the bucket cannot be made: {made}")
        try:
            for part in (self.conditions, self.checksums, self.reading, self.listing, self.deleting, self.access, self.versions, self.locks):
                part()
        finally:
            for bucket in (self.bucket, self.bucket + "-lock"):
                self.remove(bucket)

    def remove(self, bucket):
        while keys := self.s3.ask("GET", bucket, {"list-type": "2"}).all("Key"):
            statuses = [self.s3.ask("DELETE", f"{bucket}/{key}").status for key in keys]
            if all(s >= 400 for s in statuses):
                break
        self.s3.ask("DELETE", bucket)       # refused where versions are left: the server's folder goes with the test


def main():
    facts = Facts(S3(os.environ["S3_ENDPOINT"]))
    facts.run()
    if sys.argv[1:2] == ["--check"]:
        wrong = {f: (e, facts.found.get(f)) for f, e in EXPECTED[sys.argv[2]].items() if facts.found.get(f) != e}
        for fact, (expected, found) in wrong.items():
            print(f"DIFFERENT: {fact}: documented is {expected!r}, found {found!r}")
        if wrong:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
