"""Sources and pools: from which address mail leaves, under which name, who chooses; warm-up; what
is ours to blame is held against the source alone. The sources are addresses of loopback; the sink
sees who calls."""
import time

import pytest

from conftest import FAST
from harness import quoted, wait_for

A, B, C = "127.0.0.2", "127.0.0.3", "127.0.0.4"
NOBODYS = "192.0.2.77"			# RFC 5737: no machine has it


def mail(extra=b""):
    return extra + b"From: a@shop.test\r\nSubject: source\r\n\r\nbody\r\n"


def source(name, address, **more):
    settings = dict({"address": address, "ehlo-name": quoted(name + ".sources.test")}, **more)
    return 'source "%s" { %s }\n' % (name, " ".join(
        "%s = %s" % (key, quoted(v) if isinstance(v, (list, tuple)) or key == "address" else v)
        for key, v in settings.items()))


def pool(name, sources, **more):
    return 'pool "%s" { sources = %s %s }\n' % (
        name, quoted(sources), " ".join("%s = %s" % (key, quoted(v)) for key, v in more.items()))


THREE = source("a", A) + source("b", B) + source("c", C)


def route_to(sink, **more):
    return {"*": dict({"deliver": "smtp:[%s]:%d" % (sink.host, sink.port)}, **more)}


def seen(sink, count):
    """Who called, under which name, for each sender."""
    return {m.sender: (m.peer, m.helo) for m in sink.wait(count)}


def reload(daemon, *changes):
    text = open(daemon.config_path).read()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    daemon.write_config(text)
    before = len(daemon.events(event="reload"))
    daemon.reload()
    daemon.wait_log(event="reload", count=before + 1)


def held(daemon, message, kind):
    """Its row of explain, once that kind of reason holds it; and the reason."""
    def found():
        for row in daemon.ctl_json_lines("explain", message):
            for reason in row.get("held_by", []):
                if reason["kind"] == kind:
                    return row, reason
        return None
    return wait_for(found, what="%s is held by %s" % (message, kind))


def day(offset=0):
    return time.strftime('"%Y-%m-%d"', time.gmtime(time.time() + 86400 * offset))


def not_at_midnight():
    """A test that counts by the day begins when the day has a minute left."""
    now = time.time()
    left = 86400 - now % 86400
    if left < 60:
        time.sleep(left + 1)


@pytest.mark.quick
def test_who_chooses(make_tramd, sink):
    """A trusted header, the route, the sender, the tenant: in this order; else the system."""
    pools = (pool("a", ["a"]) + pool("b", ["b"], senders=["b.test", "both.test"]) +
             pool("c", ["c"], tenants=["both.test", "c.test"]))
    routes = dict(route_to(sink), **{"routed.test": {"deliver": "smtp:[127.0.0.1]:%d" % sink.port,
                                                     "pool": '"a"'}})
    daemon = make_tramd(routes=routes, queue=FAST, extra=(
        THREE + pools + 'pool-header = "X-Pool"\ntenant-by = "sender-domain"\n'))
    daemon.send(mail(), sender="x@b.test", to="r@routed.test")
    daemon.send(mail(), sender="x@both.test")
    daemon.send(mail(), sender="x@c.test")
    daemon.send(mail(), sender="x@none.test")
    daemon.send(mail(b"X-Pool: c\r\nX-Other: y\r\n"), sender="x@header.test", to="r@routed.test")
    daemon.send(mail(b"X-Pool: nothing\r\n"), sender="y@b.test")
    daemon.send(mail(b"x-pool: a\r\nX-Pool: c\r\n"), sender="z@b.test")
    got = seen(sink, 7)
    assert got.pop("x@none.test") == ("127.0.0.1", "tram.test")
    assert got == {"x@b.test": (A, "a.sources.test"), "x@both.test": (B, "b.sources.test"),
                   "x@c.test": (C, "c.sources.test"), "x@header.test": (C, "c.sources.test"),
                   "y@b.test": (B, "b.sources.test"), "z@b.test": (B, "b.sources.test")}
    headers = b"".join(m.headers for m in sink.messages).lower()
    assert b"x-pool" not in headers and b"x-other: y" in headers
    daemon.wait_log(event="pool-unknown", pool="nothing")
    assert daemon.wait_log(event="delivery", to="r@routed.test")["source"] in ("a", "c")
    daemon.wait_empty()


def test_strangers_choose_nothing(make_tramd, sink):
    daemon = make_tramd(routes=route_to(sink, pool='"a"'), queue=FAST, relay_from=["10.0.0.0/8"],
                        extra=(
                            THREE + pool("a", ["a"]) + pool("c", ["c"])
                            + 'pool-header = "X-Pool"\nrelay-to = "in.test"\n'))
    daemon.send(mail(b"X-Pool: c\r\n"), sender="x@out.test", to="r@in.test")
    message = sink.wait(1)[0]
    assert message.peer == A and b"X-Pool" not in message.headers


def test_ipv6(make_tramd, make_sink):
    """Each family by its own address; a source without IPv6 never calls an IPv6 host, and one with
    it does."""
    sink = make_sink(host="::1")
    daemon = make_tramd(routes={"*": {"deliver": "smtp:[::1]:%d" % sink.port, "pool": '"p"'}},
                        queue=FAST,
                        extra=source("four", A) + source("both", [B, "::1"])
                        + pool("p", ["four=1000", "both=1"]))
    for i in range(5):
        daemon.send(mail(), to="r%d@dst.test" % i)
    assert {(m.peer, m.helo) for m in sink.wait(5)} == {("::1", "both.sources.test")}
    daemon.wait_log(event="source-unfit")
    daemon.wait_empty()
    assert not daemon.events(event="site-backoff")


def test_shares_and_retries(make_tramd, sink):
    """By weight; each recipient stays with its source over retries, and connections with theirs."""
    before = set()			# of each the first try is refused
    sink.rule("RCPT", lambda _, line: None if line in before else before.add(line)
              or "451 4.7.1 greylisted")
    daemon = make_tramd(routes=route_to(sink, pool='"p"'), queue=FAST,
                        extra=THREE + pool("p", ["a", "b=2", "c=3"]))
    calls = {}
    sink.rule("MAIL",
              lambda session, line: calls.setdefault(session.number, session.conn.getpeername()[0])
              and None)
    with daemon.client() as client:
        client.hello()
        for i in range(30):
            client.message(mail(), to=["grey%d@dst.test" % i])
    messages = sink.wait(30)
    assert {m.peer for m in messages} == {A, B, C}
    daemon.wait_empty()
    tries = {}
    for line in daemon.events(event="delivery"):
        tries.setdefault(line["to"], []).append(line["source"])
    assert sorted(len(t) for t in tries.values()) == [2] * 30
    assert all(len(set(t)) == 1 for t in tries.values()), tries
    names = {A: "a.sources.test", B: "b.sources.test", C: "c.sources.test"}
    assert all(m.helo == names[m.peer] == names[calls[m.session]] for m in messages)


def test_not_ours(make_tramd, sink):
    """A warning at start, no back-off of the site, other sources of the pool take over; else it
    waits and says so."""
    daemon = make_tramd(routes=route_to(sink), queue=FAST, extra=(
        source("gone", NOBODYS) + source("a", A) + pool("some", ["gone=1000", "a"],
                                                        senders=["some.test"]) +
        pool("none", ["gone"], senders=["none.test"])))
    assert "source gone: %s is not an address of this machine" % NOBODYS in daemon.tail()
    daemon.send(mail(), sender="x@some.test")
    assert sink.wait(1)[0].peer == A
    waits = daemon.send(mail(), sender="x@none.test")
    assert daemon.wait_log(event="source-broken")["source"] == "gone"
    row, reason = held(daemon, waits, "source")
    assert "source gone" in reason["text"] and not row.get("tries")
    assert not daemon.events(event="site-backoff")
    assert {r["source"]: "is not one of this machine" in r.get("broken", "")
            for r in daemon.ctl_json_lines("sources")} == {
                "gone": True, "a": False}
    reload(daemon, (NOBODYS, B))
    assert sink.wait(2)[1].peer == B
    daemon.wait_log(event="source-up")


def test_reload(make_tramd, sink):
    """What waits goes on with what its pool is now; a pool that is gone is the system's choice."""
    sink.rule("BANNER", "421 4.3.2 later")
    daemon = make_tramd(routes=route_to(sink), queue=FAST, extra=(
        source("a", A) + source("b", B) + pool("p", ["a"], senders=["p.test"])
        + pool("q", ["a"], senders=["q.test"])))
    daemon.send(mail(), sender="x@p.test")
    daemon.send(mail(), sender="x@q.test")
    daemon.wait_log(event="site-backoff")
    waits = daemon.queue_ids()
    reload(daemon, (pool("p", ["a"], senders=["p.test"]), pool("p", ["b"])),
           (pool("q", ["a"], senders=["q.test"]), ""))
    pools = {row.get("pool") for one in waits
             for row in daemon.ctl_json_lines("explain", one)} - {None}
    assert "p" in pools and any("q (there is none any more" in one for one in pools)
    sink.rules.clear()
    daemon.ctl("sites", "retry", "--all")
    assert seen(sink, 2) == {"x@p.test": (B, "b.sources.test"),
                             "x@q.test": ("127.0.0.1", "tram.test")}


def test_one_connection_for_many_sources(make_tramd, sink):
    """With fewer connections than sources each gets its turn, and what waits does not change them
    for each message."""
    sink.rule("BANNER", "421 4.3.2 later")
    daemon = make_tramd(routes=route_to(sink, pool='"p"', connections="1"), queue=FAST,
                        extra=THREE + pool("p", ["a", "b", "c"]))
    with daemon.client() as client:
        client.hello()
        for i in range(60):
            client.message(mail(), to=["r%d@dst.test" % i])
    daemon.wait_log(event="site-backoff")
    daemon.ctl("queue", "hold", "--all")
    sink.rules.clear()
    before = sink.sessions
    daemon.ctl("queue", "release", "--all")
    daemon.ctl("sites", "retry", "--all")
    assert {m.peer for m in sink.wait(60)} == {A, B, C}
    daemon.wait_empty()
    assert sink.sessions - before < 20


def warmup(days, *plan):
    return {"warmup-start": day(days), "warmup-plan": [str(n) for n in plan]}


def by_source(daemon, site=None):
    """What `tramctl sources` says of each source, or of each at a site."""
    return {row["source"]: row for row in daemon.ctl_json_lines("sources")
            if (site is None) == ("site" not in row) and
            (site is None or site in row["site"])}


def test_warmup_flows_over(make_tramd, make_sink):
    """So many a day to each site leave from the new source; all else from the old one, or (two new
    ones) the other."""
    not_at_midnight()
    one, two = make_sink(), make_sink()
    routes = {"one.test": "smtp:[127.0.0.1]:%d" % one.port,
              "two.test": "smtp:[127.0.0.1]:%d" % two.port}
    daemon = make_tramd(routes=routes, queue=FAST, extra=(
        source("new", A, **warmup(-1, 1, 5, 9)) + source("old", B) + source("newer", C,
                                                                            **warmup(0, 3)) +
        pool("p", ["new=1000", "newer", "old"], senders=["p.test"]) +
        pool("q", ["new=1000", "newer"], senders=["q.test"])))
    for i in range(9):
        daemon.send(mail(), sender="x@p.test", to="r%d@one.test" % i)
    assert sorted(m.peer for m in one.wait(9)) == [A] * 5 + [B] * 4
    daemon.send(mail(), sender="x@p.test", to=["r%d@two.test" % i for i in range(4)])
    daemon.send(mail(), sender="x@q.test", to=["s%d@two.test" % i for i in range(3)])
    daemon.wait_empty()
    recipients = {peer: sum(len(m.recipients) for m in two.messages if m.peer == peer)
                  for peer in (A, B, C)}
    assert recipients == {A: 5, B: 0, C: 2}, recipients
    row = by_source(daemon, ":%d" % one.port)["new"]
    assert (row["sent_today"], row["ceiling"], row["warmup_day"]) == (5, 5, 2)
    assert by_source(daemon)["old"]["sent_today"] == 4
    sites = {s["source"]: s["delivered"]
             for row in daemon.ctl_json_lines("sites") if ":%d" % one.port in row["key"]
             for s in row["sources"]}
    assert sites == {"new": 5, "old": 4}


def test_warmup_waits(make_tramd, sink):
    """With no other source it waits: that is no try, it is explained with its numbers, outlives
    kill -9, and a reload that lets more go takes effect."""
    not_at_midnight()
    daemon = make_tramd(routes=route_to(sink, pool='"p"'), queue=FAST,
                        extra=source("new", A, **warmup(0, 3, 6)) + pool("p", ["new"]))
    for i in range(3):
        daemon.send(mail(), to="r%d@dst.test" % i)
    sink.wait(3)
    waits = [daemon.send(mail(), to="w%d@dst.test" % i) for i in range(2)]
    row, reason = held(daemon, waits[0], "warm-up")
    assert (reason["what"], reason["day"], reason["sent"], reason["most"]) == ("new", 1, 3, 3)
    midnight = (int(time.time()) // 86400 + 1) * 86400 * 1000
    assert reason["until_ms"] == row["next_ms"] == midnight and not row.get("tries")
    assert "source new is warming up: on day 1 of its plan 3 a day" in reason["text"]
    wait_for(lambda: by_source(daemon, "")["new"]["stored"], what="the count is stored")
    daemon.restart(kill=True)
    assert held(daemon, waits[1], "warm-up")[1]["sent"] == 3
    assert len(sink.messages) == 3 and by_source(daemon, "")["new"]["sent_today"] == 3
    reload(daemon, ('{"3", "6"}', '{"4", "6"}'))
    sink.wait(4)
    daemon.restart()
    row, reason = held(daemon, [one for one in waits if one in daemon.queue_ids()][0], "warm-up")
    assert reason["sent"] == 4 and not row.get("tries") and len(sink.messages) == 4


def test_what_is_refused_before_it_was_sent_is_not_counted(make_tramd, sink):
    """Only what the other side has seen counts: not a connection that was turned away."""
    not_at_midnight()
    sink.rule("BANNER", "421 4.3.2 later", times=2)
    daemon = make_tramd(routes=route_to(sink, pool='"p"'), queue=FAST,
                        extra=source("new", A, **warmup(0, 5)) + pool("p", ["new"]))
    daemon.send(mail(), to=["r%d@dst.test" % i for i in range(5)])
    sink.wait(1)
    daemon.wait_empty()
    assert by_source(daemon, "")["new"]["sent_today"] == 5
