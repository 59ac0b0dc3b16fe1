#!/usr/bin/env python3
"""The demo application: a notebook with a SQLite database, and a file for each note that is attached.

  app.py FOLDER        serves on port 8080 (or PORT), keeps everything in FOLDER

  GET /health          200 when the database answers, with the number of notes
  GET /notes           all of them
  POST /notes          one more: its text is the body; it also goes into files/NUMBER.txt
"""
import hashlib, http.server, json, os, pathlib, signal, sqlite3, sys

FOLDER = pathlib.Path(sys.argv[1])


def database():
    db = sqlite3.connect(FOLDER / "demo.db", timeout=10)
    db.execute("PRAGMA journal_mode=WAL")
    return db


class Page(http.server.BaseHTTPRequestHandler):
    def answer(self, status, value):
        body = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        with database() as db:
            if self.path == "/health":
                count, = db.execute("SELECT count(*) FROM notes").fetchone()
                self.answer(200, {"status": "ok", "notes": count})
            elif self.path == "/notes":
                self.answer(200, [{"id": i, "text": t, "sha256": s} for i, t, s in db.execute("SELECT id, text, sha256 FROM notes ORDER BY id")])
            else:
                self.answer(404, {"error": "there are /health and /notes"})

    def do_POST(self):
        body = self.rfile.read(min(int(self.headers.get("content-length", 0)), 1 << 20))
        with database() as db:
            note = db.execute("INSERT INTO notes (text, sha256) VALUES (?, ?)", (body.decode(errors="replace"), hashlib.sha256(body).hexdigest())).lastrowid
            (FOLDER / "files" / f"{note}.txt").write_bytes(body)
        self.answer(201, {"id": note})

    def log_message(self, *words):
        pass


def main():
    (FOLDER / "files").mkdir(parents=True, exist_ok=True)
    with database() as db:
        db.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL, sha256 TEXT NOT NULL)")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = http.server.ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Page)
    print(f"serves {FOLDER}", flush=True)
    server.serve_forever()


main()
