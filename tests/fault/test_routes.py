"""What leads where, when that changes while mail waits: by a reload, by the DNS."""
import json
import threading

import pytest

from conftest import FAST
from dns_server import BrokenDns
from harness import TIMEOUT, wait_for
from test_fault import faketime

BODY = b"Subject: x\r\n\r\nbody\r\n"


def test_held_mail_of_a_route_that_is_named_anew(make_tramd, make_sink):
    """It stays where it is until it is released, without fuss, and then goes the new way."""
    sinks = [make_sink(), make_sink()]
    rule = sinks[0].rule("RCPT", "450 4.2.1 later", match="held", times=1)
    tramd = make_tramd(static=sinks[0],
                       queue=dict(FAST, **{"retry-first": "1h", "retry-max": "1h"}))
    held = tramd.send(BODY, to="held@dst.test")
    tramd.wait_log(event="delivery", fate="deferred")
    assert rule.used == 1
    tramd.ctl("queue", "hold", held)
    tramd.write_config(tramd.text() + 'route "dst.test" { deliver = "smtp:[127.0.0.1]:%d" }\n'
                       % sinks[1].port)
    tramd.reload()
    tramd.wait_log(event="reload")
    for n in range(50):
        tramd.send(BODY, to="n%d@other.test" % n)
        sinks[0].wait(n + 1)
    assert len(tramd.events(event="reroute")) <= 2
    wait_for(lambda: tramd.queue_ids() == [held], what="only that one waits")
    tramd.ctl("queue", "release", held)
    sinks[1].wait(1)
    tramd.wait_empty()
    assert len(sinks[0].messages) == 50


@pytest.fixture
def later(tmp_path):
    """later(hours): jumps; later.env is what tramd needs for it."""
    stamp = tmp_path / "stamp"
    stamp.write_text("+0d\n")

    def jump(hours):
        stamp.write_text("+%dh\n" % hours)
    jump.env = dict(faketime("+0d"), FAKETIME_TIMESTAMP_FILE=str(stamp), FAKETIME_NO_CACHE="1")
    del jump.env["FAKETIME"]
    return jump


SLOW = {"retry-first": "30m", "retry-max": "1h", "probe-first": "30m", "probe-max": "1h"}


def through_dns(make_tramd, sink, dns, later):
    return make_tramd(routes={"*": "mx:%d" % sink.port}, resolver=dns.address, queue=SLOW,
                      env=later.env, extra="allow-private = yes\n")


def test_mail_does_not_go_where_the_mx_was(make_tramd, make_sink, later):
    """A domain has moved while its mail waited: the old host, which may know it no more, is not
    asked again."""
    sink = make_sink(host="0.0.0.0")
    met = []

    def at_rcpt(session, _):
        met.append(session.conn.getsockname()[0])
        return ("450 4.2.1 later" if len(met) == 1 else "550 5.1.1 gone"
                if met[-1] == "127.0.1.1" else None)
    sink.rule("RCPT", at_rcpt)
    with BrokenDns("dst.test MX 10 old.test\nold.test A 127.0.1.1\nnew.test A 127.0.1.2").start() as dns:
        tramd = through_dns(make_tramd, sink, dns, later)
        id = tramd.send(BODY)
        wait_for(lambda: "450 4.2.1 later" in tramd.ctl("explain", id), what="it is due later")
        dns.records.pop(("dst.test", "MX"))
        dns.add("dst.test MX 10 new.test")
        later(2)
        tramd.wait_log(event="clock-jump")
        sink.wait(1)
        tramd.wait_empty()
        assert met == ["127.0.1.1", "127.0.1.2"]


def test_domains_leave_a_dead_host(make_tramd, make_sink, later):
    """Several wait for one dead host; those that have another by now do not wait for it."""
    sink = make_sink()
    records = "".join("d%d.test MX 10 dead.test\n" % n
                      for n in range(6)) + "dead.test AAAA ::1\nwell.test A 127.0.0.1\n"
    with BrokenDns(records).start() as dns:
        tramd = through_dns(make_tramd, sink, dns, later)
        for n in range(6):
            tramd.send(BODY, to="b@d%d.test" % n)
        tramd.wait_log(event="site-backoff")
        wait_for(lambda: dns.count(kind="MX") >= 6, what="all are looked up")
        wait_for(lambda: tramd.ctl_json("stats")["window_lanes"] == 0, what="they wait on disk")
        for n in (1, 3, 4):
            dns.records.pop(("d%d.test" % n, "MX"))
            dns.add("d%d.test MX 10 well.test" % n)
        later(2)
        tramd.wait_log(event="clock-jump")
        sink.wait(3)
        wait_for(lambda: len(tramd.queue_ids()) == 3, timeout=TIMEOUT, what="the others wait")


def test_doubt_of_one_recipient_survives_another(make_tramd, make_sink):
    """One recipient is on its way, another of the same message has failed meanwhile; after a kill
    the first is in doubt."""
    sink, go = make_sink(), threading.Event()
    rule = sink.rule("DOT", None, hold=go)
    rules = {"gone.test": "slow:2"}
    with BrokenDns("dst.test MX 10 mx.test\nmx.test A 127.0.0.1\nsrc.test MX 0 .\n",
                   rules=rules).start() as dns:
        tramd = make_tramd(routes={"*": "mx:%d" % sink.port}, resolver=dns.address, queue=FAST,
                           extra="allow-private = yes\n")
        id = tramd.send(BODY, to=["b@dst.test", "b@gone.test"])
        sink.wait_rule(rule)
        tramd.wait_log(event="final", to="b@gone.test", outcome="failed")
        tramd.kill9()
        tramd.start()
        rows = map(json.loads, tramd.ctl("queue", "list", "--json").splitlines())
        assert [row["recipient"] for row in rows if row.get("id") == id
                and row.get("uncertain")] == ["b@dst.test"]
        go.set()
        tramd.wait_empty()
