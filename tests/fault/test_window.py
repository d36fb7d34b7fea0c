"""Little room: in memory (window-sites, window-entries), for connections (deliveries), for descriptors. What does not
fit waits on disk for its turn, which comes soon; no limit is exceeded, and nobody is blamed for what we lack.
"""
import threading

from conftest import FAST
from harness import TIMEOUT, wait_for

BODY = b"Subject: x\r\n\r\nbody\r\n"


def places(sink, count, **settings):
    """Routes for so many domains, each to a host of its own that is this sink; it listens everywhere."""
    return {"d%d.test" % n: dict({"deliver": "smtp:[127.1.%d.%d]:%d" % (n // 200, n % 200 + 1, sink.port)}, **settings)
            for n in range(count)}


def send_to_all(tramd, count, each=1):
    with tramd.client() as c:
        c.hello()
        return [c.message(BODY, "a@src.test", ["b@d%d.test" % n]) for n in range(count) for _ in range(each)]


def stats(tramd, key):
    return tramd.ctl_json("stats")[key]


# ---- memory -------------------------------------------------------------------------------------------------------

def test_more_sites_than_room(make_tramd, make_sink):
    """Three hundred destinations through a window of ten: no more than that are awake, and none waits for long."""
    sink = make_sink(host="0.0.0.0")
    go = threading.Event()
    rule = sink.rule("MAIL", None, hold=go)
    tramd = make_tramd(routes=places(sink, 300), queue=FAST, limits={"window-sites": "10"})
    send_to_all(tramd, 300)
    sink.wait_rule(rule, 8)
    assert stats(tramd, "window_sites") <= 10
    go.set()
    sink.wait(300, timeout=2 * TIMEOUT)
    tramd.wait_empty()
    assert stats(tramd, "window_sites") <= 10


# ---- connections --------------------------------------------------------------------------------------------------

def test_idle_connection_makes_way(make_tramd, make_sink):
    """The only connection there may be is kept for more mail to one place; mail for another need not wait for that."""
    sink = make_sink(host="0.0.0.0")
    tramd = make_tramd(routes=places(sink, 4), queue=FAST, limits={"deliveries": "1", "idle-connection": "10m"})
    for n in range(4):
        tramd.send(BODY, to="b@d%d.test" % n)
        sink.wait(n + 1)
        assert sink.sessions == n + 1
    tramd.wait_empty()
