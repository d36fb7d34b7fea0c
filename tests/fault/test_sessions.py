"""A slow disk and very many sessions: fdatasync takes 300 ms, and ten thousand clients send the
final dot at once.

TRAM_SESSIONS: how many (10,000; fewer where the limit of open files does not allow them).
"""
import os
import resource
import selectors
import socket
import time

import pytest

from conftest import FAST
from harness import TIMEOUT, wait_for
from test_fault import rss_anon, sanitized

SESSIONS = int(os.environ.get("TRAM_SESSIONS", "10000"))
AHEAD = b"EHLO c.test\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\n"
MESSAGE = b"Subject: x\r\n\r\nbody\r\n.\r\n"
EACH = 20 << 10                     # octets of memory that one session, and its message, may take
# descriptors for all else: tramd keeps some, and 500 for deliveries
SPARE = 1000


def room():
    """Raises the limit of open files; how many sessions it allows, here and in tramd."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 2 * SPARE:
        pytest.skip("only %d files may be open" % hard)
    return min(SESSIONS, hard - SPARE)


class Crowd:
    """Sessions that all do the same; each is watched until its next final reply has come."""

    def __init__(self, port, count):
        self.selector, self.heard = selectors.DefaultSelector(), {}
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
            s.setblocking(False)
            self.heard[s] = b""
            self.selector.register(s, selectors.EVENT_READ)

    def say(self, octets):
        for s in self.heard:
            s.send(octets)

    def wait(self, code, what, timeout=4 * TIMEOUT):
        """Until each has got this reply as its last line."""
        waiting, deadline = set(self.heard), time.monotonic() + timeout
        while waiting:
            ready = self.selector.select(1)
            assert time.monotonic() < deadline, "%d sessions wait for %s" % (len(waiting), what)
            for key, _ in ready:
                got = key.fileobj.recv(4096)
                assert got, ("a session was closed that waited for %s: %r"
                             % (what, self.heard[key.fileobj]))
                heard = self.heard[key.fileobj] + got
                last = heard.rstrip(b"\r\n").rpartition(b"\n")[2] if heard.endswith(b"\n") else b""
                self.heard[key.fileobj] = b"" if last[:4] == code else heard
                assert last[:1] not in b"45" or not last, heard
                if last[:4] == code:
                    waiting.discard(key.fileobj)

    def close(self):
        for s in self.heard:
            s.close()
        self.selector.close()


def test_many_sessions_and_a_slow_disk(make_tramd, sink, shim):
    """Each gets its 250 from a commit that it shares with hundreds, and memory is what the sessions
    need."""
    count = room()
    tramd = make_tramd(static=sink, queue=FAST, env=dict(shim, TRAM_SHIM_SYNC_MS="300"),
                       limits={"connections": str(count + 10),
                               "connections-per-client": str(count + 10)})
    empty = rss_anon(tramd)
    crowd = Crowd(tramd.port, count)
    try:
        crowd.wait(b"220 ", "the greeting")
        crowd.say(AHEAD)
        crowd.wait(b"354 ", "DATA")
        waiting, before = rss_anon(tramd), tramd.ctl_json("stats")
        began = time.monotonic()
        crowd.say(MESSAGE)
        crowd.wait(b"250 ", "the final dot")
        took, after, peak = time.monotonic() - began, tramd.ctl_json("stats"), rss_anon(tramd)
    finally:
        crowd.close()
    commits = after["queue_commits"] - before["queue_commits"]
    print("%d sessions: %.1f s from the first dot to the last 250; %d commits meanwhile; memory "
          "%.1f MB empty, %.1f MB "
          "before the dot, %.1f MB behind it" % (count, took, commits, empty / 1e6, waiting / 1e6,
                                                 peak / 1e6))
    assert commits < count / 50
    assert peak - empty < count * EACH * (4 if sanitized() else 1)
    sink.wait(count, timeout=6 * TIMEOUT)
    wait_for(lambda: tramd.ctl_json("stats")["queue_messages"] == 0, 2 * TIMEOUT,
             "the queue is empty")
    assert len(sink.messages) == count
