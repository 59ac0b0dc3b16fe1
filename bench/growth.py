"""How cost grows with files, bytes and snapshots, and what a month costs. See run.py."""
import pathlib, random, shutil, sys, time
import data, tools

PEAK, PEAK_MILLION, SECONDS_MILLION = 192, 512, 5.0


def line(*cells):
    print("| " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


def head(title, *cells):
    print(f"\n### {title}\n")
    line(*cells)
    print("|" + "---|" * len(cells))


def files(work, server, scale):
    """10^4 to 10^6 small files."""
    head("Files", "files", "first backup s", "peak MB", "nothing changed s", "CPU s", "peak MB", "requests", "ls of one folder s", "requests", "one file s", "requests", "restore s", "peak MB", "stored MB")
    broken, asked = [], {}
    for count in (10_000, 100_000, 1_000_000):
        count //= scale
        top = work / "files"
        data.many_files(top, count)
        data.settle(top)
        tool = tools.Backstay(work / f"files{count}", server)
        tool.anew(top)
        first = tool.backup()
        stored = tool.place.megabytes()
        again = min((tool.backup() for _ in range(3)), key=lambda f: f["wall"])
        folder = tool.do([tool.program, "ls", "latest", "data/g0000/h07"], tool.project)
        assert len(tool.output.read_text().splitlines()) >= 100, tool.output.read_text()[:300]
        one = tool.one("g0000/h07/f03.txt")
        restored, found = tool.restore(work / "restored")
        assert (found / "g0000/h07/f03.txt").read_bytes() == (top / "g0000/h07/f03.txt").read_bytes()
        same = sum(1 for p in found.rglob("*.txt") if p.read_bytes() == (top / p.relative_to(found)).read_bytes())
        shutil.rmtree(work / "restored")
        line(count, first["wall"], first["peak"], again["wall"], again["cpu"], again["peak"], again.get("requests", ""), folder["wall"], folder.get("requests", ""), one["wall"], one.get("requests", ""), restored["wall"], restored["peak"], stored)
        for what, figures in (("ls", folder), ("one file", one)):
            if "requests" in figures and figures["requests"] > asked.setdefault(what, figures["requests"]) + 4:
                broken.append(f"{count} files, {what}: {figures['requests']:.0f} requests, {asked[what]:.0f} with the fewest files")
        if same != count:
            broken.append(f"{count} files: {same} came back as they were")
        bound = PEAK_MILLION if count > 500_000 else PEAK
        for what, figures in (("first backup", first), ("nothing changed", again), ("ls", folder), ("restore", restored)):
            if figures["peak"] > bound:
                broken.append(f"{count} files, {what}: {figures['peak']:.0f} MB")
        if count > 500_000 and again["wall"] > SECONDS_MILLION:
            broken.append(f"{count} files, nothing changed: {again['wall']:.2f} s")
        tool.place.remove()
        shutil.rmtree(top)
    return broken


def bytes_(work, server, scale):
    """1, 5 and 20 GB in files of 256 MB, of which every other is random."""
    head("Bytes", "GB", "first backup s", "CPU s", "server's CPU s", "peak MB", "nothing changed s", "restore s", "CPU s", "peak MB", "stored GB")
    broken, top, have = [], work / "bytes", 0
    top.mkdir()
    text = data.words_pool(random.Random(6), 16 << 20)
    for size in (1, 5, 20):
        while have < size * 10**9 // scale:
            rng = random.Random(have)
            with open(top / f"large{have}", "wb") as out:
                for n in range(64 // min(scale, 64)):
                    out.write(rng.randbytes(4 << 20) if have // 10**8 % 2 else bytes(f"{have} {n}\n", "utf8") + text[n % 12 << 20:][:4 << 20])
            have += (top / f"large{have}").stat().st_size
        if shutil.disk_usage(work).free < 2.2 * have:  # what is stored, and what is restored
            print(f"NOT RUN: {size} GB (not enough room)")
            continue
        data.settle(top)
        tool = tools.Backstay(work / f"bytes{size}", server)
        tool.anew(top)
        first, again = tool.backup(), tool.backup()
        stored = tool.place.megabytes()
        restored, found = tool.restore(work / "restored")
        for path in top.iterdir():
            if not same_content(path, found / path.name):
                broken.append(f"{size} GB: {path.name} came back otherwise")
        shutil.rmtree(work / "restored")
        line(f"{have / 1e9:.1f}", first["wall"], first["cpu"], first.get("server", ""), first["peak"], again["wall"], restored["wall"], restored["cpu"], restored["peak"], stored / 1000)
        if max(first["peak"], restored["peak"]) > PEAK:
            broken.append(f"{size} GB: {first['peak']:.0f} and {restored['peak']:.0f} MB")
        tool.place.remove()
    shutil.rmtree(top)
    return broken


def same_content(a, b):
    with open(a, "rb") as one, open(b, "rb") as other:
        while piece := one.read(4 << 20):
            if other.read(len(piece)) != piece:
                return False
        return not other.read(1)


def snapshots(work, server, scale):
    """1, 100 and 1,000 snapshots of a thousand files, of which one changes each time."""
    import run as main
    head("Snapshots", "snapshots", "next backup s", "CPU s", "requests", "list s", "requests", "one file s", "requests", "restore s", "objects' MB")
    top, broken = work / "small", []
    data.many_files(top, 1000)
    for count in (1, 100, 1000 // scale):
        # Made in a folder: in a bucket each reads the records of all before it, which for a thousand are a million and a half.
        tool = tools.Backstay(work / f"snapshots{count}", None if server and count > 1 else server)
        tool.anew(top)
        for made in range(count):
            (top / "g0000" / "h03" / "f07.txt").write_text(f"{made}")
            if server and made and made == count - 1:
                tool.bring_to(tools.Bucket(server, f"snapshots{count}"))
            last = tool.backup()
        listed, one = tool.list(), tool.one("g0000/h03/f07.txt")
        assert tool.output.read_text() == f"{count - 1}"
        restored, found = tool.restore(work / "restored")
        if main.digest(found) != main.digest(top):
            broken.append(f"{count} snapshots: the last one did not come back as it was")
        shutil.rmtree(work / "restored")
        line(count, last["wall"], last["cpu"], last.get("requests", ""), listed["wall"], listed.get("requests", ""), one["wall"], one.get("requests", ""), restored["wall"], tool.place.megabytes())
        tool.place.remove()
    return broken


def run(which, work, server, scale):
    broken = []
    for name, measure in (("files", files), ("bytes", bytes_), ("snapshots", snapshots)):
        if name in which:
            broken += measure(work, server, scale)
    return broken, []


def month(work, server, scale, days):
    """A backup a day, 1 % changed in between, of A and of B."""
    broken = []
    for name, subject, source in (("A", data.Tree(work / "A" / "tree", scale), work / "A" / "tree"), ("B", data.Database(work / "B" / "app.db", scale), work / "B" / "app.db")):
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr)
        subject.make()
        competitors = tools.installed(work / f"m{name}", server, ["backstay", "restic", "rustic"])
        totals = {t.name: {"sent": 0.0, "wall": 0.0, "requests": 0.0, "received": 0.0} for t in competitors}
        for day in range(days):
            if day:
                subject.change()
            for tool in competitors:
                if not day:
                    tool.anew(source)
                figures = tool.backup()
                for what in totals[tool.name]:
                    totals[tool.name][what] += figures.get(what, 0.0)
        head(f"{name}: {days} daily backups, 1 % changed a day", "program", "uploaded MB", "downloaded MB", "stored MB", "requests", "seconds in all", "backstay/this: uploaded", "stored")
        stored = {t.name: t.place.megabytes() for t in competitors}
        for tool in competitors:
            total, own = totals[tool.name], totals["backstay"]
            line(tool.name, total["sent"], total["received"], stored[tool.name], int(total["requests"]), total["wall"], own["sent"] / total["sent"] if total["sent"] else "", stored["backstay"] / stored[tool.name])
            if tool.name == "restic" and (own["sent"] > total["sent"] or stored["backstay"] > stored["restic"]):
                broken.append(f"{name}: a month costs more than restic's")
        restored, found = competitors[0].restore(work / "restored")
        if source.is_dir():
            import run as main
            if main.digest(found) != main.digest(source):
                broken.append(f"{name}: the last day did not come back as it was")
        elif not same_content(source, found):
            broken.append(f"{name}: the last day did not come back as it was")
        shutil.rmtree(work / "restored")
        for tool in competitors:
            tool.place.remove()
        shutil.rmtree(work / name)
    return broken, []
