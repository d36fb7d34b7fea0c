"""Shapes: what the other side sees of the limits (connections at once, messages by the minute), who shares them, whom they
do not hold up, and what is told about them."""
import re
import threading
import time

from conftest import FAST
from harness import wait_for

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


def busiest(times, within):
    """The most of them in any stretch of so many seconds."""
    times = sorted(times)
    return max(sum(1 for other in times if at <= other < at + within) for at in times)


class AtOnce:
    """How many sessions of some sinks are open together, at most: each is held at MAIL until they are let go."""

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
    tramd = make_tramd(static=sink, queue=FAST, extra=shape("small", site='"127.0.0.1"', connections=3,
                                                            messages_per_connection=2))
    send_many(tramd, 12)
    wait_for(lambda: open_now.count() == 3, what="three connections are busy")
    held = wait_for(lambda: sites(tramd)[0]["held_by"], what="the shape holds the site")
    assert any(h["kind"] == "shape" and h["what"] == "small" and h["used"] == 3 and h["most"] == 3 for h in held), held
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
    tramd = make_tramd(static=sink, queue=FAST, extra=shape("slow", site='"127.0.0.1"', messages_per_second=5))
    began = time.time()
    send_many(tramd, 15)
    sink.wait(15)
    times = [m.time for m in sink.messages]
    assert max(times) - began > 2			# 15 at 5 a second
    assert busiest(times, 0.8) <= 6			# the clock of the sink is not ours
    assert not tramd.events(event="site-backoff") and not tramd.events(event="attempt", outcome="deferred")
    tramd.wait_empty()


def test_a_held_domain_holds_nobody_else(make_tramd, sink):
    """A limit by domain: its own lane waits, the others of the same site go."""
    tramd = make_tramd(static=sink, queue=FAST, extra=shape("few", domain='"slow.test"', messages_per_hour=2))
    ids = send_many(tramd, 4, to="b@slow.test")
    send_many(tramd, 10, to="b@fast.test")
    sink.wait(12)
    assert sum(m.recipients == ["b@slow.test"] for m in sink.messages) == 2
    wait_for(lambda: len(tramd.queue_ids()) == 2, what="two are left")
    told = tramd.ctl("explain", tramd.queue_ids()[0])
    assert 'shape "few"' in told and "2 of 2 messages in the last hour" in told, told
    assert len(ids) == 4


def hour_used(tramd, name):
    """What a shape's limit has used, as a site that waits for it tells."""
    return [h for row in sites(tramd) for h in row["held_by"] if h.get("what") == name or name in h["text"]]


def test_an_hour_is_not_forgotten(make_tramd, sink):
    """A restart, and kill -9 once it is written, leave the hour's count as it was; the site is out of memory meanwhile."""
    tramd = make_tramd(static=sink, queue=FAST, extra=shape("hour", site='"127.0.0.1"', messages_per_hour=6))
    send_many(tramd, 3)
    sink.wait(3)
    tramd.wait_empty()
    tramd.restart()
    send_many(tramd, 2)
    sink.wait(5)
    tramd.wait_empty()
    time.sleep(3)		# a crash may forget what was sent in the last two seconds
    tramd.restart(kill=True)
    send_many(tramd, 4)
    sink.wait(6)
    held = wait_for(lambda: hour_used(tramd, "hour"), what="the hour's limit holds the site")
    assert "6 of 6 messages in the last hour" in held[0]["text"], held
    assert 3400 < held[0]["until_ms"] / 1000 - time.time() < 3800
    wait_for(lambda: sites(tramd)[0]["state"] == "limited", what="the site waits")
    tramd.restart()
    send_many(tramd, 2)
    wait_for(lambda: len(tramd.queue_ids()) == 5, what="five wait")
    assert len(sink.messages) == 6
    for one in tramd.ctl_json_lines("queue", "list"):
        assert not one.get("attempts"), one			# no retry is used up
    tramd.write_config(tramd.text().replace("messages-per-hour = 6", "messages-per-hour = 9"))
    tramd.reload()						# at once, though all of it is out of memory
    sink.wait(9)
    wait_for(lambda: len(tramd.queue_ids()) == 2, what="two are left")
    tramd.write_config(tramd.text().replace(tramd.settings["extra"], ""))
    tramd.reload()
    sink.wait(11)
    tramd.wait_empty()
