"""A rough world: full disk, failing sync, no descriptors, no DNS, peers that go at every step, clocks that jump.

What was acknowledged must survive each, and the server must recover by itself or end with a clear word.
"""
import os
import shutil
import socket
import subprocess
import threading

import pytest

from conftest import FAST
from harness import SmtpRaw, free_port, wait_for
from load import Load, judge
from sink import DROP, RESET


def drained(tramd, timeout=60):
    wait_for(lambda: tramd.queue_ids() == [], timeout, "the queue is empty")


# ---- peers that go away --------------------------------------------------------------------------------------

STEPS = ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "DOT", "QUIT"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("how", [DROP, RESET], ids=["close", "reset"])
@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
def test_peer_gone(make_tramd, make_sink, step, how, chunking):
    features = ["PIPELINING", "8BITMIME"] + (["CHUNKING"] if chunking else [])
    sink = make_sink(features=features)
    rule = sink.rule("BDAT" if chunking and step in ("DATA", "BODY", "DOT") else step, how, times=1)
    tramd = make_tramd(static=sink, queue=FAST)
    tramd.send(b"Subject: x\r\n\r\nbody\r\n")
    drained(tramd)
    if step != "QUIT":
        sink.wait_rule(rule)
    assert 1 <= len(sink.messages) <= 2
    if step == "DOT" and not chunking:
        assert tramd.events(event="delivery", fate="uncertain")
    elif step not in ("DOT", "BODY", "DATA"):
        assert len(sink.messages) == 1


def test_reset_on_one_message_only(tramd, sink):
    """A message that kills connections is not taken for a dead site (blame)."""
    sink.rule("DOT", RESET, match="poison")
    tramd.send(b"Subject: poison\r\n\r\npoison\r\n")
    for i in range(30):
        tramd.send(b"Subject: good\r\n\r\n%d\r\n" % i)
    sink.wait(30)
    assert not tramd.events(event="site-backoff")
    assert len(tramd.queue_ids()) == 1


# ---- the disk ------------------------------------------------------------------------------------------------

@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tram-test", str(place)], check=False)
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(tramd, octets, count):
    """Sends until it is refused for want of room; returns how many were acknowledged."""
    accepted = 0
    with tramd.client() as c:
        c.hello()
        for _ in range(count):
            reply = c.command("MAIL FROM:<a@src.test>")
            if reply.code != 250:
                assert reply.code == 452 and "4.3.1" in reply.text, reply
                return accepted
            c.command("RCPT TO:<b@dst.test>", 250)
            reply = c.command("DATA")
            if reply.code == 354:
                c.send((b"x" * 76 + b"\r\n") * (octets // 78) + b".\r\n")
                reply = c.reply()
            if reply.code != 250:
                assert reply.code == 452, reply
                return accepted
            accepted += 1
    raise AssertionError("never refused, after %d messages" % accepted)


def test_disk_full(make_tramd, sink, small_disk):
    held = sink.rule("MAIL", "450 4.3.0 not now")
    tramd = make_tramd(static=sink, queue=dict(FAST, **{"min-free": "8MB"}), start=False)
    os.rmdir(tramd.queue_path)
    os.symlink(small_disk, tramd.queue_path)
    tramd.start()
    accepted = fill(tramd, 2000000, 200)
    assert accepted > 5
    sink.clear_rules()
    assert held.used
    sink.wait(accepted, timeout=90)
    drained(tramd)
    tramd.send(b"Subject: room again\r\n\r\n\r\n")
    sink.wait(accepted + 1)


def test_quota(make_tramd, sink):
    sink.rule("MAIL", "450 4.3.0 not now")
    tramd = make_tramd(static=sink, queue=dict(FAST, **{"max-size": "20MB"}))
    assert 8 <= fill(tramd, 1000000, 100) <= 21
    sink.clear_rules()
    drained(tramd)
    tramd.send(b"Subject: room again\r\n\r\n\r\n")


def strace(*inject):
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"] + [w for i in inject for w in ("-e", i)]


def test_fdatasync_fails(make_tramd, sink):
    """A failed sync poisons the store: nothing more is acknowledged, it says so and ends; a restart loses nothing."""
    tramd = make_tramd(static=sink, queue=FAST, wrapper=strace("inject=fdatasync:error=EIO:when=40+"),
                       env={"ASAN_OPTIONS": "detect_leaks=0"})
    load = Load(tramd.port, senders=3, sizes=(500, 4000, 100000)).start()
    assert tramd.end(60) == 75
    assert tramd.events(event="poisoned")
    tramd.wrapper = []
    tramd.start()
    wait_for(lambda: load.acknowledged, 20, "mail is accepted again")
    load.stop()
    drained(tramd)
    judge(load, sink.messages)


def test_fdatasync_slow(make_tramd, sink):
    """300 ms a sync and hundreds of sessions: one commit serves all that wait."""
    tramd = make_tramd(static=sink, queue=FAST, wrapper=strace("inject=fdatasync:delay_enter=300000"),
                       env={"ASAN_OPTIONS": "detect_leaks=0"}, limits={"connections-per-client": 2000})
    sessions = [SmtpRaw("127.0.0.1", tramd.port) for _ in range(300)]
    for c in sessions:
        c.send(b"EHLO c.test\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\n")
    for c in sessions:
        for code in (250, 250, 250, 354):
            c.reply(code)
        c.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
    for c in sessions:
        c.reply(250)
        c.close()
    sink.wait(300)


# ---- descriptors, memory of the log, DNS, clocks --------------------------------------------------------------------

def test_out_of_descriptors(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=FAST, wrapper=["prlimit", "--nofile=200:200"], limits={"deliveries": 20})
    opened, refused = [], 0
    for _ in range(250):
        s = socket.create_connection(("127.0.0.1", tramd.port), timeout=10)
        word = s.recv(4)
        if word[:3] == b"421":
            refused += 1
            s.close()
        else:
            assert word[:3] == b"220", word
            opened.append(s)
    assert refused and opened
    for s in opened:
        s.close()
    wait_for(tramd.is_up, 20, "a new connection is greeted")
    tramd.send(b"Subject: x\r\n\r\nx\r\n")
    sink.wait(1)


def test_log_sink_blocks(make_tramd, sink, tmp_path):
    """Nobody reads the log: mail goes on, and the lines that were lost are counted."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    tramd = make_tramd(static=sink, queue=FAST, wrapper=["sh", "-c", 'exec "$@" 2>%s' % fifo, "sh"])
    with tramd.client() as c:
        c.hello()
        for _ in range(20000 // 20):
            c.message(b"Subject: x\r\n\r\nx\r\n")
    sink.wait(1000, timeout=60)
    drained(tramd)
    stop = threading.Event()

    def read_on():
        while not stop.is_set():
            try:
                if not os.read(reader, 65536):
                    stop.wait(0.01)
            except BlockingIOError:
                stop.wait(0.01)
    thread = threading.Thread(target=read_on)
    thread.start()
    tramd.stop()
    stop.set()
    thread.join()
    os.close(reader)


def test_dns_gone_and_back(make_tramd, sink):
    from dns_server import FakeDns
    port = free_port()
    tramd = make_tramd(routes={"*": "mx:%d" % sink.port}, resolver="127.0.0.1:%d" % port, queue=FAST,
                       extra="allow-private = true\nresolver-timeout = 1s\nresolver-tries = 1\n")
    tramd.send(b"Subject: x\r\n\r\nx\r\n")
    tramd.wait_log(event="lookup-failed")
    assert len(tramd.queue_ids()) == 1
    with FakeDns({"dst.test": {"MX": [(10, "mx.dst.test")]}, "mx.dst.test": {"A": ["127.0.0.1"]}}, port=port):
        sink.wait(1)
        drained(tramd)


def faketime(offset):
    if not shutil.which("faketime"):
        pytest.skip("needs faketime")
    return ["faketime", "-f", offset]


def test_clock_ten_years_ahead_at_start(make_tramd, sink):
    """Nothing expires before it was tried once, whatever the clock says; and ids grow when it is put right."""
    sink.rule("RCPT", "450 4.2.1 later", times=1)
    tramd = make_tramd(static=sink, queue={"retry-first": "1h", "retry-max": "2h", "probe-first": "1s"})
    first = tramd.send(b"Subject: x\r\n\r\nx\r\n")
    tramd.wait_log(event="delivery", fate="deferred")
    tramd.stop()
    tramd.wrapper = faketime("+3650d")
    tramd.start()
    sink.wait(1)
    drained(tramd)
    later = tramd.send(b"Subject: y\r\n\r\ny\r\n")
    drained(tramd)
    tramd.stop()
    tramd.wrapper = []
    tramd.start()
    last = tramd.send(b"Subject: z\r\n\r\nz\r\n")
    assert str(first) < str(later) < str(last)
    drained(tramd)
    assert len(sink.messages) == 3
