"""Archives of a queue, and the store itself: export, import, check, salvage; with tramd running and
not."""
import calendar
import json
import os
import subprocess
import threading
import time

import pytest

import harness
from clock import Clock
from conftest import FAST
from harness import free_port, wait_for
from steering import (BODY, NEVER, changed, dead, last, recipients, records, rows,
                      settled)	# noqa: F401


def test_export_import(make_tramd, sink, tmp_path):
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)
    large = b"Subject: large\r\n\r\n" + b"".join(b"%08d %s\r\n" % (i, b"x" * 60)
                                                 for i in range(4000))
    tramd.send(large, "jo@src.test", ["a@one.test", "b@two.test", "c@three.test"],
               mail="RET=HDRS ENVID=q+2B1", rcpt="NOTIFY=FAILURE ORCPT=rfc822;a@one.test")
    tramd.send(BODY, "", ["d@four.test"])
    tramd.ctl("queue", "hold", "--domain", "two.test")
    tramd.ctl("queue", "remove", "--domain", "three.test")
    archive = str(tmp_path / "archive")
    assert "2 messages" in tramd.ctl("queue", "export", archive)
    assert os.stat(archive).st_mode & 0o777 == 0o600
    assert tramd.ctl("queue", "export", archive, check=False).returncode == 1
    other = make_tramd(static=sink, queue=NEVER)
    done = other.ctl("queue", "import", archive, check=False)
    assert (done.returncode == 0 and b"2 messages queued" in done.stdout
            and b"second time" in done.stderr)
    first, second = sorted(sink.wait(2), key=lambda m: len(m.data), reverse=True)
    assert (first.data.endswith(large) and first.recipients == ["a@one.test"]
            and first.sender == "jo@src.test")
    assert "RET=HDRS" in first.mail_params and "ENVID=q+2B1" in first.mail_params
    assert "NOTIFY=FAILURE" in first.rcpt_params["a@one.test"]
    assert (second.data.endswith(BODY) and second.sender == ""
            and second.recipients == ["d@four.test"])
    wait_for(lambda: recipients(other) == ["b@two.test"], what="the held one is left")
    assert recipients(other, "--state", "held") == ["b@two.test"]


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_export_without_daemon(make_tramd, sink, end):
    """The store itself is read, all of it or a selection, as the daemon would have told it; and
    nothing changes there."""
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)
    large = b"Subject: large\r\n\r\n" + b"".join(b"%08d %s\r\n" % (i, b"x" * 60)
                                                 for i in range(4000))
    one = tramd.send(large, "jo@src.test", ["a@one.test", "b@two.test", "c@three.test"],
                     mail="RET=HDRS ENVID=q+2B1")
    two = tramd.send(BODY, "", ["d@four.test"])
    settled(tramd)
    tramd.ctl("queue", "hold", "--domain", "two.test")
    tramd.ctl("queue", "remove", "--domain", "three.test")

    def export(*selection, **how):
        return tramd.run_tool("tramctl", "queue", "export", "-", *selection, **how)
    running = export().stdout
    getattr(tramd, end)()
    done = export()
    assert (records(done.stdout)[1:] == records(running)[1:]
            and b"read from its queue" in done.stderr)
    assert len([1 for kind, _ in records(running) if kind == b"M"]) == 2

    def messages(octets):
        return [json.loads(payload)["id"] for kind, payload in records(octets) if kind == b"M"]
    assert messages(export("--domain", "FOUR.test").stdout) == [two]
    assert messages(export("--sender", "SRC.test").stdout) == [one]
    assert messages(export("--state", "held").stdout) == [one]
    assert messages(export("--state", "in-flight").stdout) == []
    done = export(two, "0" * 12 + "1", check=False)
    assert (done.returncode == 1 and messages(done.stdout) == [two]
            and b"is not in the queue" in done.stderr)
    other = make_tramd(static=sink, queue=NEVER)
    other.run_tool("tramctl", "queue", "import", "-", stdin=running)
    assert sorted(m.recipients for m in sink.wait(2)) == [["a@one.test"], ["d@four.test"]]
    tramd.start()
    assert recipients(tramd) == ["a@one.test", "b@two.test", "d@four.test"]


def test_export_finds_out_who_has_the_queue(dead, tmp_path):
    dead.send(BODY)
    config = tmp_path / "tram.conf"
    with open(dead.config_path, encoding="utf-8") as f:
        config.write_text(f.read().replace(dead.control, str(tmp_path / "nobody")))

    def export():
        return subprocess.run([harness.program("tramctl"), "-c", config, "queue", "export",
                               tmp_path / "archive"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=harness.TIMEOUT)
    done = export()
    assert (done.returncode == 3 and b"nobody answers" in done.stderr
            and not (tmp_path / "archive").exists())
    dead.stop()
    done = export()
    assert done.returncode == 0 and b"1 message," in done.stdout
    config.write_text(config.read_text().replace(dead.queue_path, str(tmp_path)))
    os.unlink(tmp_path / "archive")
    done = export()
    assert (done.returncode == 1 and b"data.mdb" in done.stderr
            and not (tmp_path / "data.mdb").exists())


def test_import_restores_what_was(make_tramd, sink):
    """Attempts (the first 3 and the last 10, and how many), warning, hold and due time; the id
    alone is new."""
    sink.rule("RCPT", "450 4.2.1 mailbox busy", match="<a@")
    sink.rule("RCPT", "451 4.7.1 greylisted", match="<b@")
    sink.rule("DOT", "451 4.3.0 not now")
    tramd = make_tramd(static=sink, routes={"src.test": "discard"},
                       queue=dict(FAST, **{"delay-warning": "1s", "lifetime": "200s"}))
    id = tramd.send(BODY, "jo@src.test", ["a@one.test", "b@two.test", "c@three.test"],
                    mail="RET=HDRS ENVID=q+2B1")
    wait_for(lambda: all(r["attempts"] > 15
                         for r in rows(tramd, "queue", "list", id, "--state", "waiting")) and
             all(r.get("warned") for r in rows(tramd, "explain", id)[1:]),
             what="two were tried 15 times and warned")
    tramd.ctl("queue", "hold", "--recipient", "b@two.test")
    tramd.stop()
    first = tramd.run_tool("tramctl", "queue", "export", "-").stdout
    other = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)
    other.run_tool("tramctl", "queue", "import", "-", stdin=first)
    held = [r for r in rows(other, "queue", "list") if r["state"] == "held"]
    assert [r["recipient"] for r in held] == ["b@two.test"] and "greylisted" in held[0]["error"]
    other.stop()
    second = other.run_tool("tramctl", "queue", "export", "-").stdout
    message, again = (json.loads(records(octets)[1][1]) for octets in (first, second))
    assert message.pop("id") != again.pop("id") and again.pop("flags") == message.pop("flags") | 8
    assert again == message
    assert records(second)[2:] == records(first)[2:]
    recipient = json.loads(records(second)[2][1])
    assert recipient["attempts"] > 15 and len(recipient["tries"]) == 13 and recipient["warned"]
    assert b"no fault" in other.run_tool("tramctl", "queue", "check").stdout


WISHES = {"future-release": "7d", "deliver-by": "2s", "priority-max": 9}
POOLS = """
tenant-by = "header:X-Tenant"
pool-header = "X-Pool"
source one { address = {"127.0.0.1"} }
source two { address = {"127.0.0.2"} }
pool news { sources = {"one"} }
pool other { sources = {"two"} senders = {"src.test"} }
"""


def told(octets):
    """What an archive says of messages and recipients, but for the ids."""
    found = [(kind, json.loads(payload))
             for kind, payload in records(octets) if kind in (b"M", b"R")]
    return [(kind, {k: v for k, v in m.items() if k not in ("id", "flags")}) for kind, m in found]


def test_wishes_come_along(make_tramd, sink):
    """Priority, times, tenant, and a pool named by a header: in the archive, and in the queue it is
    imported to."""
    first = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER, listener=WISHES, extra=POOLS)
    named = b"X-Tenant: alpha\r\nX-Pool: news\r\n" + BODY
    first.send(named, "jo@src.test", ["a@one.test", "b@two.test"], mail="MT-PRIORITY=5 BY=86400;NT")
    first.send(named, "jo@src.test", ["c@three.test"],
               mail="HOLDFOR=86400 MT-PRIORITY=-3 BY=90000;R")
    first.send(BODY, "jo@src.test", ["d@four.test"])
    first.ctl("queue", "hold", "--domain", "two.test")
    settled(first)
    octets = first.run_tool("tramctl", "queue", "export", "-").stdout
    first.stop()
    assert told(first.run_tool("tramctl", "queue", "export", "-").stdout) == told(octets)
    lanes = {m["address"]: (m.get("tenant"), m.get("pool"), m["priority"])
             for kind, m in told(octets) if kind == b"R"}
    assert lanes == {"a@one.test": ("alpha", "news", 5), "b@two.test": ("alpha", "news", 5),
                     "c@three.test": ("alpha", "news", -3), "d@four.test": ("src.test", "other", 0)}
    other = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER, listener=WISHES, extra=POOLS)
    other.run_tool("tramctl", "queue", "import", "-", stdin=octets)
    wait = rows(other, "explain", rows(other, "queue", "list", "--recipient",
                                       "c@three.test")[0]["id"])[1]
    assert wait["waits_for"] == "the time that its sender asked for" and wait["tenant"] == "alpha"
    other.stop()
    assert told(other.run_tool("tramctl", "queue", "export", "-").stdout) == told(octets)
    assert b"no fault" in other.run_tool("tramctl", "queue", "check").stdout
    # of another configuration, and late: the pool is not there, and who asked for it gets it back
    late = changed(octets, by_ms=int(time.time() * 1000) - 60000, by_mode="return", release_ms=0)
    plain = make_tramd(static=("127.0.0.1", free_port()),
                       routes={"src.test": "smtp:[127.0.0.1]:%d" % sink.port},
                       queue={"lifetime": "50s", "delay-warning": "0", "retry-first": "10s",
                              "retry-max": "10s", "probe-first": "10s", "probe-max": "10s"})
    plain.run_tool("tramctl", "queue", "import", "-", stdin=late)
    assert all(b"5.4.7" in m.data for m in sink.wait(3))
    wait_for(lambda: recipients(plain) == [], what="all came back")


def test_import_of_what_is_owed(make_tramd, sink, make_sink):
    """A report that was not made yet is made where the message is now, and says why."""
    never = sink.rule("DOT", None, hold=threading.Event())
    refuses = make_sink()
    refuses.rule("RCPT", "550 5.1.1 nobody here")
    tramd = make_tramd(static=sink, routes={"bad.test": "smtp:[127.0.0.1]:%d" % refuses.port},
                       queue=NEVER)
    tramd.send(BODY, "jo@src.test", ["a@bad.test", "b@dst.test"])
    sink.wait_rule(never)
    wait_for(lambda: recipients(tramd, "--state", "owed") == ["a@bad.test"],
             what="one is owed a report")
    tramd.kill9()
    octets = tramd.run_tool("tramctl", "queue", "export", "-").stdout
    reports = make_sink()
    other = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER,
                       routes={"src.test": "smtp:[127.0.0.1]:%d" % reports.port})
    other.run_tool("tramctl", "queue", "import", "-", stdin=octets)
    report, = reports.wait(1)
    assert (report.recipients == ["jo@src.test"] and b"nobody here" in report.data
            and b"5.1.1" in report.data)
    wait_for(lambda: recipients(other) == ["b@dst.test"], what="the other recipient is left")


def test_an_imported_message_does_not_live_longer(make_tramd, dead, sink):
    dead.send(BODY, "jo@src.test")
    now = int(time.time() * 1000)
    octets = changed(dead.run_tool("tramctl", "queue", "export", "-").stdout,
                     arrival_ms=now - 10 * 86400 * 1000)
    tramd = make_tramd(routes={"src.test": "smtp:[127.0.0.1]:%d" % sink.port,
                               "*": "smtp:[127.0.0.1]:%d" % free_port()},
                       queue={"lifetime": "100s", "delay-warning": "0", "retry-first": "1s",
                              "retry-max": "1s", "probe-first": "1s", "probe-max": "1s"})
    tramd.run_tool("tramctl", "queue", "import", "-", stdin=octets)
    assert rows(tramd, "queue", "list")[0]["arrival_ms"] == now - 10 * 86400 * 1000
    report, = sink.wait(1)		# long before its lifetime is over, if that began now
    assert (b"connection refused" in report.data.lower() or b"4.4.7" in report.data
            or b"5.4.7" in report.data)
    tramd.wait_empty()
    tramd.run_tool("tramctl", "queue", "import", "-",
                   stdin=changed(octets, arrival_ms=now + 10 * 86400 * 1000))
    # of a clock that was ahead
    assert now <= rows(tramd, "queue", "list")[0]["arrival_ms"] <= time.time() * 1000


def test_the_same_archive_twice(dead):
    dead.send(BODY)
    octets = dead.run_tool("tramctl", "queue", "export", "-").stdout
    for _ in range(50):
        dead.run_tool("tramctl", "queue", "import", "-", stdin=octets)
    dead.restart()
    dead.run_tool("tramctl", "queue", "import", "-", stdin=octets)
    assert len(dead.queue_ids()) == 52


def test_export_to_standard_output(dead):
    dead.send(BODY)
    octets = dead.run_tool("tramctl", "queue", "export", "-", "--domain", "dst.test").stdout
    assert octets.startswith(b"tramarc1") and b"b@dst.test" in octets
    dead.ctl("queue", "remove", "--all")
    assert dead.run_tool("tramctl", "queue", "import", "-",
                         stdin=octets).stdout == b"1 message queued\n"
    assert recipients(dead) == ["b@dst.test"]


def test_damaged_archives_change_nothing(dead, tmp_path):
    dead.send(BODY)
    whole = dead.run_tool("tramctl", "queue", "export", "-").stdout
    dead.ctl("queue", "remove", "--all")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    cases = {"cut": (whole[:-3], b"cut short"), "half": (whole[:len(whole) // 2], b"cut short"),
             "flipped": (bytes(flipped), b"damaged"), "newer": (b"tramarc2" + whole[8:], b"newer"),
             "foreign": (b"From jo\n", b"no archive"), "empty": (b"", b"no archive")}
    for name, (octets, why) in cases.items():
        path = tmp_path / name
        path.write_bytes(octets)
        done = dead.ctl("queue", "import", path, check=False)
        assert done.returncode == 1 and why in done.stderr, name
    assert recipients(dead) == []


def test_check_and_salvage(make_tramd, sink, tmp_path):
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)
    tramd.send(BODY, "jo@src.test", ["a@one.test", "b@two.test"])
    done = tramd.ctl("queue", "check", check=False)
    assert done.returncode == 1 and b"tramd runs" in done.stderr
    tramd.stop()
    assert "1 messages, no fault" in tramd.ctl("queue", "check")
    archive = str(tmp_path / "salvaged")
    assert "1 message salvaged" in tramd.ctl("queue", "salvage", tramd.queue_path, archive)
    other = make_tramd(static=sink, queue=NEVER)
    other.ctl("queue", "import", archive)
    got = sorted(r for m in sink.wait(1) for r in m.recipients)
    assert got == ["a@one.test", "b@two.test"] and sink.messages[0].data.endswith(BODY)


def test_salvage_of_nothing(dead, tmp_path):
    """Where there is no queue there will be no archive."""
    for place in ("nowhere", ""):
        done = dead.ctl("queue", "salvage", tmp_path / place, tmp_path / "archive", check=False)
        assert done.returncode == 1 and b"No such file" in done.stderr and done.stdout == b""
        assert not (tmp_path / "archive").exists()


def test_a_queue_of_an_older_format(make_tramd, sink, tmp_path):
    """Its messages are all there, are as they were, and go; then it is a queue of today."""
    calm = dict(NEVER, lifetime="366d",
                **{"delay-warning": "366d", "path": harness.quoted(str(tmp_path / "queue"))})
    clock = Clock(tmp_path)
    # soon after it was made
    clock.forward(calendar.timegm((2026, 11, 21, 17, 0, 0)) - time.time())
    (tmp_path / "queue").mkdir(mode=0o700)
    subprocess.check_call(["tar", "-C", str(tmp_path / "queue"), "-xJf",
                           os.path.join(harness.ROOT, "tests/queues/format-1.tar.xz")])
    tramd = make_tramd(static=sink, queue=calm, env=clock.env)
    large, report, many = sorted(sink.wait(3), key=lambda m: (-len(m.data), len(m.recipients)))
    assert (large.recipients, large.sender) == (["a@one.test"],
                                                "jo@src.test") and len(large.data) > 280000
    assert "RET=HDRS" in large.mail_params and "ENVID=q+2B1" in large.mail_params
    assert "NOTIFY=FAILURE" in large.rcpt_params["a@one.test"]
    assert (report.recipients, report.sender) == (["d@four.test"], "")
    assert sorted(many.recipients) == sorted("e%d@five.test" % i for i in range(20))
    wait_for(lambda: recipients(tramd) == ["b@two.test"], what="the held one is left")
    tramd.ctl("queue", "release", "--domain", "two.test")
    assert sink.wait(4)[3].recipients == ["b@two.test"]
    tramd.wait_empty()
    tramd.stop()
    assert "no fault" in tramd.run_tool("tramctl", "queue", "check").stdout.decode()
