"""The daemon as a whole: reload, drain, stop, postmaster, and where it can run."""
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest

import harness
from conftest import FAST
from harness import free_port, wait_for
from steering import (BODY, NEVER, dead, last, recipients,
                      start_tool)		# noqa: F401 (a fixture)


def test_reload(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=FAST)
    good = open(tramd.config_path, encoding="utf-8").read()
    tramd.write_config(good + "\nnonsense = 5\n")
    done = tramd.ctl("reload", check=False)
    assert (done.returncode == 1 and b"nonsense" in done.stderr
            and b"Nothing has changed" in done.stderr)
    tramd.send(BODY)
    tramd.write_config(good.replace('hostname = "tram.test"', 'hostname = "other.test"'))
    assert "read again" in tramd.ctl("reload")
    with tramd.client() as c:
        assert "other.test" in c.greeting.text
    sink.wait(1)


def test_hangup_takes_all_or_nothing(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=FAST)
    good = tramd.text()
    tramd.write_config(good.replace('hostname = "tram.test"', 'hostname = "other.test"')
                       + "nonsense = 5\n")
    tramd.reload()
    line = tramd.wait_log(event="reload", level="error")
    assert ("nothing has changed" in line["msg"] and "nonsense" in line["msg"]
            and tramd.config_path + ":" in line["msg"])
    with tramd.client() as c:
        assert "tram.test" in c.greeting.text
    tramd.write_config(good.replace('hostname = "tram.test"', 'hostname = "other.test"'))
    tramd.reload()
    tramd.wait_log(event="reload", level="info")
    with tramd.client() as c:
        assert "other.test" in c.greeting.text


def test_reload_to_a_port_in_use(make_tramd, sink):
    """A new listener cannot be opened: the old ones stay, and so does all else."""
    tramd = make_tramd(static=sink, queue=FAST)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        tramd.write_config(tramd.text().replace('hostname = "tram.test"',
                                                'hostname = "other.test"') +
                           'listener more { address = {"127.0.0.1:%d"} }\n' % port)
        done = tramd.ctl("reload", check=False)
        assert (done.returncode == 1 and str(port).encode() in done.stderr
                and b"in use" in done.stderr)
        with tramd.client() as c:
            assert "tram.test" in c.greeting.text
    assert "read again" in tramd.ctl("reload")		# free now
    with socket.create_connection(("127.0.0.1", port), timeout=harness.TIMEOUT) as s:
        assert b"other.test" in s.recv(100)


def test_postmaster(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=FAST, relay_from=["192.0.2.0/24"],
                       extra='postmaster = "admin@ours.test"\nrelay-to = '
                             '{"ours.test"}\ncheck-sender = no')
    with tramd.client() as c:
        c.hello()
        for to in ("postmaster", "PostMaster@tram.test", "postmaster@[127.0.0.1]"):
            c.command("MAIL FROM:<a@src.test>", 250)
            c.command("RCPT TO:<%s>" % to, 250)
            c.command("DATA", 354)
            c.send(BODY.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            c.reply(250)
        c.command("MAIL FROM:<a@src.test>", 250)
        c.command("RCPT TO:<postmaster@elsewhere.test>", 550)
    assert [m.recipients for m in sink.wait(3)] == [["admin@ours.test"]] * 3


def refused(tramd):
    with harness.SmtpRaw("127.0.0.1", tramd.port, greet=False) as c:
        return c.reply((220, 421)).code == 421


def test_drain_waits_until_all_is_delivered(make_tramd, sink):
    go = threading.Event()
    rule = sink.rule("DOT", None, hold=go)
    tramd = make_tramd(static=sink, queue=FAST)
    tramd.send(BODY)
    sink.wait_rule(rule)
    with tramd.client() as idle, tramd.client() as busy:
        idle.hello()
        busy.hello()
        busy.envelope("a@src.test", ["c@dst.test"])
        tool = start_tool(tramd, "drain")
        idle.reply(421)					# who has begun nothing is sent away …
        idle.reply(0)
        wait_for(lambda: refused(tramd), what="new sessions are refused")
        busy.command("DATA", 354)			# … who is in a transaction may end it
        busy.send(BODY.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        busy.reply(250)
        busy.reply(421)
        busy.reply(0)
    assert last(tramd, "stats")["draining"] is True
    assert tool.poll() is None
    go.set()
    out, err = tool.communicate(timeout=harness.TIMEOUT)
    assert tool.returncode == 0 and "The queue is empty" in out and err == "", err
    assert len(sink.messages) == 2
    tramd.write_config(tramd.text())
    tramd.ctl("reload")
    assert refused(tramd)				# a reload leaves it as it is …
    assert "accepted again" in tramd.ctl("drain", "--off")
    tramd.send(BODY)
    sink.wait(3)
    tramd.ctl("drain", "--no-wait")
    assert refused(tramd)
    tramd.restart()					# … and a restart ends it
    assert last(tramd, "stats")["draining"] is False
    tramd.send(BODY)
    sink.wait(4)


def test_drain_says_what_is_left(make_tramd, sink):
    sink.rule("RCPT", "450 4.2.1 mailbox busy", match="<late@")
    tramd = make_tramd(static=sink, queue=NEVER)
    tramd.send(BODY, to=["late@one.test", "b@dst.test"])
    wait_for(lambda: recipients(tramd) == ["late@one.test"], what="one is left")
    tramd.send(BODY, to=["late@two.test", "late@three.test"])
    tramd.ctl("queue", "hold", "--domain", "two.test")
    done = tramd.ctl("drain", check=False)
    text = done.stdout.decode()
    assert done.returncode == 6 and text.startswith("2 messages are left.\n2 recipients wait for a "
                                                    "later try, the next in ")
    assert "1 recipient is on hold." in text and "late@two.test" in text and "mailbox busy" in text
    done = tramd.ctl("drain", "--json", check=False)
    state, = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 6 and not state["busy"] and state["draining"]
    assert (state["messages"], state["waiting"], state["held"]) == (2, 2, 1)
    assert state["next_ms"] > time.time() * 1000
    assert json.loads(tramd.ctl("drain", "--no-wait", "--json")) == {"end": True}
    tramd.ctl("queue", "remove", "--all")
    assert "The queue is empty" in tramd.ctl("drain")


def test_drain_of_a_dead_site(dead):
    for n in range(30):
        dead.send(BODY, to=["u%d@dst.test" % n])
    done = dead.ctl("drain", check=False)
    text = done.stdout.decode()
    assert (done.returncode == 6 and "30 recipients wait" in text
            and "and 10 more: tramctl queue list" in text)


def test_drain_that_is_ended(make_tramd, sink):
    go = threading.Event()
    rule = sink.rule("DOT", None, hold=go)
    tramd = make_tramd(static=sink, queue=FAST)
    tramd.send(BODY)
    sink.wait_rule(rule)
    tool = start_tool(tramd, "drain")
    wait_for(lambda: last(tramd, "stats")["draining"], what="it drains")
    tramd.ctl("drain", "--off")
    err = tool.communicate(timeout=harness.TIMEOUT)[1]
    assert tool.returncode == 1 and "ended the drain" in err
    tool = start_tool(tramd, "drain")
    wait_for(lambda: last(tramd, "stats")["draining"], what="it drains again")
    go.set()
    sink.wait(1)
    tool.communicate(timeout=harness.TIMEOUT)


def test_stop(dead):
    assert "stops" in dead.ctl("stop")
    assert dead.end() == 0


def start_anew(config, args=()):
    return subprocess.run([harness.program("tramd"), *args, "-c", str(config)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=harness.TIMEOUT,
                          env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))	# it just ends


def test_what_keeps_it_from_starting(dead, tmp_path):
    """One message for each, with what is wrong and what to do; and who has the thing loses
    nothing."""
    def config(**other):
        text = dead.text()
        for old, new in other.items():
            text = text.replace({"port": ":%d" % dead.port, "queue": dead.queue_path,
                                 "control": dead.control, "submission": dead.submission}[old], new)
        (tmp_path / "tram.conf").write_text(text)
        return tmp_path / "tram.conf"
    dead.send(BODY)
    (tmp_path / "queue").mkdir()
    (tmp_path / "file").write_text("x")
    mine = {"port": ":%d" % free_port(), "queue": str(tmp_path / "queue"),
            "control": str(tmp_path / "control"), "submission": str(tmp_path / "submission")}
    cases = [({"port": ":%d" % dead.port}, b"in use", str(dead.port).encode()),
             ({"queue": dead.queue_path}, b"in use by another tramd", dead.queue_path.encode()),
             ({"queue": str(tmp_path / "nowhere")}, b"No such file", b"nowhere"),
             ({"queue": str(tmp_path / "file")}, b"Not a directory", b"file"),
             ({"control": dead.control}, b"another tramd", dead.control.encode()),
             ({"control": str(tmp_path / "file")}, b"remove it", b"file"),
             ({"control": str(tmp_path / "none" / "control")}, b"directory", b"none"),
             ({"submission": dead.submission}, b"another", dead.submission.encode())]
    for other, what, where in cases:
        done = start_anew(config(**dict(mine, **other)))
        assert done.returncode == 71 and what in done.stderr and where in done.stderr, (other, done)
    assert (tmp_path / "file").read_text() == "x"
    assert recipients(dead) == ["b@dst.test"] and last(dead, "stats")["queue_messages"] == 1
    assert start_anew(tmp_path / "nowhere.conf").returncode == 78
    done = start_anew(config(port="99999"), ["-n"])
    assert done.returncode == 78 and re.match(rb"tramd: .*/tram\.conf:\d+: ", done.stderr)
    for words in ([], ["-n"], ["-x"], ["-c"], ["word"]):
        done = subprocess.run([harness.program("tramd"), *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=harness.TIMEOUT)
        assert done.returncode == 64 and b"usage: tramd" in done.stderr, words
