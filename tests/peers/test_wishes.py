"""How a message asks to be carried: MT-PRIORITY (RFC 6710, 6758), FUTURERELEASE (4865), DELIVERBY
(2852)."""
import threading
import time

import pytest

from clock import Clock
from harness import free_port, wait_for
from sink import FEATURES, Sink
from steering import rows

WISHES = {"future-release": "7d", "deliver-by": "2s", "priority-max": 5}
BODY = b"Subject: x\r\n\r\nline\r\n"


def one_connection(sink):
    return {"*": {"deliver": "smtp:[127.0.0.1]:%d" % sink.port, "connections": 1}}


def test_offered_to_ours_only(make_tramd):
    with Sink() as sink:
        ours = make_tramd(static=sink, listener=WISHES)
        with ours.client() as c:
            text = c.command("EHLO client.test", 250).text
            for word in ("MT-PRIORITY", "FUTURERELEASE 604800 ", "DELIVERBY 2"):
                assert word in text
            assert "5.5.4" in c.command("MAIL FROM:<a@src.test> MT-PRIORITY=10", 501).text
            assert "5.5.4" in c.command("MAIL FROM:<a@src.test> HOLDFOR=604801", 501).text
            assert "5.5.4" in c.command("MAIL FROM:<a@src.test> BY=1;R", 555).text
            assert "2.3.6" in c.command("MAIL FROM:<a@src.test> MT-PRIORITY=9", 250).text
        strangers = make_tramd(static=sink, listener=WISHES, relay_from=(),
                               extra='relay-to = "dst.test"\ncheck-sender = no\n',
                               routes={"dst.test": "smtp:[127.0.0.1]:%d" % sink.port})
        with strangers.client() as c:
            text = c.command("EHLO client.test", 250).text
            for word in ("MT-PRIORITY", "FUTURERELEASE", "DELIVERBY"):
                assert word not in text
            for wish in ("MT-PRIORITY=3", "HOLDFOR=60", "BY=60;R"):
                assert "5.5.4" in c.command("MAIL FROM:<a@src.test> " + wish, 555).text


def test_priorities(make_tramd):
    """What waits goes by priority, whatever the order it came in; reports go last; a kill changes
    nothing."""
    go = threading.Event()
    with Sink(features=FEATURES + ("MT-PRIORITY",)) as sink:
        sink.rule("MAIL", None, hold=go)
        sink.rule("RCPT", "550 5.1.1 nobody", match="<nobody@")
        tramd = make_tramd(routes=one_connection(sink), listener=WISHES)
        tramd.send(BODY, to="nobody@dst.test", mail="MT-PRIORITY=-2")
        for priority in (-5, 0, 3):
            for n in range(3):
                tramd.send(BODY, to="p%d@dst.test" % priority, mail="MT-PRIORITY=%d" % priority)
        tramd.send(b"MT-Priority: 4 (ultra)\r\n" + BODY, to="p4@dst.test")
        assert "Priority" in tramd.ctl("queue", "show",
                                       rows(tramd, "queue", "list", "--recipient",
                                            "p3@dst.test")[0]["id"])
        tramd.restart(kill=True)
        go.set()
        # RFC 6758: a single one counts
        tramd.send(b"MT-Priority: 9\r\nMT-Priority: 4\r\n" + BODY, to="two@dst.test")
        got = sink.wait(12)
        # those that were with the connection already may be anywhere in front
        order = [m.recipients[0] for m in got if m.sender and m.recipients != ["two@dst.test"]]
        behind = order[4:]
        assert behind == sorted(behind, key=lambda a: -int(a[1:a.index("@")])), order
        four = [m for m in got if m.recipients == ["p4@dst.test"]][0]
        assert "MT-PRIORITY=4" in four.mail_params
        assert four.headers.count(b"MT-Priority:") == 1 and b"MT-Priority: 4\r\n" in four.headers
        assert b"PRIORITY 4" in four.headers
        # a report goes last here, but tells others the priority of its message
        assert [[w for w in m.mail_params if "MT-" in w]
                for m in got if not m.sender] == [["MT-PRIORITY=-2"]]
        for m in got:
            if m.recipients in (["p0@dst.test"], ["two@dst.test"]):
                assert ("MT-PRIORITY=0" in m.mail_params
                        and m.headers.count(b"MT-Priority: 0\r\n") == 1)
                assert m.headers.count(b"MT-Priority") == 1


def test_a_strangers_field(make_tramd):
    """Who may not ask for a priority cannot have it written on either, for the next host to trust
    us for."""
    with Sink() as sink:
        tramd = make_tramd(static=sink, listener=WISHES, relay_from=(),
                           extra='relay-to = "dst.test"\ncheck-sender = no\n',
                           routes={"dst.test": "smtp:[127.0.0.1]:%d" % sink.port})
        tramd.send(b"MT-Priority: 9\r\n" + BODY, to="says@dst.test")
        tramd.send(BODY, to="plain@dst.test")
        got = {m.recipients[0]: m.headers for m in sink.wait(2)}
        assert (b"MT-Priority: 0\r\n" in got["says@dst.test"]
                and got["says@dst.test"].count(b"MT-Priority") == 1)
        assert b"MT-Priority" not in got["plain@dst.test"]


def test_an_operator_sets_priorities(make_tramd):
    """Of a selection, held ones, too; they go before others, and a kill changes nothing."""
    go = threading.Event()
    with Sink() as sink:
        sink.rule("MAIL", None, hold=go)
        tramd = make_tramd(routes=one_connection(sink), listener=WISHES)
        for n in range(12):
            tramd.send(BODY, to="p%d@%s.test" % (n, "dst" if n < 8 else "new"))
        tramd.ctl("queue", "hold", "--domain", "new.test")
        assert tramd.ctl("queue", "set", "--priority", "-3", "--domain",
                         "new.test") == "4 recipients changed\n"
        assert tramd.ctl("queue", "set", "--priority=7", "--recipient",
                         "p7@dst.test") == "1 recipient changed\n"
        assert tramd.ctl("queue", "set", "--priority=7", "--recipient",
                         "p7@dst.test") == "0 recipients changed\n"
        tramd.ctl("queue", "release", "--domain", "new.test")
        assert tramd.ctl("queue", "set", "--all", check=False).returncode == 2
        assert tramd.ctl("queue", "set", "--priority", "10", "--all", check=False).returncode == 2
        tramd.restart(kill=True)
        raised, = rows(tramd, "queue", "list", "--recipient", "p7@dst.test")
        assert rows(tramd, "explain", raised["id"])[1]["priority"] == 7
        go.set()
        order = [m.recipients[0] for m in sink.wait(12)]
        # those that were with the connection already may be anywhere in front
        assert order.index("p7@dst.test") < 5 and all("new" in a for a in order[-3:]), order
        tramd.wait_empty()


def test_future_release(make_tramd, tmp_path):
    """Held until then, over a kill; explain says why; removable; its life begins with its
    release."""
    clock = Clock(tmp_path)
    with Sink() as sink:
        tramd = make_tramd(static=sink, listener=WISHES, env=clock.env,
                           queue={"lifetime": "4h", "delay-warning": "1h", "bounce-lifetime": "4h"})
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
        held = tramd.send(BODY, to="until@dst.test", mail="HOLDUNTIL=" + at)
        tramd.send(BODY, to="for@dst.test", mail="HOLDFOR=86400")
        gone = tramd.send(BODY, to="gone@dst.test", mail="HOLDFOR=3600")
        assert "the time that its sender asked for" in tramd.ctl("explain", held)
        tramd.ctl("queue", "remove", gone)
        tramd.restart(kill=True)
        clock.forward(6 * 3600)
        # it sees the new time when something wakes it
        for _ in range(20):
            assert len(tramd.queue_ids()) == 2
        assert sink.messages == [] and not tramd.events(event="delay-warning")
        clock.forward(18 * 3600 + 5)
        wait_for(lambda: tramd.ctl("stats") and len(sink.messages) == 2, what="it is time")
        got = sink.messages
        assert sorted(m.recipients[0] for m in got) == ["for@dst.test", "until@dst.test"]
        tramd.wait_empty()


@pytest.mark.parametrize("mode, status", [("R", "5.4.7"), ("N", "delayed")])
def test_deliver_by(make_tramd, mode, status):
    """While its site is in back-off it comes back, or its sender is told, in time."""
    with Sink() as sink:
        tramd = make_tramd(static=("127.0.0.1", free_port()), listener=WISHES,
                           routes={"src.test": "smtp:[127.0.0.1]:%d" % sink.port},
                           queue={"lifetime": "2m", "delay-warning": "0", "retry-first": "1m",
                                  "retry-max": "1m", "probe-first": "1m", "probe-max": "1m"})
        tramd.send(BODY, mail="BY=3;" + mode)
        tramd.wait_log(event="site-backoff")
        tramd.restart(kill=True)
        report = sink.wait(1, timeout=90)[0]
        assert report.sender == "" and status.encode() in report.data
        if mode == "R":
            wait_for(lambda: tramd.queue_ids() == [], what="it is gone")
        else:
            wait_for(lambda: len(tramd.queue_ids()) == 1,
                     what="the warning is gone, the message is not")


def test_deliver_by_is_passed_on(make_tramd):
    """With the time that is left. Who does not know it gets what may be late, and its sender is
    told; the rest comes back."""
    with Sink(features=FEATURES + ("DELIVERBY 10",)) as knows, Sink() as plain:
        tramd = make_tramd(static=plain, listener=WISHES,
                           routes={"dst.test": "smtp:[127.0.0.1]:%d" % knows.port})
        tramd.send(BODY, mail="BY=600;NT")
        words = [w for w in knows.wait(1)[0].mail_params if w.startswith("BY=")]
        assert len(words) == 1 and words[0].endswith(";NT") and 0 < int(words[0][3:-3]) <= 600
        trace = plain.wait(1)[0]				# T: told, though it was passed on
        assert b"Action: relayed" in trace.data and b"Deliver-By-Date: " in trace.data
        tramd.send(BODY, to="b@other.test", mail="BY=600;N")
        got = plain.wait(3)
        assert not any(w.startswith("BY=") for m in got for w in m.mail_params)
        assert sum(b"Action: relayed" in m.data for m in got) == 2
        # RFC 2852 §4.1.4.1: not to who does not offer it
        tramd.send(BODY, to="r@other.test", mail="BY=600;R")
        assert b"Status: 5.3.3" in plain.wait(4)[3].data
        tramd.send(BODY, to="c@dst.test", mail="BY=5;R")	# less than it wants
        assert b"5.4.7" in plain.wait(5)[4].data
        assert len(knows.messages) == 1 and not any(m.recipients == ["r@other.test"]
                                                    for m in plain.messages)
