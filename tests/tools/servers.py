#!/usr/bin/env python3
"""Starts an S3 server of its own on free ports, runs a command against it, ends it, and ends with the command's exit code.

  servers.py weed COMMAND…       SeaweedFS (BACKSTAY_WEED or `weed`)
  servers.py rclone COMMAND…     rclone serve s3 on a folder (BACKSTAY_RCLONE or `rclone`)
  servers.py memory COMMAND…     rclone serve s3 on :memory:

The command finds the server in S3_ENDPOINT and the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Exit code 77: the program is not installed.
"""
import contextlib, json, os, pathlib, re, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.error, urllib.request

ACCESS, SECRET = "backstaytest", "backstaytestsecret"   # for servers that live as long as one test


class NotInstalled(Exception):
    pass


def free_ports(count):
    """Ports that nobody has now: all bound at once, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def program(variable, name):
    path = os.environ.get(variable) or shutil.which(name)
    if not path:
        raise NotInstalled(f"{name} is not installed (./test installs it)")
    return path


def wait(process, ready, log):
    until = time.monotonic() + 30
    while not (found := ready()):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the server did not come up:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)
    return found


def end(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except (urllib.error.URLError, OSError):
        return False


def weed_ports(metrics=False):
    names = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer", "admin") for kind in ("", ".grpc")] + ["metricsPort"] * metrics
    return dict(zip(names, free_ports(len(names))))


def start_weed(home, ports, more=None):
    """Starts SeaweedFS in `home`, on what lies there, and waits until it is up. Gives its process. `more` are further identities, and policies, of its configuration."""
    keys = {"name": "test", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    more = more or {"identities": []}
    (home / "s3.json").write_text(json.dumps({**more, "identities": [keys, *more["identities"]]}))
    arguments = [f"-{name}={port}" for name, port in ports.items()] + [
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={home}/data", f"-s3.config={home}/s3.json", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-webdav=false", "-admin.ui=false", "-master.telemetry=false", f"-s3.localSocket={home}/s3.sock", f"-filer.localSocket={home}/filer.sock"]
    log = home / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen([program("BACKSTAY_WEED", "weed"), f"-logdir={home}", "mini", *arguments], cwd=home, start_new_session=True,
                                   env={**os.environ, "HOME": str(home), "TMPDIR": str(home)}, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        wait(process, lambda: answers(f"http://127.0.0.1:{ports['s3.port']}/status"), log)
    except BaseException:
        end_weed(process, ports)
        raise
    return process


def end_weed(process, ports):
    end(process)
    for part in ("master", "volume", "filer", "s3", "admin"):
        pathlib.Path(f"/tmp/seaweedfs-{part}-grpc-{ports[part + '.port.grpc']}.sock").unlink(missing_ok=True)


@contextlib.contextmanager
def weed(home, metrics=False, more=None):
    """SeaweedFS; gives its endpoint and process, and with `metrics` the URL of what it counts. `more` are further identities, and policies, of its configuration."""
    home, ports = pathlib.Path(home), weed_ports(metrics)
    (home / "data").mkdir()
    process = start_weed(home, ports, more)
    try:
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        yield (endpoint, process, f"http://127.0.0.1:{ports['metricsPort']}/metrics") if metrics else (endpoint, process)
    finally:
        end_weed(process, ports)


@contextlib.contextmanager
def rclone(home, remote=None, options=()):
    """`rclone serve s3` on a folder, or on `remote`; gives its endpoint and process."""
    home = pathlib.Path(home)
    (home / "root").mkdir()
    log = home / "log"
    env = {**os.environ, "RCLONE_CONFIG": "/dev/null", "RCLONE_AUTH_KEY": f'"{ACCESS},{SECRET}"'}
    with open(log, "wb") as out:
        process = subprocess.Popen([program("BACKSTAY_RCLONE", "rclone"), "serve", "s3", "--addr", "127.0.0.1:0", "--cache-dir", str(home / "cache"), *options, remote or str(home / "root")],
                                   cwd=home, start_new_session=True, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        found = wait(process, lambda: re.search(r"Starting s3 server on \[(http://127\.0\.0\.1:\d+)/\]", log.read_text()), log)
        yield found[1], process
    finally:
        end(process)


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("weed", "rclone", "memory"):
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory(prefix="bs3-", ignore_cleanup_errors=True) as home:
        try:
            server = {"weed": weed, "rclone": rclone, "memory": lambda h: rclone(h, ":memory:")}[sys.argv[1]](home)
            with server as (endpoint, _):
                env = {**os.environ, "S3_ENDPOINT": endpoint, "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
                code = subprocess.run(sys.argv[2:], env=env).returncode
        except NotInstalled as e:
            print(e, file=sys.stderr)
            code = 77
    sys.exit(code)


if __name__ == "__main__":
    main()
