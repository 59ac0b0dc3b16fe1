#!/usr/bin/env python3
"""The status page in a real browser: Debian's Chromium, driven through chromedriver by the W3C WebDriver protocol.

    tests/page_test.py                    checks the page of target/debug/backstay in every state
    tests/page_test.py --screenshots      also writes docs/images/status-page-*.png anew (as root, for paths that look like a server's)

Needs chromium and chromedriver, and nothing of Python but its own library. The project that is shown is real: weeks of backups, verifications, drills and prunes by the
program, at times that its clock is told.
"""

import base64
import collections
import datetime
import json
import os
import pathlib
import random
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib

TOP = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("BACKSTAY", str(TOP / "target/debug/backstay"))
DAYS = 28
LAST = datetime.datetime(2026, 11, 29, tzinfo=datetime.timezone.utc)


def at(day, clock):
    """A moment `day` days before the last one, at `clock` (hh:mm)."""
    hours, minutes = map(int, clock.split(":"))
    moment = LAST - datetime.timedelta(days=day) + datetime.timedelta(hours=hours, minutes=minutes)
    return moment.strftime("%Y-%m-%dT%H:%M:00Z")


class Project:
    """A bookshop that is backed up to two stores."""

    def __init__(self, top):
        self.top, self.random = pathlib.Path(top), random.Random(7)
        self.app = self.top / "bookshop"
        for name in ("app", "uploads", "etc"):
            (self.app / name).mkdir(parents=True)
        for number in range(60):
            (self.app / "app" / f"module_{number}.py").write_text(f"# module {number}\n" * self.random.randrange(40, 400))
        (self.app / "etc/settings.ini").write_text("[shop]\nname = Bookshop\n")
        for number in range(40):
            self.upload(f"cover_{number}.jpg", 60_000)
        self.db = sqlite3.connect(self.app / "shop.db")
        self.db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total REAL, note BLOB)")
        self.orders(3000)
        self.home = self.top / "home"
        self.home.mkdir()

    def upload(self, name, size):
        (self.app / "uploads" / name).write_bytes(self.random.randbytes(self.random.randrange(size // 2, size)))

    def orders(self, number):
        rows = [(f"customer {self.random.randrange(900)}", self.random.random() * 90, self.random.randbytes(300)) for _ in range(number)]
        self.db.executemany("INSERT INTO orders (customer, total, note) VALUES (?, ?, ?)", rows)
        self.db.commit()

    def environment(self, now):
        keep = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "TZ": "UTC"}
        return keep | ({"BACKSTAY_TEST_NOW": now, "BACKSTAY_TEST_SETTLE_MS": "0"} if now else {})

    def run(self, now, *words, codes=(0,)):
        done = subprocess.run([PROGRAM, *words], cwd=self.app, env=self.environment(now), capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode in codes, f"{words} at {now}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def set_up(self):
        self.run(at(DAYS, "00:00"), "init", "--yes", "--store", str(self.top / "backups/bookshop"), "--kit", str(self.home / "kit.txt"))
        text = (self.app / "backstay.toml").read_text()
        keep = re.split(r"(?m)^(?=\[)", text)
        kept = [part for part in keep if not re.match(r"\[\[(component|store)\]\]|\[retention\]", part)]
        self.config = "".join(kept) + f"""
[[component]]
name = "app"
path = "app"
[[component]]
name = "uploads"
path = "uploads"
[[component]]
name = "orders"
sqlite = "shop.db"
[[component]]
name = "settings"
path = "etc"
[[store]]
name = "local"
path = "{self.top}/backups/bookshop"
[[store]]
name = "offsite"
path = "{self.top}/nas/bookshop"
[retention]
keep_within = "24d"
[schedule]
backup = "0 3 * * *"
verify = "0 5 * * *"
prune = "30 5 * * *"
drill = "0 6 * * SUN"
verify_percent = 100
timezone = "UTC"
[agent]
page = "127.0.0.1:0"
"""
        self.configure("")
        (self.top / "nas").mkdir()
        self.run(at(DAYS, "00:00"), "init", "--yes")

    def configure(self, more):
        (self.app / "backstay.toml").write_text(self.config + more)

    def day(self, day):
        """What happens in a day: people buy, the agent works."""
        self.orders(self.random.randrange(120, 500))
        for number in range(self.random.randrange(1, 5)):
            self.upload(f"photo_{day}_{number}.jpg", 160_000)
        if self.random.random() < 0.2:
            (self.app / "app" / f"module_{self.random.randrange(60)}.py").write_text(f"# changed {day}\n" * 500)
        away = day == 11 and (self.app / "etc").rename(self.top / "etc-away")
        self.run(at(day, "03:01"), "agent", "--once", codes=(0, 3, 4))
        if away:
            away.rename(self.app / "etc")
        self.run(at(day, "06:05"), "agent", "--once", codes=(0, 3, 4))

    def agent(self, now):
        return Agent(self, now)


class Agent:
    """An agent that stays, and its page."""

    def __init__(self, project, now):
        self.process = subprocess.Popen([PROGRAM, "agent"], cwd=project.app, env=project.environment(now), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = []
        for line in self.process.stderr:
            said.append(line)
            if found := re.search(r"the status page is at (http://\S+/)", line):
                self.url = found[1]
                return
        raise AssertionError("".join(said))

    def json(self):
        with urllib.request.urlopen(self.url + "status.json", timeout=20) as answer:
            return json.load(answer)["projects"][0]

    def until(self, fits):
        until = time.time() + 60
        while not fits(view := self.json()):
            assert time.time() < until, view
            time.sleep(0.1)
        return view

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(15)
        self.process.stderr.close()


class Browser:
    """Chromium, asked in words of WebDriver."""

    FLAGS = ["--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
             "--disable-default-apps", "--hide-scrollbars", "--force-device-scale-factor=1", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]

    def __init__(self, scratch, scripts=True):
        self.profile = tempfile.mkdtemp(prefix="profile-", dir=scratch)
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | {"TMPDIR": str(scratch), "HOME": self.profile})
        for line in self.driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                self.base = f"http://127.0.0.1:{found[1]}"
                break
        flags = self.FLAGS + [f"--user-data-dir={self.profile}", "--window-size=1200,900"] + (["--no-sandbox"] if os.getuid() == 0 else [])
        prefs = {} if scripts else {"profile.managed_default_content_settings.javascript": 2}
        always = {"browserName": "chrome", "goog:chromeOptions": {"args": flags, "binary": shutil.which("chromium"), "prefs": prefs},
                  "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"}}
        self.session = ""
        self.session = "/session/" + self.ask("POST", "/session", {"capabilities": {"alwaysMatch": always}})["sessionId"]

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.base + self.session + path, method=method, headers={"Content-Type": "application/json"},
                                         data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as e:
            raise AssertionError(f"{method} {path}: {e.read().decode()[:2000]}") from None

    def open(self, url):
        self.ask("POST", "/url", {"url": url})

    def script(self, code, *arguments):
        return self.ask("POST", "/execute/sync", {"script": code, "args": list(arguments)})

    def devtools(self, command, **parameters):
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def log(self, kind):
        return self.ask("POST", "/se/log", {"type": kind})

    def keys(self, text):
        actions = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def text(self):
        element = self.ask("POST", "/element", {"using": "css selector", "value": "body"})
        return self.ask("GET", f"/element/{next(iter(element.values()))}/text")

    def scheme(self, name):
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def size(self, width, height):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, width, height):
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        return base64.b64decode(self.devtools("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.ask("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(20)
            self.driver.stdout.close()


# Every text with the contrast that its colour has with what lies behind it, and every mark of a picture.
CONTRAST = """
const parse = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const over = (top, under) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => top[i] * a + under[i] * (1 - a)); };
function behind(node) {
  const layers = [];
  for (let n = node; n; n = n.parentElement) {
    const c = parse(getComputedStyle(n).backgroundColor);
    if ((c[3] ?? 1) > 0) { layers.push(c); if ((c[3] ?? 1) === 1) break; }
  }
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
}
const light = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
const found = [];
for (const details of document.querySelectorAll('details')) details.open = true;
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const node = walk.currentNode, element = node.parentElement;
  if (!node.data.trim() || ['STYLE', 'TITLE', 'title'].includes(element.tagName)) continue;
  const style = getComputedStyle(element), under = behind(element);
  const colour = parse(element.closest('svg') ? style.fill : style.color);
  found.push(['text', node.data.trim().slice(0, 40), ratio(over(colour, under), under)]);
}
for (const mark of document.querySelectorAll('svg .mark > :not(title), svg .curve, svg .bar, svg .last')) {
  const style = getComputedStyle(mark), under = behind(mark);
  const best = Math.max(...[style.fill, style.stroke].filter(c => c !== 'none').map(c => ratio(over(parse(c), under), under)));
  found.push(['mark', mark.parentElement.getAttribute('class') + ' ' + mark.tagName, best]);
}
return found;
"""

FOCUS = """
const e = document.activeElement, s = getComputedStyle(e);
return [e.tagName, (e.getAttribute('aria-label') || e.textContent).trim().slice(0, 60), s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2, e.id];
"""

FOCUSABLE = "return [...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')].filter(e => e.checkVisibility()).length;"


def small_png(picture):
    """The same picture with at most 256 colours, which halves it: a screenshot of text has few."""
    chunks, at = [], 8
    while at < len(picture):
        length, kind = struct.unpack(">I4s", picture[at:at + 8])
        chunks.append((kind, picture[at + 8:at + 8 + length]))
        at += 12 + length
    width, height, depth, form = struct.unpack(">IIBB", chunks[0][1][:10])
    channels = {2: 3, 6: 4}[form]
    assert depth == 8
    raw, line = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT")), width * channels
    rows, above = [], bytes(line)
    for y in range(height):
        kind, row = raw[y * (line + 1)], bytearray(raw[y * (line + 1) + 1:(y + 1) * (line + 1)])
        for x in range(line):
            a, b, c = (row[x - channels] if x >= channels else 0), above[x], (above[x - channels] if x >= channels else 0)
            if kind == 4:
                pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
                row[x] = row[x] + (a if pa <= pb and pa <= pc else b if pb <= pc else c) & 255
            elif kind:
                row[x] = row[x] + (0, a, b, (a + b) // 2)[kind] & 255
        rows.append(bytes(row))
        above = row
    coarse = [[tuple(v & 0xF0 | v >> 4 for v in row[x:x + 3]) for x in range(0, line, channels)] for row in rows]
    often = collections.Counter(pixel for row in coarse for pixel in row)
    exact = collections.Counter((c, row[x * channels:x * channels + 3]) for row, line_ in zip(rows, coarse) for x, c in enumerate(line_))
    best = {}
    for (c, value), number in exact.items():
        if number > best.get(c, (0, b""))[0]:
            best[c] = (number, value)
    palette = [c for c, _ in often.most_common(256)]
    near = {c: min(range(len(palette)), key=lambda i: sum((p - q) ** 2 for p, q in zip(palette[i], c))) for c in often}
    packed = zlib.compress(b"".join(b"\0" + bytes(near[c] for c in row) for row in coarse), 9)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return picture[:8] + chunk(b"IHDR", head) + chunk(b"PLTE", b"".join(best[c][1] for c in palette)) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


class Checks:
    def __init__(self):
        self.done = 0

    def holds(self, what, condition, why=""):
        assert condition, f"{what}: {why}"
        self.done += 1


def colours(checks, browser, scene):
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        found = browser.script(CONTRAST)
        low = [row for row in found if row[2] < (4.5 if row[0] == "text" else 3)]
        checks.holds(f"{scene}: contrast, {scheme}", len(found) > 20 and not low, low)
    dark, light = (browser.scheme(s) or browser.script("return getComputedStyle(document.body).backgroundColor") for s in ("dark", "light"))
    checks.holds(f"{scene}: dark and light differ", dark != light, dark)


def structure(checks, browser, scene):
    """What a screen reader is told."""
    nodes = browser.devtools("Accessibility.getFullAXTree")["nodes"]
    of = lambda role: [n for n in nodes if n.get("role", {}).get("value") == role and not n.get("ignored")]
    name = lambda node: node.get("name", {}).get("value", "").strip()
    for role in ("image", "img", "table", "region", "progressbar", "link", "navigation"):
        nameless = [n for n in of(role) if not name(n)]
        checks.holds(f"{scene}: every {role} has a name", not nameless, nameless)
    for role in ("main", "banner", "contentinfo"):
        checks.holds(f"{scene}: one {role}", len(of(role)) == 1, len(of(role)))
    levels = [next(p["value"]["value"] for p in n["properties"] if p["name"] == "level") for n in of("heading")]
    steps = all(after <= before + 1 for before, after in zip(levels, levels[1:]))
    checks.holds(f"{scene}: headings", levels[:1] == [1] and levels.count(1) == 1 and steps, levels)
    heads = browser.script("return [...document.querySelectorAll('table')].every(t => t.caption && [...t.querySelectorAll('th')].every(h => h.scope))")
    checks.holds(f"{scene}: tables have captions, and headers a scope", heads)
    ids = browser.script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    checks.holds(f"{scene}: no id twice", len(ids) == len(set(ids)), ids)
    checks.holds(f"{scene}: a language and a title", browser.script("return document.documentElement.lang === 'en' && document.title.length > 10"))


def keyboard(checks, browser, url):
    browser.open(url)
    reached = []
    for _ in range(browser.script(FOCUSABLE)):
        browser.keys("\ue004")
        reached.append(browser.script(FOCUS))
    checks.holds("keyboard: the first is the link that skips", reached[0][:2] == ["A", "Skip to the status"], reached)
    checks.holds("keyboard: what has the focus can be seen", all(row[2] for row in reached), reached)
    checks.holds("keyboard: everything is reached once", len(set(map(tuple, reached))) == len(reached), reached)
    checks.holds("keyboard: links, tables, pictures and what is folded", {"A", "DIV", "SUMMARY"} <= {row[0] for row in reached}, reached)
    browser.open(url)
    browser.keys("\ue004\ue007")
    checks.holds("keyboard: it skips", browser.script(FOCUS)[3] == "status", browser.script(FOCUS))
    while browser.script(FOCUS)[0] != "SUMMARY":
        browser.keys("\ue004")
    browser.keys("\ue007")
    checks.holds("keyboard: what is folded unfolds", browser.script("return document.activeElement.parentElement.open"))


def look(checks, browser, url, scene, words):
    browser.size(1200, 900)
    browser.open(url)
    text = browser.text()
    for word in words:
        checks.holds(f"{scene}: it says {word!r}", word in text, text)
    structure(checks, browser, scene)
    colours(checks, browser, scene)
    for width in (360, 768, 1200):
        browser.size(width, 900)
        wide = browser.script("return document.documentElement.scrollWidth")
        checks.holds(f"{scene}: fits into {width}", wide <= width, wide)
    browser.size(1200, 900)


def alone(checks, browser, url):
    """Whatever was asked for in all that time was the page itself."""
    asked = []
    for entry in browser.log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            parameters = message["params"]
            asked.append((parameters["documentURL"], parameters["request"]["url"]))
    # What the browser shows of its own before the first page are files of its own.
    own = [url for document, url in asked if document.startswith("http://127.0.0.1:")]
    outside = [url for url in own if not url.startswith("http://127.0.0.1:")]
    outside += [url for _, url in asked if re.match("(http|ws|ftp)s?:", url) and not url.startswith("http://127.0.0.1:")]
    checks.holds("no request goes elsewhere", len(own) >= 5 and not outside, (len(own), outside))
    said = [entry["message"] for entry in browser.log("browser")]
    checks.holds("the browser has nothing to complain of", not said, said)


def scenes(checks, top, images):
    project = Project(top)
    fresh = Project(pathlib.Path(top) / "fresh")
    for one in (project, fresh):
        one.set_up()
    for day in range(DAYS - 1, 0, -1):
        project.day(day)
        if day == DAYS - 4:
            project.run(at(day, "09:00"), "kit", "-o", str(project.home / "kit-2.txt"))
            project.run(at(day, "09:05"), "kit", "verify", str(project.home / "kit-2.txt"))
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="backstay-browser-", dir=os.environ.get("TMPDIR")))
    try:
        with Browser(scratch) as browser:
            well(checks, browser, project, images)
            with fresh.agent(at(0, "00:00")) as agent:
                agent.until(lambda view: view["looked_at"])
                look(checks, browser, agent.url, "nothing ever", ["Somebody must act", "component app is in no snapshot", "never"])
            busy_and_behind(checks, browser, project)
            alone(checks, browser, None)
        with Browser(scratch, scripts=False) as browser, project.agent(at(-2, "12:00")) as agent:
            agent.until(lambda view: view["looked_at"])
            browser.open(agent.url)
            checks.holds("without JavaScript", "What is protected" in browser.text())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def well(checks, browser, project, images):
    project.day(0)
    with project.agent(at(0, "09:30")) as agent:
        agent.until(lambda view: view["looked_at"])
        look(checks, browser, agent.url, "well", ["Protected", "All 4 components have a good snapshot", "2 of 2", "Nothing runs now.", "over: it last went well", "Recovery kit proved"])
        keyboard(checks, browser, agent.url)
        if images:
            for scheme in ("light", "dark"):
                browser.size(1200, 900)
                browser.scheme(scheme)
                browser.open(agent.url)
                path = images / f"status-page-{scheme}.png"
                end = browser.script("return document.querySelector('.pictures').getBoundingClientRect().bottom + scrollY + 24")
                path.write_bytes(small_png(browser.picture(1200, int(end))))
                print(f"{path}: {path.stat().st_size} bytes")
                checks.holds("screenshots are small", path.stat().st_size < 150_000)


def busy_and_behind(checks, browser, project):
    """A store is away for two days, and then a run is under way that does not end."""
    nas = project.top / "nas"
    nas.rename(project.top / "nas-away")
    project.run(at(-1, "03:01"), "agent", "--once", codes=(4,))
    project.configure('[[component]]\nname = "slow"\ncommand = "until [ -e ../go ]; do sleep 0.1; done; echo dump"\n')
    with project.agent(at(-2, "03:01")) as agent:
        agent.until(lambda view: view["looked_at"] and view["looked_at"].startswith("2026-12-01"))
        look(checks, browser, agent.url, "behind", ["away", "1 snapshot", "runs for", "offsite"])
        (project.top / "go").write_text("")
        agent.until(lambda view: view["status"]["schedule"]["jobs"][0]["last_began"].startswith("2026-12-01"))
    (project.top / "nas-away").rename(nas)


def main():
    wanted = "--screenshots" in sys.argv[1:]
    images = TOP / "docs/images" if wanted else None
    if wanted and os.environ.get("BACKSTAY_PAGE_INSIDE") is None:
        # The same in a machine of its own name, with a /srv of its own: what a reader of the documents sees is no scratch folder.
        command = 'hostname shop-1 && mount -t tmpfs tmpfs /srv && exec "$@"'
        os.execvpe("unshare", ["unshare", "--mount", "--uts", "sh", "-ec", command, "sh", sys.executable, *sys.argv], os.environ | {"BACKSTAY_PAGE_INSIDE": "1"})
    for tool in ("chromium", "chromedriver"):
        if shutil.which(tool) is None:
            sys.exit(f"there is no {tool}: apt-get install chromium chromium-driver")
    checks, begun = Checks(), time.time()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    top = tempfile.mkdtemp(prefix="backstay-page-", dir=memory) if not wanted else "/srv"
    try:
        if images:
            images.mkdir(exist_ok=True)
        scenes(checks, top, images)
    finally:
        if not wanted:
            shutil.rmtree(top, ignore_errors=True)
    print(f"{checks.done} checks of the status page in a browser hold ({time.time() - begun:.0f} s)")


if __name__ == "__main__":
    main()
