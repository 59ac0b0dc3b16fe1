"""The least of an S3 client that can send what others will not: wrong checksums, conditions on every request. Standard library only; path style; keys from the environment."""
import base64, contextlib, datetime, hashlib, hmac, http.client, os, urllib.parse
import xml.etree.ElementTree as ET


class Answer:
    def __init__(self, response, head_only):
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self.body = b"" if head_only else response.read()

    def all(self, tag):
        """The texts of all elements of this name, whatever the namespace."""
        try:
            return [e.text or "" for e in ET.fromstring(self.body).iter() if e.tag.rsplit("}", 1)[-1] == tag]
        except ET.ParseError:
            return []

    def one(self, tag):
        return (self.all(tag) or [""])[0]

    def __str__(self):
        return f"{self.status} {self.one('Code')}".strip()


def quoted(text):
    return urllib.parse.quote(text, safe="-_.~")


class S3:
    def __init__(self, endpoint, access=None, secret=None, region=None):
        self.url = urllib.parse.urlsplit(endpoint)
        self.access = access or os.environ["AWS_ACCESS_KEY_ID"]
        self.secret = secret or os.environ["AWS_SECRET_ACCESS_KEY"]
        self.token = None if access else os.environ.get("AWS_SESSION_TOKEN")
        self.region = region or os.environ.get("AWS_REGION", "us-east-1")

    def _sign(self, method, path, query, headers, payload):
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        headers |= {"host": self.url.netloc, "x-amz-date": stamp, "x-amz-content-sha256": payload}
        if self.token:
            headers["x-amz-security-token"] = self.token
        names = sorted(headers)
        signed = ";".join(names)
        canonical = "\n".join([method, path, query, *(f"{n}:{headers[n].strip()}" for n in names), "", signed, payload])
        scope = f"{day}/{self.region}/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + self.secret).encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, SignedHeaders={signed}, Signature={signature}"

    def ask(self, method, path, query=None, body=b"", headers=None, payload=None):
        """One request. `payload` is what is signed as the hash of the body: its true one when not given."""
        path = "/" + "/".join(quoted(p) for p in path.split("/"))
        query = "&".join(f"{quoted(k)}={quoted(v)}" for k, v in sorted((query or {}).items()))
        headers = {k.lower(): v for k, v in (headers or {}).items()}
        self._sign(method, path, query, headers, payload or hashlib.sha256(body).hexdigest())
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.url.hostname, self.url.port, timeout=60)
        try:
            connection.putrequest(method, path + ("?" + query if query else ""), skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.putheader("content-length", str(len(body)))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):   # a refusal may come before the body is sent
                connection.endheaders(body or None)
            return Answer(connection.getresponse(), method == "HEAD")
        finally:
            connection.close()


def sha256_b64(data):
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def md5_b64(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()
