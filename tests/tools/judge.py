#!/usr/bin/env python3
"""Judges histories with the rules of recover.py, for a test that compares what backstay says of them.

    python3 judge.py RECOVER_PY FILE      a history a line; prints a judgement a line

Nothing is signed and nothing lies in a store: entries are given as they are.
"""

import base64
import importlib.util
import json
import sys

KINDS = {"signed two different": "fork", "missing here": "gap", "does not follow": "wrong", "the entries end": "back",
         "history was rewritten": "rewritten"}


def load(path):
    spec = importlib.util.spec_from_file_location("recover", path)
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    return module


class Something:
    """Has the attributes that it is given."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


def document(recover, entry, wires):
    doc = recover.Document.__new__(recover.Document)
    doc.fields, doc.hash, doc.error = dict(entry["line"]), entry["hash"], None
    f = doc.fields
    doc.kind, doc.signer, doc.host, doc.number, doc.previous = f["type"], f["signer"], f["host"], f["number"], f["previous"]
    doc.key = wires[doc.signer]
    doc.id = f.get("snapshot") if doc.kind == "record" else None
    doc.name = doc.id or "%s/%d" % (doc.signer, doc.number)
    if doc.kind == "mark":
        recover.check_mark(f, doc.name)
    return doc


def judge(recover, history):
    wires = {recover.signer_id(wire): wire for wire in (base64.b64decode(key.split()[1]) for key in history["keys"])}
    trusted = recover.TrustedKeys()
    for key, roles, host in history["trusted"]:
        trusted.add_key(key, set(roles), "the test", host)
    documents = [document(recover, entry, wires) for entry in history["entries"]]
    vault = recover.Vault.__new__(recover.Vault)
    vault.store = Something(instance=history["instance"], vault=None)
    vault.trusted, vault.keygen, vault.checked = trusted, Something(program="ssh-keygen"), True
    vault.records = [d for d in documents if d.kind == "record"]
    vault.marks = [d for d in documents if d.kind == "mark"]
    vault.judge({signer: (number, digest) for signer, number, digest in history["heads"]})
    return {
        "breaks": sorted({(signer, kind) for signer, texts in vault.breaks for text in texts for words, kind in KINDS.items()
                          if words in text}),
        "of": [[signer, host] for signer in sorted(wires) for host in history["hosts"] if vault.keys.is_of(signer, host)],
        "depths": {signer: vault.keys.depth(signer) for signer in sorted(wires)},
        "records": {r.hash: record(vault, r) for r in vault.records},
        "latest": {host: latest(recover, vault, host) for host in history["hosts"]},
    }


def record(vault, r):
    trusted = vault.is_trusted(r) and not vault.is_dropped(r)
    tags, milestone = vault.labels(r)
    return {"trusted": trusted, "void": trusted and vault.is_void(r), "tags": tags, "milestone": milestone}


def latest(recover, vault, host):
    if vault.chain_faults(host):
        return "broken"
    try:
        return vault.latest(host).hash
    except recover.Damage:
        return None


def main():
    recover = load(sys.argv[1])
    with open(sys.argv[2], encoding="utf-8") as f:
        for line in f:
            print(json.dumps(judge(recover, json.loads(line)), sort_keys=True))


if __name__ == "__main__":
    main()
