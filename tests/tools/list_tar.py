#!/usr/bin/env python3
"""Lists the members of a tar file with Python's own tarfile: one JSON array a member.

    list_tar.py FILE      [name in hex, type, size, seconds, nanoseconds, target in hex]
"""

import decimal
import json
import sys
import tarfile

TYPES = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink", tarfile.FIFOTYPE: "fifo",
         tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block"}


def hexed(text):
    return text.encode("utf-8", "surrogateescape").hex()


with tarfile.open(sys.argv[1], encoding="utf-8", errors="surrogateescape") as tar:
    for member in tar:
        total = int(decimal.Decimal(member.pax_headers.get("mtime", str(member.mtime))) * 10**9)
        print(json.dumps([hexed(member.name), TYPES.get(member.type, "file"), member.size, total // 10**9,
                          total % 10**9, hexed(member.linkname)]))
