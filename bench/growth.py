"""How cost grows with files, bytes and snapshots, and what a month costs. See run.py. Each prints its table, and gives figures, and what of the bounds does not hold."""
import pathlib, random, shutil, sys, time
import data, tools

FILES = (10_000, 100_000, 1_000_000)
MANY = 500_000      # from so many files on, the bounds are those of a million
PEAK, PEAK_MANY, SECONDS_MANY = 192, 512, 5.0       # MB of any operation, MB and seconds where nothing changed
MORE_REQUESTS = 4   # than with the fewest files


def line(*cells):
    print("| " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


def head(title, *cells):
    print(f"\n### {title}\n")
    line(*cells)
    print("|" + "---|" * len(cells))


def peak_bound(count):
    return PEAK_MANY if count > MANY else PEAK


def many_files(work, server, count):
    """What each operation costs on so many small files."""
    top = work / "files"
    data.many_files(top, count)
    data.settle(top)
    tool = tools.Backstay(work / f"files{count}", server)
    tool.anew(top)
    first = tool.backup()
    first["stored"] = tool.place.megabytes()
    again = min((tool.backup() for _ in range(3)), key=lambda f: f["wall"])
    folder = tool.do([tool.program, "ls", "latest", "data/g0000/h07"], tool.project)
    assert len(tool.output.read_text().splitlines()) >= 100, tool.output.read_text()[:300]
    one = tool.one("g0000/h07/f03.txt")
    restored, found = tool.restore(work / "restored")
    assert (found / "g0000/h07/f03.txt").read_bytes() == (top / "g0000/h07/f03.txt").read_bytes()
    restored["same"] = sum(1 for p in found.rglob("*.txt") if p.read_bytes() == (top / p.relative_to(found)).read_bytes())
    shutil.rmtree(work / "restored")
    tool.place.remove()
    shutil.rmtree(top)
    return {"first backup": first, "nothing changed": again, "ls": folder, "one file": one, "restore": restored}


def broken_bounds(count, figures, fewest):
    """What of the bounds does not hold with so many files."""
    broken = []
    for what in ("ls", "one file"):
        if figures[what].get("requests", 0) > fewest[what].get("requests", 0) + MORE_REQUESTS:
            broken.append(f"{count} files, {what}: {figures[what]['requests']:.0f} requests, {fewest[what]['requests']:.0f} with the fewest files")
    if figures["restore"]["same"] != count:
        broken.append(f"{count} files: {figures['restore']['same']} came back as they were")
    broken += [f"{count} files, {what}: {of['peak']:.0f} MB" for what, of in figures.items() if of["peak"] > peak_bound(count)]
    if count > MANY and figures["nothing changed"]["wall"] > SECONDS_MANY:
        broken.append(f"{count} files, nothing changed: {figures['nothing changed']['wall']:.2f} s")
    return broken


def files(work, server, scale):
    """10^4 to 10^6 small files."""
    head("Files", "files", "first backup s", "peak MB", "nothing changed s", "CPU s", "peak MB", "requests", "ls of one folder s", "requests", "one file s", "requests", "restore s", "peak MB", "stored MB")
    figures, broken = {}, []
    for count in (count // scale for count in FILES):
        print(f"{time.strftime('%H:%M:%S')} {count} files", file=sys.stderr)
        figures[count] = many_files(work, server, count)
        first, again, folder, one, restored = figures[count].values()
        line(count, first["wall"], first["peak"], again["wall"], again["cpu"], again["peak"], again.get("requests", ""), folder["wall"], folder.get("requests", ""), one["wall"], one.get("requests", ""), restored["wall"], restored["peak"], first["stored"])
        broken += broken_bounds(count, figures[count], figures[min(figures)])
    return figures, broken


def bytes_(work, server, scale):
    """1, 5 and 20 GB in files of 256 MB, of which every other is random."""
    head("Bytes", "GB", "first backup s", "CPU s", "server's CPU s", "peak MB", "nothing changed s", "restore s", "CPU s", "peak MB", "stored GB")
    figures, broken, top, have = {}, [], work / "bytes", 0
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
        figures[size] = {"first backup": {**first, "stored": stored}, "nothing changed": again, "restore": restored}
        if max(first["peak"], restored["peak"]) > PEAK:
            broken.append(f"{size} GB: {first['peak']:.0f} and {restored['peak']:.0f} MB")
        tool.place.remove()
    shutil.rmtree(top)
    return figures, broken


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
    top, figures, broken = work / "small", {}, []
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
        stored = tool.place.megabytes()
        figures[count] = {"next backup": {**last, "stored": stored}, "list": listed, "one file": one, "restore": restored}
        line(count, last["wall"], last["cpu"], last.get("requests", ""), listed["wall"], listed.get("requests", ""), one["wall"], one.get("requests", ""), restored["wall"], stored)
        tool.place.remove()
    return figures, broken


KINDS = {"files": files, "bytes": bytes_, "snapshots": snapshots}


def daily(competitors, subject, source, days):
    """A backup a day, 1 % changed in between: what all of them cost each program."""
    totals = {t.name: {"sent": 0.0, "received": 0.0, "requests": 0.0, "wall": 0.0, "peak": 0.0} for t in competitors}
    for day in range(days):
        print(f"{time.strftime('%H:%M:%S')} day {day + 1}", file=sys.stderr)
        if day:
            subject.change()
        for tool in competitors:
            if not day:
                tool.anew(source)
            figures, total = tool.backup(), totals[tool.name]
            for what in total:
                total[what] = max(total[what], figures[what]) if what == "peak" else total[what] + figures.get(what, 0.0)
    for tool in competitors:
        totals[tool.name]["stored"] = tool.place.megabytes()
    return totals


def month(work, server, name, scale, days):
    """A month of backups of A or B, beside restic and rustic."""
    import run as main
    source = work / {"A": "tree", "B": "app.db"}[name]
    subject = {"A": data.Tree, "B": data.Database}[name](source, scale)
    subject.make()
    competitors, broken = tools.installed(work, server, ["backstay", "restic", "rustic"]), []
    totals = daily(competitors, subject, source, days)
    own = totals["backstay"]
    head(f"{name}: {days} daily backups, 1 % changed a day, data 1/{scale}", "program", "uploaded MB", "downloaded MB", "stored MB", "requests", "seconds in all", "backstay/this: uploaded", "stored")
    for tool, total in totals.items():
        line(tool, total["sent"], total["received"], total["stored"], int(total["requests"]), total["wall"], own["sent"] / total["sent"] if total["sent"] else "", own["stored"] / total["stored"])
        if tool == "restic" and (own["sent"] > total["sent"] or own["stored"] > total["stored"]):
            broken.append(f"{name}: a month costs more than restic's")
    restored, found = competitors[0].restore(work / "restored")
    own["peak"] = max(own["peak"], restored["peak"])
    if main.digest(found) != main.digest(source) if source.is_dir() else not same_content(source, found):
        broken.append(f"{name}: the last day did not come back as it was")
    for tool in competitors:
        tool.place.remove()
    return totals, broken
