"""`tramctl top`: printed once, as JSON, and drawn on a terminal, which is left as it was."""
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import pytest

from harness import TIMEOUT, free_port, program, wait_for
from steering import BODY, NEVER

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


def top(tramd, *options):
    """(rows, the last line)"""
    found = [json.loads(line) for line in tramd.ctl("top", *options, "--json").splitlines()]
    return found[:-1], found[-1]


@pytest.fixture
def busy(make_tramd, make_sink):
    """Two sites, one of which defers, and one that nobody answers for."""
    well, full = make_sink(), make_sink()
    full.rule("RCPT", "452 4.2.2 mailbox full")
    places = {"well.test": well.port, "full.test": full.port, "dead.test": free_port()}
    tramd = make_tramd(routes={name: "smtp:[127.0.0.1]:%d" % port for name, port in places.items()},
                       queue=NEVER,
                       extra='tenant-by = sender-domain\ntenant "shop.test" { weight = 3 }\n')
    for sender, to, count in (("a@shop.test", "b@well.test", 3), ("a@src.test", "b@full.test", 1),
                              ("a@src.test", "b@dead.test", 1)):
        for _ in range(count):
            tramd.send(BODY, sender=sender, to=to)
    tramd.wait_log(event="final", count=3)
    tramd.wait_log(event="delivery", fate="deferred")
    tramd.wait_log(event="site-backoff")
    tramd.places = {name: "static:smtp:[127.0.0.1]:%d" % port for name, port in places.items()}
    return tramd


@pytest.mark.quick
def test_once(busy):
    """Each site with its counters, what holds it, and the server as a whole."""
    found, whole = top(busy)
    rows = {row["key"]: row for row in found}
    well, full, dead = (rows[busy.places[name]] for name in ("well.test", "full.test", "dead.test"))
    assert (well["delivered"], well["deferred"], well["failed"]) == (3, 0, 0)
    # it may be a minute ago
    assert well["per_second"] <= 0.3 and well["per_minute"] <= 3 and well["held_by"] == []
    assert (full["delivered"], full["deferred"]) == (0,
                                                     1) and full["classes"] == {"quota-issues": 1}
    assert dead["held_by"][0]["kind"] == "back-off" and dead["held_by"][0]["failures"] == 1
    assert (whole["accepted"], whole["delivered"], whole["queue_messages"]) == (5, 3, 2)
    assert whole["memory_octets"] > 100000 and whole["log_lost"] == 0
    assert whole["accepted_per_second"] == whole["failed_per_second"] == 0
    text = busy.ctl("top")
    assert re.search(r"^accepted 0\.0/s   delivered 0\.0/s   deferred 0\.0/s   bounced 0\.0/s$",
                     text, re.M)
    assert re.search(r"^queue 2 messages, .* in flight 0 .* log lines lost 0$", text, re.M)
    assert re.search(r"^%s +0\.[0-9] +[0-3] .* of [0-9]+ +3 +0 +0 "
                     % re.escape(busy.places["well.test"]), text, re.M)
    assert re.search(r"back-off +-$", text, re.M) and "quota-issues 1" in text
    assert top(busy, "--sort", "failures", "--limit", "1")[0][0]["key"] == full["key"]
    assert len(top(busy, "--sort", "in-flight", "--limit", "2")[0]) == 2
    done = busy.ctl("top", "--sort", "colour", check=False)
    assert done.returncode == 1 and b"Sort by rate, waiting" in done.stderr

    def has_a_rate():
        busy.send(BODY, sender="a@shop.test", to="b@well.test")
        first = top(busy)[0][0]
        return first["key"] == well["key"] and first["per_second"] > 0 and first["per_minute"] > 0
    wait_for(has_a_rate, what="its rate is told, and that it comes first")


def test_tenants(busy):
    found, _ = top(busy, "--tenants")
    assert [(row["tenant"], row["weight"], row["delivered"], row["deferred"])
            for row in found if row["delivered"]] == [
                ("shop.test", 3, 3, 0)]
    assert [row["deferred"] for row in found if row["tenant"] == "src.test"] == [1]
    assert re.search(r"^shop\.test +0\.[0-9] +[0-3] +3 ", busy.ctl("top", "--tenants"), re.M)


# ---- on a terminal

class Terminal:
    def __init__(self, tramd, *options, lines=20, columns=70):
        self.master, slave = pty.openpty()
        self.size(lines, columns)
        self.before = termios.tcgetattr(slave)
        self.slave, self.text = slave, b""
        self.process = subprocess.Popen([program("tramctl"), "-c", tramd.config_path, "top",
                                         *options], stdin=slave,
                                        stdout=slave, stderr=slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def size(self, lines, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read_until(self, condition):
        deadline = time.monotonic() + TIMEOUT
        while not condition(self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([self.master], [], [], 0.2)[0]:
                self.text += os.read(self.master, 65536)
        return self.text

    def key(self, key):
        os.write(self.master, key)

    def end(self, status=0):
        """Its status; the terminal is as it was."""
        self.read_until(lambda text: text.count(LEAVE) == 1 and self.process.poll() is not None)
        assert self.process.wait(TIMEOUT) == status
        assert termios.tcgetattr(self.slave) == self.before
        assert (self.text.startswith(ENTER) and self.text.count(ENTER) == 1
                and b"\x1b[?25h" in self.text)
        os.close(self.slave)
        os.close(self.master)


def picture(text):
    """The last whole one: its lines."""
    parts = text.split(b"\x1b[H")
    return [line.split(b"\x1b[K")[0].decode()
            for line in (parts[-1] if parts[-1].endswith(b"\x1b[J") else parts[-2]).split(b"\r\n")]


@pytest.mark.quick
def test_it_is_drawn_again_in_place(busy):
    """Within the terminal's size, by its keys, until q."""
    t = Terminal(busy)
    t.read_until(lambda text: text.count(b"\x1b[J") >= 2 and b"SITE" in text)
    lines = picture(t.text)
    assert len(lines) <= 20 and max(map(len, lines)) == 70 and lines[-1].startswith("q: end")
    assert lines[0].startswith("accepted 0.0/s   delivered") and lines[2] == ""
    assert lines[1].startswith("queue 2 messages") and lines[3].startswith("SITE ")
    assert len(lines) == 4 + len(top(busy)[0]) + 1
    assert b"accepted 0.0/s" in t.text and "[?1049" not in "".join(lines)
    t.size(9, 40)
    t.read_until(lambda text: len(picture(text)) <= 9 and max(map(len, picture(text))) <= 40)
    t.key(b"t")
    t.read_until(lambda text: any(line.startswith("TENANT") for line in picture(text)))
    t.key(b"s")
    t.key(b"q")
    t.end()


def test_it_ends_by_ctrl_c(busy):
    t = Terminal(busy, "--interval", "600")
    t.read_until(lambda text: b"SITE" in text)
    t.key(b"\x03")
    t.end()


def test_it_ends_with_the_server(busy):
    t = Terminal(busy, "--sort", "waiting")
    t.read_until(lambda text: b"SITE" in text)
    busy.stop()
    t.end(1)
    assert b"tramctl: " in t.text.split(LEAVE)[1]


def test_many_sites(make_tramd, dead_ports=300):
    """As many rows as were asked for, whatever is in memory."""
    tramd = make_tramd(routes={"d%d.test" % i: "smtp:[127.0.0.1]:%d" % (1 + i)
                               for i in range(dead_ports)}, queue=NEVER,
                       limits={"recipients": "1000"})
    tramd.send(BODY, to=["b@d%d.test" % i for i in range(dead_ports)])
    wait_for(lambda: len(tramd.events(event="site-backoff")) == dead_ports,
             what="all are in back-off")
    assert len(top(tramd)[0]) == 40 and 190 < len(top(tramd, "--limit", "1000")[0]) <= 200
