"""Shapes: what the other side sees of the limits (connections at once, messages by the minute), who
shares them, whom they do not hold up, and what is told about them."""
import itertools
import re
import shutil
import threading
import time

import pytest

from conftest import FAST
from dns_server import Nsd
from harness import free_port_on, wait_for
from sink import DROP, RESET, Sink

DATA = b"From: a@src.test\r\nSubject: shape\r\n\r\nbody\r\n"


def shape(name, **settings):
    return 'shape "%s" {\n%s}\n' % (name, "".join(
        "\t%s = %s\n" % (key.replace("_", "-"), value) for key, value in settings.items()))


def send_many(tramd, count, to="b@dst.test", sender="a@src.test"):
    with tramd.client() as c:
        c.hello()
        return [c.message(DATA, sender, [to]) for _ in range(count)]


def sites(tramd):
    return [row for row in tramd.ctl_json_lines("sites") if "key" in row]


class AtOnce:
    """How many sessions of some sinks are open together, at most: each is held at MAIL until they
    are let go."""

    def __init__(self, *sinks):
        self.let_go = threading.Event()
        self.sinks = sinks
        for sink in sinks:
            sink.rule("MAIL", None, hold=self.let_go)

    def count(self):
        return sum(len(sink.commands("MAIL")) for sink in self.sinks)


def test_connections_and_messages_of_one(make_tramd, sink):
    """Three connections at most, two messages on each, though the site may have twenty."""
    open_now = AtOnce(sink)
    tramd = make_tramd(static=sink, queue=FAST,
                       extra=shape("small", site='"127.0.0.1"', connections=3,
                                   messages_per_connection=2))
    send_many(tramd, 12)
    wait_for(lambda: open_now.count() == 3, what="three connections are busy")
    held = wait_for(lambda: sites(tramd)[0]["held_by"], what="the shape holds the site")
    assert any(h["kind"] == "shape" and h["what"] == "small" and h["used"] == 3 and h["most"] == 3
               for h in held), held
    assert sink.sessions == 3
    open_now.let_go.set()
    sink.wait(12)
    by_session = {}
    for message in sink.messages:
        by_session[message.session] = by_session.get(message.session, 0) + 1
    assert max(by_session.values()) <= 2
    tramd.wait_empty()


def test_messages_per_second(make_tramd, sink):
    """However many wait, no second sees more than five; and nothing is charged for it."""
    tramd = make_tramd(static=sink, queue=FAST,
                       extra=shape("slow", site='"127.0.0.1"', messages_per_second=5))
    began = time.time()
    send_many(tramd, 15)
    sink.wait(15)
    times = [m.time for m in sink.messages]
    # Late they may be, and then close together, for the clock of the sink is not ours; but none is
    # early.
    assert all(at - began > n / 5 - 0.5 for n, at in enumerate(sorted(times))), [at - began
                                                                                 for at in times]
    assert not tramd.events(event="site-backoff") and not tramd.events(event="attempt",
                                                                       outcome="deferred")
    tramd.wait_empty()


def test_new_connections_by_the_minute(make_tramd, sink):
    """One a second, whatever else there is to do; that each message has one of its own is another
    limit."""
    tramd = make_tramd(static=sink, queue=FAST,
                       extra=shape("few", site='"127.0.0.1"', connections_per_minute=60) +
                       shape("one", host='"127.0.0.1"', messages_per_connection=1))
    began = time.time()
    send_many(tramd, 3)
    sink.wait(3)
    assert len({m.session
                for m in sink.messages}) == 3 and max(m.time for m in sink.messages) - began > 1.5
    tramd.wait_empty()


def test_a_held_domain_holds_nobody_else(make_tramd, sink):
    """A limit by domain: its own lane waits, the others of the same site go."""
    tramd = make_tramd(static=sink, queue=FAST,
                       extra=shape("few", domain='"slow.test"', messages_per_hour=2))
    ids = send_many(tramd, 4, to="b@slow.test")
    send_many(tramd, 10, to="b@fast.test")
    sink.wait(12)
    assert sum(m.recipients == ["b@slow.test"] for m in sink.messages) == 2
    wait_for(lambda: len(tramd.queue_ids()) == 2, what="two are left")
    wait_for(lambda: re.search(r'shape "few".*2 of 2 messages in the last hour',
                               tramd.ctl("explain", tramd.queue_ids()[0])),
             what="explain tells what holds it")
    assert tramd.ctl("queue", "list").count(" due ") == 2		# and not when it was due
    assert len(ids) == 4


def counters_are_kept(tramd):
    """Till what was counted until now is in the queue. It is written when it is a second old; when
    another message has been taken after that, so has it, for one thread writes both, one after the
    other."""
    time.sleep(1.1)
    sites(tramd)						# its timers have been looked at
    tramd.send(DATA, to="x@gone.test")


def hour_used(tramd, name):
    """What a shape's limit has used, as a site that waits for it tells."""
    return [h for row in sites(tramd)
            for h in row["held_by"] if h.get("what") == name or name in h["text"]]


def test_an_hour_is_not_forgotten(make_tramd, sink):
    """A restart, and kill -9 once it is written, leave the hour's count as it was; the site is out
    of memory meanwhile."""
    tramd = make_tramd(static=sink, queue=FAST, routes={"gone.test": "discard"},
                       extra=shape("hour", site='"127.0.0.1"', messages_per_hour=6))
    send_many(tramd, 3)
    sink.wait(3)
    tramd.wait_empty()
    tramd.restart()
    send_many(tramd, 2)
    sink.wait(5)
    tramd.wait_empty()
    counters_are_kept(tramd)
    tramd.restart(kill=True)
    send_many(tramd, 4)
    sink.wait(6)
    held = wait_for(lambda: hour_used(tramd, "hour"), what="the hour's limit holds the site")
    assert "6 of 6 messages in the last hour" in held[0]["text"], held
    assert 3000 < held[0]["until_ms"] / 1000 - time.time() < 3800
    wait_for(lambda: sites(tramd)[0]["state"] == "limited", what="the site waits")
    tramd.restart()
    send_many(tramd, 2)
    wait_for(lambda: len(tramd.queue_ids()) == 5, what="five wait")
    assert len(sink.messages) == 6
    for one in tramd.ctl_json_lines("queue", "list"):
        assert not one.get("attempts"), one			# no retry is used up
    tramd.write_config(tramd.text().replace("messages-per-hour = 6", "messages-per-hour = 9"))
    # at once, though all of it is out of memory
    tramd.reload()
    sink.wait(9)
    wait_for(lambda: len(tramd.queue_ids()) == 2, what="two are left")
    tramd.write_config(tramd.text().replace(tramd.settings["extra"], ""))
    tramd.reload()
    sink.wait(11)
    tramd.wait_empty()


ZONE = """
    mx1    A  127.0.1.1
    mx2    A  127.0.1.2
    other  A  127.0.1.3
    one    MX 10 mx1
    two    MX 10 mx2
    three  MX 10 other
    both   MX 10 mx1
    both   MX 10 mx2
"""


@pytest.fixture(scope="module")
def nsd():
    if not shutil.which("nsd") and not shutil.which("/usr/sbin/nsd"):
        pytest.skip("needs the package nsd")
    with Nsd({"shape.test": ZONE}) as real:
        yield real


@pytest.fixture
def world(nsd, make_tramd):
    """Three sites, two of them one provider's; world(extra) → tramd, sinks."""
    made = []

    def make(extra, **how):
        port = free_port_on(["127.0.1.1", "127.0.1.2", "127.0.1.3"])
        made.extend(Sink("127.0.1.%d" % n, port) for n in (1, 2, 3))
        extra += 'provider "p" { mx = {"mx1.shape.test", "mx2.shape.test"} }\nallow-private = yes\n'
        return make_tramd(routes={"*": "mx:%d" % port}, resolver=nsd.address, queue=FAST,
                          extra=extra, **how), made
    yield make
    for one in made:
        one.close()


def test_sites_of_a_provider_share(world):
    """Connections of all its sites, and its minute, are one; another site has its own. Nobody is
    starved: a connection that has no more to do makes room for the other site."""
    tramd, sinks = world(shape("p", site='"p"', connections=2, messages_per_minute=6000))
    open_now, other = AtOnce(*sinks[:2]), sinks[2]
    for to in ("a@one.shape.test", "a@two.shape.test"):
        send_many(tramd, 8, to=to)
    send_many(tramd, 8, to="a@three.shape.test")
    other.wait(8)
    wait_for(lambda: open_now.count() == 2, what="two connections to the provider")
    rows = {row["key"]: row for row in sites(tramd)}
    mine = [row for row in rows.values() if row.get("provider") == "p"]
    assert len(mine) == 2 and sum(row["connections"] for row in mine) == 2
    assert any(h["kind"] == "shape" and h["what"] == "p" for row in mine
               for h in row["held_by"]), mine
    assert any(one["limit"] == "connections" and one["used"] == 2 and one["most"] == 2
               for one in mine[0]["limits"])
    open_now.let_go.set()
    sinks[0].wait(8)
    sinks[1].wait(8)
    tramd.wait_empty()


def test_an_hour_of_a_provider_is_shared(world):
    tramd, sinks = world(shape("p", site='"p"', messages_per_hour=5))
    send_many(tramd, 4, to="a@one.shape.test")
    sinks[0].wait(4)
    send_many(tramd, 4, to="a@two.shape.test")
    sinks[1].wait(1)
    send_many(tramd, 2, to="a@three.shape.test")
    sinks[2].wait(2)
    wait_for(lambda: len(tramd.queue_ids()) == 3, what="three wait")
    told = tramd.ctl("explain", tramd.queue_ids()[0])
    assert 'shape "p", for p: 5 of 5 messages in the last hour' in told, told


def test_connections_per_site_is_the_providers(world):
    """limits { connections-per-site } counts all sites of a provider together, and a route's number
    still counts."""
    tramd, sinks = world("", limits={"connections-per-site": 2})
    open_now = AtOnce(*sinks[:2])
    for to in ("a@one.shape.test", "a@two.shape.test"):
        send_many(tramd, 5, to=to)
    wait_for(lambda: open_now.count() == 2, what="two connections")
    held = wait_for(lambda: [h for row in sites(tramd)
                             for h in row["held_by"] if h["kind"] == "shape"], what="one waits")
    assert held[0]["what"] == "limits.connections-per-site", held
    open_now.let_go.set()
    sinks[0].wait(5)
    sinks[1].wait(5)
    tramd.wait_empty()


def test_a_held_tenant_holds_nobody_else(make_tramd, sink):
    """Two messages of one tenant at a time, and a few recipients of each; the other tenant's go
    meanwhile, at the same site."""
    open_now = threading.Event()
    sink.rule("MAIL", None, match="@news.test", hold=open_now)
    tramd = make_tramd(static=sink, queue=FAST, extra='tenant-by = "sender-domain"\n' + shape(
        "news", tenant='"news.test"', connections=2, recipients_per_transaction=3))
    with tramd.client() as c:
        c.hello()
        for _ in range(4):
            c.message(DATA, "a@news.test", ["r%d@dst.test" % i for i in range(7)])
    wait_for(lambda: len(sink.commands("MAIL")) == 2, what="two are on their way")
    send_many(tramd, 20, sender="a@shop.test")
    sink.wait(20)
    assert len([line for line in sink.commands("MAIL") if "@news.test" in str(line)]) == 2
    open_now.set()
    sink.wait(20 + 4 * 3)				# 7 recipients go as 3, 3 and 1
    assert max(len(m.recipients) for m in sink.messages) <= 3
    tramd.wait_empty()


def test_slow_peers_cost_their_connections_only(world):
    """One site answers each command after almost the longest time allowed, resets, or takes its
    time for every octet: it keeps its connections busy, other sites and tenants go on; a shape
    gives it less time than others."""
    tramd, sinks = world(shape("impatient", site='"p"', mail_timeout="500ms",
                               banner_timeout="500ms", connections=2))
    slow, silent, other = sinks

    def drip(session, _line):
        try:
            for octet in b"250-2.1.0 never comes to its end":
                session.conn.sendall(bytes([octet]))
                if session.sink.stopping.wait(0.1):
                    break
        except OSError:
            pass
        return DROP
    slow.rule("MAIL", drip)
    silent.rule("BANNER", None, hold=threading.Event())
    send_many(tramd, 5, to="a@one.shape.test")
    slow.wait_sessions(1)
    send_many(tramd, 5, to="a@two.shape.test")
    silent.wait_sessions(1)
    other.rule("MAIL", RESET, times=3)
    send_many(tramd, 50, to="a@three.shape.test")
    other.wait(50)
    timed_out = tramd.wait_log(event="delivery", to="a@one.shape.test", fate="deferred")
    assert "MAIL" in str(timed_out) or "time" in str(timed_out), timed_out
    tramd.wait_log(event="site-backoff")		# the one that never greets
    assert max(row["connections"] for row in sites(tramd) if row.get("provider") == "p") <= 2


def drip(session, _line):
    """An octet a second, and never a whole line."""
    for octet in itertools.cycle(b"250-and more"):
        session.conn.sendall(bytes([octet]))
        if session.sink.stopping.wait(1):
            return DROP


def sip(session, _line):
    """Reads an octet a second."""
    while session.conn.recv(1) and not session.sink.stopping.wait(1):
        pass
    return DROP


def test_a_slow_host_does_not_stop_its_site(world):
    """By the usual limits, which are minutes: one of two hosts of a site says nothing, drips, reads
    as slowly or resets, at each step on another connection. That costs the connection and what was
    given to it: all other mail of the site goes by other connections, that of other sites as
    ever."""
    tramd, (slow, well, other) = world(shape("few", messages_per_connection=2))
    slow.features = [word for word in slow.features if word != "CHUNKING"]
    # it is known to take many connections
    send_many(tramd, 40, to="a@both.shape.test")
    tramd.wait_empty()
    rules = [slow.rule(step, what, times=1, hold=threading.Event() if what is None else None)
             for step, what in (
                 ("BANNER", None), ("EHLO", drip), ("MAIL", RESET), ("MAIL", drip), ("RCPT", None),
                 ("DATA", drip), ("BODY", sip), ("DOT", None))]
    wanted = {"r%d@both.shape.test" % i for i in range(100)}
    for to in wanted:
        tramd.send(DATA, to=[to])
    send_many(tramd, 20, to="a@three.shape.test")
    other.wait(20)
    wait_for(lambda: len(tramd.queue_ids()) <= 2 * len(rules),
             what="only those are left that were given to such a connection")
    assert all(rule.used for rule in rules) and not tramd.events(event="site-backoff")
    slow.close()
    tramd.wait_empty()
    assert wanted <= set(well.recipients()) | set(slow.recipients())
