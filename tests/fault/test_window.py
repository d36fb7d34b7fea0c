"""Little room: in memory (window-sites, window-entries), for connections (deliveries), for
descriptors. What does not fit waits on disk for its turn, which comes soon; no limit is exceeded,
and nobody is blamed for what we lack.
"""
import re
import threading

from conftest import FAST
from harness import TIMEOUT, wait_for

BODY = b"Subject: x\r\n\r\nbody\r\n"


def places(sink, count, **settings):
    """Routes for so many domains, each to a host of its own that is this sink; it listens
    everywhere."""
    return {"d%d.test" % n: dict({"deliver": "smtp:[127.1.%d.%d]:%d" % (n // 200, n % 200 + 1,
                                                                        sink.port)}, **settings)
            for n in range(count)}


def send_to_all(tramd, count, each=1):
    with tramd.client() as c:
        c.hello()
        return [c.message(BODY, "a@src.test", ["b@d%d.test" % n]) for n in range(count)
                for _ in range(each)]


def stats(tramd, key):
    return tramd.ctl_json("stats")[key]


# ---- memory --------------------------------------------------------------------------------------

def test_more_sites_than_room(make_tramd, make_sink):
    """Three hundred destinations through a window of ten: no more than that are awake, and none
    waits for long."""
    sink = make_sink(host="0.0.0.0")
    go = threading.Event()
    rule = sink.rule("MAIL", None, hold=go)
    tramd = make_tramd(routes=places(sink, 300), queue=FAST, limits={"window-sites": "10"})
    send_to_all(tramd, 300)
    sink.wait_rule(rule, 7)				# some room is left for other tenants
    assert stats(tramd, "window_sites") <= 10
    go.set()
    sink.wait(300, timeout=2 * TIMEOUT)
    tramd.wait_empty()
    assert stats(tramd, "window_sites") <= 10


# ---- connections ---------------------------------------------------------------------------------

def test_idle_connection_makes_way(make_tramd, make_sink):
    """The only connection there may be is kept for more mail to one place; mail for another need
    not wait for that."""
    sink = make_sink(host="0.0.0.0")
    tramd = make_tramd(routes=places(sink, 4), queue=FAST,
                       limits={"deliveries": "1", "idle-connection": "10m"})
    for n in range(4):
        tramd.send(BODY, to="b@d%d.test" % n)
        sink.wait(n + 1)
        assert sink.sessions == n + 1
    tramd.wait_empty()


def test_descriptors_are_shared_out(make_tramd, make_sink):
    """Hundreds of deliveries are allowed, descriptors for them are not there: the others wait, no
    site is blamed."""
    sink = make_sink(host="0.0.0.0")
    go = threading.Event()
    rule = sink.rule("MAIL", None, hold=go)
    tramd = make_tramd(routes=places(sink, 200), queue=FAST,
                       wrapper=["prlimit", "--nofile=200:200"])
    tramd.wait_log(event="descriptors", msg=re.compile("68 deliveries"))
    send_to_all(tramd, 200)
    sink.wait_rule(rule, 60)
    # one tenant leaves a few for others
    wait_for(lambda: 60 <= stats(tramd, "connections_out") < (200 - 64) // 2,
             what="as many connections as it may have")
    go.set()
    sink.wait(200, timeout=2 * TIMEOUT)
    tramd.wait_empty()
    assert not tramd.events(event="site-backoff") and not tramd.events(event="host-failed")


def test_only_the_last_failure_speaks_for_the_site(make_tramd, make_sink):
    """Of several connections one fails before the others are up: the others carry on, and the site
    does not back off."""
    sink, go = make_sink(), threading.Event()
    sink.rule("BANNER", "421 4.3.2 too many of you", match=lambda _: len(held) == 2, times=1)
    held = []

    def at_banner(session, _):
        held.append(session)
        go.wait(TIMEOUT)
    sink.rule("BANNER", at_banner)
    tramd = make_tramd(static=sink, queue=dict(FAST, **{"probe-first": "1h", "probe-max": "1h"}))
    for n in range(6):
        tramd.send(BODY, to="b%d@dst.test" % n)
    tramd.wait_log(event="host-failed")
    go.set()
    sink.wait(6)
    tramd.wait_empty()
    assert not tramd.events(event="site-backoff")


def test_lanes_make_room_for_lanes(make_tramd, make_sink):
    """Hundreds of domains lead to one host, and memory holds a hundred: what waits for later does
    so on disk."""
    sink = make_sink()
    rule = sink.rule("RCPT", "450 4.2.1 later", match="first")
    tramd = make_tramd(static=sink, queue={"retry-first": "4s", "retry-max": "5s"},
                       limits={"window-entries": "100"})
    with tramd.client() as c:
        c.hello()
        for n in range(250):
            c.message(BODY, "a@src.test", ["first@d%d.test" % n])
    sink.wait_rule(rule, 250, timeout=2 * TIMEOUT)
    assert stats(tramd, "window_lanes") <= 120
    sink.clear_rules()
    sink.wait(250, timeout=2 * TIMEOUT)
    tramd.wait_empty()


def test_idle_time_cannot_be_bought(make_tramd, make_sink):
    """Octets that make no reply do not keep a connection that has nothing to do."""
    sink, stop = make_sink(), threading.Event()

    def dribble(session):
        try:
            while not stop.wait(0.05):
                session.conn.sendall(b"2")
        except OSError:
            pass

    def at_dot(session, _):
        session.out.append(b"250 2.0.0 kept\r\n")
        session.flush()
        threading.Thread(target=dribble, args=(session,), daemon=True).start()
        return b""
    sink.rule("DOT", at_dot)
    tramd = make_tramd(static=sink, queue=FAST,
                       limits={"idle-connection": "500ms", "quit-timeout": "500ms"})
    tramd.send(BODY)
    tramd.wait_empty()
    try:
        sink.wait_until(lambda: not sink.open, TIMEOUT, "the connection ends")
    finally:
        stop.set()
