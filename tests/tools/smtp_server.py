#!/usr/bin/env python3
"""A mail server for tests: takes messages, reads them with Python's own parser, and writes what it read to a file, one JSON document a line.

Says "PORT n" when it listens on 127.0.0.1, and ends when its standard input does. With --tls implicit it speaks TLS from the first byte, with --tls starttls
after STARTTLS, before which it takes nothing else. It can misbehave: refuse the recipient, hang, repeat the password in its answer.
"""
import argparse, base64, email, email.policy, json, os, socketserver, ssl, sys, threading


class Talk(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")
        self.wfile.flush()

    def hear(self):
        line = self.rfile.readline()
        if not line:
            raise ConnectionError
        if not line.endswith(b"\r\n"):
            self.note({"wrong": "a line that does not end in CRLF", "line": line.decode(errors="replace")})
        return line.rstrip(b"\r\n").decode()

    def hang(self, where):
        if self.server.options.hang == where:
            self.note({"hangs": where})
            self.rfile.read()
            raise ConnectionError

    def note(self, what):
        with self.server.lock, open(self.server.options.log, "a") as log:
            log.write(json.dumps(what) + "\n")

    def secure(self):
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile, self.tls = self.connection.makefile("rb"), self.connection.makefile("wb"), True

    def handle(self):
        self.tls = False
        try:
            self.talk(self.server.options)
        except (ConnectionError, ssl.SSLError, OSError):
            pass

    def talk(self, options):
        if options.tls == "implicit":
            self.secure()
        self.hang("banner")
        self.say("220 test ESMTP")
        who = sender = recipient = None
        while True:
            line = self.hear()
            verb = line.split(" ")[0].upper()
            if verb == "QUIT":
                self.hang("quit")
                return self.say("221 bye")
            if verb == "EHLO":
                offers = ["test", "8BITMIME"]
                if options.tls == "starttls" and not self.tls:
                    offers.append("STARTTLS")
                elif options.password:
                    offers.append("AUTH " + options.auth)
                for offer in offers[:-1]:
                    self.say("250-" + offer)
                self.say("250 " + offers[-1])
            elif verb == "STARTTLS" and options.tls == "starttls" and not self.tls:
                self.say("220 go on")
                self.secure()
            elif options.tls == "starttls" and not self.tls:
                self.say("530 STARTTLS first")
            elif verb == "AUTH":
                user, password, said = self.credentials(line)
                if (user, password) == (options.user, options.password):
                    who = user
                    self.say("235 welcome")
                else:
                    self.say(f"535 5.7.8 no: {said} {password}" if options.repeat else "535 5.7.8 wrong user or password")
            elif options.password and who is None:
                self.say("530 5.7.0 authentication required")
            elif verb == "MAIL":
                sender = line
                self.say("250 ok")
            elif verb == "RCPT":
                recipient = line
                self.say("550 5.1.1 nobody of that name" if options.refuse else "250 ok")
            elif verb == "DATA":
                self.hang("data")
                self.say("354 go on")
                self.take({"user": who, "tls": self.tls, "mail": sender, "rcpt": recipient})
                self.hang("answer")
                self.say("250 taken")
            else:
                self.say("500 what?")

    def credentials(self, line):
        words = line.split(" ")
        if words[1].upper() == "PLAIN":
            said = words[2] if len(words) > 2 else self.ask("")
            _, user, password = base64.b64decode(said).decode().split("\0")
            return user, password, said
        user = base64.b64decode(words[2] if len(words) > 2 else self.ask("VXNlcm5hbWU6")).decode()
        said = self.ask("UGFzc3dvcmQ6")
        return user, base64.b64decode(said).decode(), said

    def ask(self, text):
        self.say("334 " + text)
        return self.hear()

    def take(self, facts):
        raw = b""
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                raise ConnectionError
            raw += line[1:] if line.startswith(b".") else line
        letter = email.message_from_bytes(raw, policy=email.policy.default)
        facts |= {"headers": [[name, str(value)] for name, value in letter.items()], "text": letter.get_content(), "raw": raw.decode("latin-1")}
        facts["defects"] = [repr(defect) for defect in letter.defects]
        self.note(facts)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", required=True)
    parser.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--user")
    parser.add_argument("--password-file")
    parser.add_argument("--auth", default="PLAIN LOGIN")
    parser.add_argument("--refuse", action="store_true", help="the recipient")
    parser.add_argument("--repeat", action="store_true", help="what it was told, in the answer to a wrong password")
    parser.add_argument("--hang", choices=["banner", "data", "answer", "quit"])
    options = parser.parse_args()
    options.password = open(options.password_file).readline().rstrip("\n") if options.password_file else None
    with Server(("127.0.0.1", 0), Talk) as server:
        server.options, server.lock = options, threading.Lock()
        if options.cert:
            server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.context.load_cert_chain(options.cert, options.key)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"PORT {server.server_address[1]}", flush=True)
        sys.stdin.read()
        os._exit(0)


if __name__ == "__main__":
    main()
