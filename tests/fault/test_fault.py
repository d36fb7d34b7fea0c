"""A rough world: full disk, failing sync, no descriptors, no DNS, peers that go at every step,
clocks that jump.

What was acknowledged must survive each, and the server must recover by itself or end with a clear
word. TRAM_RELOADS: how many reloads under load (100).
"""
import os
import re
import socket
import subprocess
import threading

import pytest

import harness
from conftest import FAST
from dns_server import BrokenDns
from harness import SmtpRaw, TIMEOUT, wait_for
from load import Load, judge
from sink import DROP, RESET

RELOADS = int(os.environ.get("TRAM_RELOADS", "100"))
NEVER = {"retry-first": "1h", "retry-max": "1h", "probe-first": "10m", "probe-max": "10m"}
BODY = b"Subject: x\r\n\r\nbody\r\n"


def sanitized():
    """Is this a build with a sanitizer? Then memory is not what it is in an ordinary one."""
    with open(harness.program("tramd"), "rb") as f:
        return b"__asan_init" in f.read()


# ---- peers that go away --------------------------------------------------------------------------

# With chunks the octets of the only one are what BODY and DOT are otherwise.
STEPS = [(step, False) for step in ("BANNER", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "DOT",
                                    "QUIT")] + \
        [(step, True) for step in ("RCPT", "DOT", "QUIT")]


@pytest.mark.parametrize("how", [DROP, RESET], ids=["close", "reset"])
@pytest.mark.parametrize("step, chunking", STEPS,
                         ids=["%s%s" % (s, "-bdat" if c else "") for s, c in STEPS])
def test_peer_gone(make_tramd, make_sink, step, how, chunking):
    sink = make_sink(features=["PIPELINING", "8BITMIME"] + (["CHUNKING"] if chunking else []))
    rule = sink.rule(step, how, times=1)
    tramd = make_tramd(static=sink, queue=FAST, limits={"idle-connection": "100ms"})
    tramd.send(BODY)
    sink.wait_rule(rule)
    tramd.wait_empty()
    assert len(sink.messages) == 1
    if step == "DOT":
        assert tramd.events(event="delivery", fate="uncertain")


def test_reset_on_one_message_only(tramd, sink):
    """A message that kills connections is not taken for a dead site."""
    sink.rule("DOT", RESET, match="poison")
    poison = tramd.send(b"Subject: poison\r\n\r\npoison\r\n")
    for i in range(30):
        tramd.send(b"Subject: good\r\n\r\n%d\r\n" % i)
    sink.wait(30)
    wait_for(lambda: tramd.queue_ids() == [poison], what="only that one waits")
    assert not tramd.events(event="site-backoff")
    tramd.ctl("queue", "remove", poison)
    tramd.wait_empty()


# ---- the disk ------------------------------------------------------------------------------------

@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=0700", "tram-test",
                           str(place)], check=False)
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


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


def room_again(tramd, sink, accepted):
    sink.clear_rules()
    tramd.ctl("sites", "retry", "--all")
    tramd.ctl("queue", "retry", "--all")
    sink.wait(accepted, timeout=3 * TIMEOUT)
    tramd.wait_empty()

    def accepts():
        with tramd.client() as c:
            c.hello()
            return c.command("MAIL FROM:<a@src.test>").code == 250
    wait_for(accepts, what="there is room again")
    tramd.send(BODY)
    sink.wait(accepted + 1)
    tramd.wait_empty()
    assert len(sink.messages) == accepted + 1


@pytest.mark.parametrize("octets", [2000000, 9000])
def test_disk_full(small_disk, make_tramd, sink, octets):
    """Nothing that was acknowledged is lost, and the deletes get through: nothing goes out
    twice."""
    sink.rule("MAIL", "450 4.3.0 not now")
    tramd = make_tramd(static=sink, queue=dict(NEVER, **{"min-free": "8MB"}), start=False,
                       limits={"messages-per-session": 100000})
    os.rmdir(tramd.queue_path)
    os.symlink(small_disk, tramd.queue_path)
    tramd.start()
    accepted = fill(tramd, octets, 20000)
    assert accepted * octets > 20000000
    room_again(tramd, sink, accepted)
    tramd.stop()
    assert tramd.ctl("queue", "check").endswith(", no fault\n")


def test_disk_is_filled_by_others(small_disk, make_tramd, sink):
    """Somebody else takes the last octet: mail is refused for a time, what is queued still goes
    out, once."""
    tramd = make_tramd(static=sink, queue=dict(NEVER, **{"min-free": "0"}), start=False)
    os.rmdir(tramd.queue_path)
    os.symlink(small_disk, tramd.queue_path)
    sink.rule("MAIL", "450 4.3.0 not now")
    tramd.start()
    for _ in range(50):
        tramd.send(b"Subject: x\r\n\r\n" + b"x" * 60000 + b"\r\n")
    with open(os.path.join(small_disk, "filler"), "wb") as f:
        try:
            while True:
                f.write(b"\0" * 65536)
                f.flush()
        except OSError:
            pass
    accepted = 50 + fill(tramd, 2000000, 1000)
    sink.clear_rules()
    tramd.ctl("queue", "retry", "--all")
    sink.wait(accepted, timeout=3 * TIMEOUT)
    tramd.wait_empty()
    os.unlink(os.path.join(small_disk, "filler"))
    room_again(tramd, sink, accepted)


def test_quota(make_tramd, sink):
    sink.rule("MAIL", "450 4.3.0 not now")
    tramd = make_tramd(static=sink, queue=dict(NEVER, **{"max-size": "20MB"}),
                       limits={"message-size": "2MB"})
    accepted = fill(tramd, 1000000, 100)
    assert 8 <= accepted <= 21
    room_again(tramd, sink, accepted)


@pytest.mark.parametrize("nth", [3, 4, 40, 41])
def test_fdatasync_fails(make_tramd, sink, shim, nth):
    """A failed sync poisons the store: nothing more is acknowledged, it says so and ends; a restart
    loses nothing."""
    tramd = make_tramd(static=sink, queue=FAST, env=dict(shim, TRAM_SHIM_SYNC_FAILS=str(nth)),
                       start=False)
    tramd.start(ready=False)
    load = Load(tramd.port, senders=3, sizes=(500, 4000, 100000)).start()
    status = tramd.end(2 * TIMEOUT)
    assert status == 75 and tramd.events(event="poisoned") or nth < 10 and status in (71, 74, 75), tramd.tail()
    before = len(load.acknowledged)
    tramd.env = {}
    tramd.start()
    wait_for(lambda: len(load.acknowledged) > before, what="mail is accepted again")
    load.stop()
    tramd.wait_empty(3 * TIMEOUT)
    judge(load, sink.messages)
    tramd.stop()
    assert tramd.ctl("queue", "check").endswith(", no fault\n")


def test_fdatasync_slow(make_tramd, sink, shim):
    """300 ms a sync and hundreds of sessions: one commit serves all that wait."""
    count = 600
    tramd = make_tramd(static=sink, queue=FAST, env=dict(shim, TRAM_SHIM_SYNC_MS="300"),
                       limits={"connections-per-client": 2000})
    sessions = [SmtpRaw("127.0.0.1", tramd.port) for _ in range(count)]
    for c in sessions:
        c.send(b"EHLO c.test\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\n")
    for c in sessions:
        for code in (250, 250, 250, 354):
            c.reply(code)
    before = tramd.ctl_json("stats")["queue_commits"]
    for c in sessions:
        c.send(BODY + b".\r\n")
    for c in sessions:
        c.reply(250)
        c.close()
    sink.wait(count)
    tramd.wait_empty()
    assert tramd.ctl_json("stats")["queue_commits"] - before < count / 2


# ---- descriptors, memory, the log ----------------------------------------------------------------

def test_out_of_descriptors(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=FAST, wrapper=["prlimit", "--nofile=200:200"],
                       limits={"deliveries": 20, "connections-per-client": 1000})
    opened, refused = [], 0
    for _ in range(250):
        s = socket.create_connection(("127.0.0.1", tramd.port), timeout=TIMEOUT)
        word = s.recv(4)
        if word[:3] == b"421":
            refused += 1
            s.close()
        else:
            assert word[:3] == b"220", word
            opened.append(s)
    assert refused and opened
    first = opened.pop()
    first.sendall(b"EHLO c.test\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\n")
    said = b""
    while b"354 " not in said:
        said += first.recv(4096)
    first.sendall(BODY + b".\r\nQUIT\r\n")
    sink.wait(1)                                    # there was a share for what goes out
    first.close()
    for s in opened:
        s.close()
    wait_for(tramd.is_up, what="a new connection is greeted")
    tramd.send(BODY)
    sink.wait(2)


def rss_anon(tramd):
    with open("/proc/%d/status" % tramd.process.pid) as f:
        return int(re.search(r"RssAnon:\s+(\d+) kB", f.read())[1]) << 10


def pump(tramd, count, size, sessions=4):
    """So many messages by a few sessions, body and the next envelope in one write."""
    content = b"Subject: x\r\n\r\n" + (b"x" * 76 + b"\r\n") * (size // 78)
    envelope = b"MAIL FROM:<a@src.test>\r\nRCPT TO:<b%d@dst.test>\r\nDATA\r\n"
    faults = []

    def run(number):
        try:
            with tramd.client() as c:
                c.hello()
                c.send(envelope % number)
                for i in range(count // sessions):
                    for code in (250, 250, 354):
                        c.reply(code)
                    c.send(content + b".\r\n"
                           + (envelope % i if i + 1 < count // sessions else b""))
                    c.reply(250)
        except (OSError, AssertionError) as fault:
            faults.append(fault)
    threads = [threading.Thread(target=run, args=(n,)) for n in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults


def test_dead_destination_takes_no_memory(make_tramd):
    """20,000 messages wait for a host that is not there; anonymous memory stays where it was, also
    after a restart."""
    tramd = make_tramd(static=("127.0.0.1", harness.free_port()), queue=NEVER,
                       limits={"messages-per-session": 100000},
                       env={"ASAN_OPTIONS": "detect_leaks=1:exitcode=99:quarantine_size_mb=1"})
    bound = (80 if sanitized() else 20) << 20
    pump(tramd, 2000, 2000)
    before = rss_anon(tramd)
    pump(tramd, 18000, 2000)
    assert tramd.ctl_json("stats")["queue_messages"] == 20000
    assert rss_anon(tramd) - before < bound
    tramd.restart()
    assert tramd.wait_log(event="ready", count=2)["messages"] == "20000"
    tramd.send(BODY)
    assert rss_anon(tramd) < before + bound


def test_log_sink_blocks(make_tramd, sink, tmp_path):
    """Nobody reads the log: mail goes on, it stops in time, and the lines that were lost are
    counted."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    tramd = make_tramd(static=sink, queue=FAST, wrapper=["sh", "-c", 'exec "$@" 2>%s' % fifo, "sh"],
                       limits={"messages-per-session": 100000})
    pump(tramd, 12000, 80)
    sink.wait(12000, timeout=4 * TIMEOUT)
    tramd.wait_empty()
    assert tramd.ctl_json("stats")["log_lost"] > 0
    stop, text = threading.Event(), []

    def read_on():
        while not stop.is_set():
            try:
                got = os.read(reader, 65536)
                text.append(got)
            except BlockingIOError:
                got = b""
            if not got:
                stop.wait(0.01)
    thread = threading.Thread(target=read_on)
    thread.start()
    pump(tramd, 4, 80)
    wait_for(lambda: b"event=log-lost" in b"".join(text), what="the loss is told")
    stop.set()
    thread.join()
    pump(tramd, 12000, 80)                          # blocked again, and stopped so
    tramd.stop()
    os.close(reader)


# ---- DNS, clocks ---------------------------------------------------------------------------------

RECORDS = "dst.test MX 10 mx.dst.test\nmx.dst.test A 127.0.0.1\n"


@pytest.mark.parametrize("what", ["servfail", "silence", "garbage", "refused"])
def test_dns_gone_and_back(make_tramd, sink, what):
    with BrokenDns(RECORDS, rules={"*": what}).start() as dns:
        tramd = make_tramd(routes={"*": "mx:%d" % sink.port}, resolver=dns.address, queue=FAST,
                           extra="allow-private = yes\nresolver-timeout = 200ms\nresolver-tries = "
                                 "1\n")
        ids = [tramd.send(BODY) for _ in range(5)]
        tramd.wait_log(event="lookup-failed", count=2)
        assert tramd.queue_ids() == sorted(ids) and not sink.messages
        assert not tramd.events(event="report")
        dns.rules.clear()
        sink.wait(5)
        tramd.wait_empty()


def test_dns_goes_under_load(make_tramd, sink):
    with BrokenDns(RECORDS, ttl=1).start() as dns:
        tramd = make_tramd(routes={"*": "mx:%d" % sink.port}, resolver=dns.address, queue=FAST,
                           extra="allow-private = yes\nresolver-timeout = 200ms\nresolver-tries = "
                                 "1\n")
        load = Load(tramd.port, senders=2, sizes=(500, 4000)).start()
        for _ in range(3):
            more = len(sink.messages) + 20
            sink.wait(more)
            dns.rules["*"] = "servfail"
            asked = dns.count()
            dns.wait_for(count=asked + 2, timeout=2 * TIMEOUT)
            dns.rules.clear()
        load.stop()
        tramd.wait_empty(2 * TIMEOUT)
        assert judge(load, sink.messages) == 0
        assert not tramd.events(event="report")


FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def faketime(offset):
    """The environment in which the wall clock is off (the other clock is right)."""
    found = [p for p in (FAKETIME, FAKETIME.replace("x86_64", os.uname().machine))
             if os.path.exists(p)]
    if not found:
        pytest.skip("needs libfaketime")
    return {"LD_PRELOAD": found[0], "FAKETIME": offset, "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=1:exitcode=99"}


def test_clock_ten_years_ahead_at_start(make_tramd, sink):
    """Nothing expires before it was tried once, whatever the clock says; when it is put right ids
    grow, and what was put off by that clock goes."""
    sink.rule("RCPT", "450 4.2.1 later", times=1)
    tramd = make_tramd(static=sink,
                       queue={"retry-first": "1h", "retry-max": "2h", "probe-first": "1s"})
    first = tramd.send(BODY)
    tramd.wait_log(event="delivery", fate="deferred")
    tramd.stop()
    tramd.env = faketime("+3650d")
    tramd.start()
    assert tramd.wait_log(event="ready", count=2)["time"] > "2030"
    sink.wait(1)
    tramd.wait_empty()
    sink.rule("RCPT", "450 4.2.1 later", times=1)
    later = tramd.send(BODY)
    tramd.wait_log(event="delivery", fate="deferred", count=2)
    tramd.stop()
    tramd.env = {}
    tramd.start()
    tramd.wait_log(event="clock-jump")
    sink.wait(2)                                    # it does not wait for ten years and an hour
    last = tramd.send(BODY)
    assert str(first) < str(later) < str(last)
    tramd.wait_empty()
    assert len(sink.messages) == 3 and not tramd.events(event="expired")


@pytest.mark.parametrize("jump", ["+3650d", "-3650d", "+30d"])
def test_clock_jumps(make_tramd, sink, tmp_path, jump):
    """While mail waits: it is said, nothing is lost, nothing expires untried, and what waits goes
    out."""
    stamp = tmp_path / "stamp"
    stamp.write_text("+0d\n")
    env = dict(faketime("+0d"), FAKETIME_TIMESTAMP_FILE=str(stamp), FAKETIME_NO_CACHE="1")
    del env["FAKETIME"]
    rule = sink.rule("RCPT", "450 4.2.1 later")
    tramd = make_tramd(static=sink, queue=dict(FAST, **{"retry-max": "1s"}), env=env)
    load = Load(tramd.port, senders=1, sizes=(500,)).start()
    wait_for(lambda: len(load.acknowledged) > 20, what="mail waits")
    sink.wait_rule(rule, 5)
    stamp.write_text(jump + "\n")
    tramd.wait_log(event="clock-jump")
    sink.clear_rules()
    wait_for(lambda: len(load.acknowledged) > 40, what="mail is accepted")
    load.stop()
    tramd.wait_empty(2 * TIMEOUT)
    assert judge(load, sink.messages) == 0
    assert not tramd.events(event="expired")


# ---- the operator --------------------------------------------------------------------------------

@pytest.mark.parametrize("action", ["hold", "remove", "bounce", "retry"])
def test_killed_while_an_action_waits(make_tramd, sink, action):
    """The action waits for the delivery's end; a kill then leaves the message as it was, and in
    doubt."""
    go = threading.Event()
    rule = sink.rule("DOT", None, hold=go, times=1)
    tramd = make_tramd(static=sink, queue=FAST)
    id = tramd.send(BODY)
    sink.wait_rule(rule)
    tool = subprocess.Popen([harness.program("tramctl"), "-c", tramd.config_path, "queue", action,
                             id],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: '"in-flight"' in tramd.ctl("queue", "list", "--json"), what="it is on its way")
    tramd.kill9()
    assert tool.wait(TIMEOUT) != 0
    tramd.start()
    assert tramd.wait_log(event="ready", last_stop="unclean")["in_doubt"] == "1"
    go.set()
    # the other side had taken the first: this is the doubt
    sink.wait(2)
    tramd.wait_empty()
    tramd.stop()
    assert tramd.ctl("queue", "check").endswith(", no fault\n")


def test_reloads_under_load(make_tramd, make_sink):
    """Each reload is a whole new configuration, every fifth a bad one; no message is lost or
    doubled, no session cut."""
    sinks = [make_sink(), make_sink()]
    tramd = make_tramd(static=sinks[0], queue=FAST, limits={"messages-per-session": 100000},
                       extra="threads = 2\n")
    load = Load(tramd.port, senders=3, sizes=(500, 4000, 100000)).start()
    good = [tramd.text().replace(":%d\"" % sinks[0].port, ":%d\"" % sink.port) for sink in sinks]
    assert good[0] != good[1]
    seen = [0, []]

    def replies():
        """A long run has a long log: each line is looked at once."""
        with tramd.changed:
            new, seen[0] = tramd.lines[seen[0]:], len(tramd.lines)
        seen[1] += [line for line in new if " event=reload " in line]
        return seen[1]

    for i in range(RELOADS):
        bad = i % 5 == 4
        tramd.write_config(good[i % 2] + ("nonsense = 1\n" if bad else ""))
        tramd.reload()
        wait_for(lambda: len(replies()) > i, what="reload %d is answered" % (i + 1))
    said = [e["level"] for e in tramd.events(event="reload")]
    assert said.count("error") == RELOADS // 5
    load.stop()
    tramd.wait_empty(2 * TIMEOUT)
    assert judge(load, sinks[0].messages + sinks[1].messages) == 0
    assert all(sink.messages for sink in sinks)
    assert len(load.acknowledged) > RELOADS / 2
    assert tramd.running()
