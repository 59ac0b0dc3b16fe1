"""What keys of a bucket may do and may not, asked for and said line by line; what is otherwise than it must be is in `failed`."""
from s3 import md5_b64


class Rights:
    def __init__(self, bucket):
        self.bucket, self.failed = bucket, []

    def see(self, who, what, answer, allowed):
        """An answer is a refusal when it is 403, or names AccessDenied in a list of results."""
        refused = answer.status == 403 or "AccessDenied" in answer.all("Code")
        well = not refused and answer.status < 300 if allowed else refused
        print(f"{'ok  ' if well else 'FAIL'} {who} {'may' if allowed else 'may not'} {what}: {answer}")
        if not well:
            self.failed.append(f"{who}: {what}")

    def never(self, who, s3, key, version):
        """What none of the keys that a policy is for may."""
        off = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
        self.see(who, "delete a version", s3.ask("DELETE", key, {"versionId": version}), False)
        self.see(who, "turn versions off", s3.ask("PUT", self.bucket, {"versioning": ""}, off, {"content-md5": md5_b64(off)}), False)
        self.see(who, "change the lifecycle", s3.ask("DELETE", self.bucket, {"lifecycle": ""}), False)
        self.see(who, "change the policy", s3.ask("DELETE", self.bucket, {"policy": ""}), False)
        self.see(who, "delete the bucket", s3.ask("DELETE", self.bucket), False)
        self.see(who, "make a bucket", s3.ask("PUT", f"{self.bucket}-{who}"), False)

    def delete_many(self, s3, key):
        many = f"<Delete><Object><Key>{key.split('/', 1)[1]}</Key></Object></Delete>".encode()
        return s3.ask("POST", self.bucket, {"delete": ""}, many, {"content-md5": md5_b64(many)})
