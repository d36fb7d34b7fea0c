"""What the tests of the operator's tools share."""
import json
import re
import subprocess

import pytest

import harness
from harness import free_port, wait_for

BODY = b"Subject: test\r\n\r\nline\r\n.dot\r\n"
NEVER = {"retry-first": "1h", "retry-max": "1h", "probe-first": "10m", "probe-max": "10m"}


def rows(tramd, *args, **how):
    """The lines of `tramctl … --json` but for the last."""
    return [json.loads(line) for line in tramd.ctl(*args, "--json", **how).splitlines()][:-1]


def last(tramd, *args):
    return json.loads(tramd.ctl(*args, "--json").splitlines()[-1])


def recipients(tramd, *filters):
    return sorted(row["recipient"] for row in rows(tramd, "queue", "list", *filters))


@pytest.fixture
def dead(make_tramd):
    """Everything goes to a port where nobody listens."""
    return make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)


def settled(tramd):
    """Until the first failures are known and nothing is on its way."""
    wait_for(lambda: last(tramd, "stats")["in_flight"] == 0
             and last(tramd, "stats")["connections_out"] == 0, what="nothing is in flight")


def start_tool(tramd, *args):
    return subprocess.Popen([harness.program("tramctl"), "-c", tramd.config_path, *args],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def has_asked(tool):
    """Until it waits for its answer, or has ended: it sleeps then, and for nothing else."""
    def asleep():
        if tool.poll() is not None:
            return True
        with open("/proc/%d/stat" % tool.pid, encoding="utf-8") as f:
            return re.search(r"\(tramctl\) S ", f.read())
    wait_for(asleep, what="tramctl waits for its answer")


# ---- archives ------------------------------------------------------------------------------------

def records(octets):
    """The records of an archive: (type, payload)."""
    assert octets[:8] == b"tramarc1"
    at, found = 8, []
    while at < len(octets):
        size = int.from_bytes(octets[at + 1:at + 5], "big")
        found.append((octets[at:at + 1], octets[at + 5:at + 5 + size]))
        at += 5 + size + 4
    return found


def archive_of(found):
    """The other way round."""
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
        table.append(n)
    octets = b"tramarc1"
    for kind, payload in found:
        record, crc = kind + len(payload).to_bytes(4, "big") + payload, 0xffffffff
        for octet in record:
            crc = crc >> 8 ^ table[(crc ^ octet) & 255]
        octets += record + (crc ^ 0xffffffff).to_bytes(4, "big")
    return octets


def changed(octets, **members):
    """An archive in which each message has these members."""
    return archive_of((kind, json.dumps(dict(json.loads(payload), **members)).encode()
                       if kind == b"M" else payload)
                      for kind, payload in records(octets))
