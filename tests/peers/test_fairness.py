"""Tenants share by weight what is scarce: the turns at a site, its window, the connections of the
daemon."""
import re
import threading

from harness import stuff, wait_for
from sink import SILENT, Sink
from steering import rows

HEADER = 'tenant-by = "header:X-Tenant"\n'


def text(tenant, n=0):
    return b"X-Tenant: %s\r\nSubject: %d\r\n\r\nline\r\n" % (tenant.encode(), n)


def fill(tramd, tenant, count, to=lambda n: "b@dst.test", sender="a@src.test"):
    """Many messages over few sessions, pipelined."""
    for first in range(0, count, 500):
        with tramd.client() as c:
            c.hello()
            for n in range(first, min(first + 500, count)):
                c.send(b"MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (sender.encode(),
                                                                        to(n).encode()))
                for code in (250, 250, 354):
                    c.reply(code)
                c.send(stuff(text(tenant, n)) + b".\r\n")
                c.reply(250)


def subject(message):
    return int(re.search(rb"Subject: (\d+)", message.headers).group(1))


def test_one_among_many(make_tramd):
    """500 of one tenant wait at a site with one connection: the one of another is among the next
    few. The field that names the tenant does not go on."""
    go = threading.Event()
    with Sink() as sink:
        sink.rule("MAIL", None, hold=go)
        tramd = make_tramd(routes={"*": {"deliver": "smtp:[127.0.0.1]:%d" % sink.port,
                                         "connections": 1}},
                           extra=HEADER)
        fill(tramd, "news", 500)
        tramd.send(text("Shop"), to="password@dst.test")
        assert tramd.wait_log(event="accept", tenant="shop")
        go.set()
        got = sink.wait(20)
        place = [m.recipients[0] for m in got].index("password@dst.test")
        # behind what was with the connection already
        assert place <= 4, place
        assert b"X-Tenant" not in got[0].headers


def test_weights(make_tramd):
    """Three to one, as long as both have something; also what was read from the disk after a
    kill."""
    go = threading.Event()
    with Sink() as sink:
        sink.rule("MAIL", None, hold=go)
        tramd = make_tramd(routes={"*": {"deliver": "smtp:[127.0.0.1]:%d" % sink.port,
                                         "connections": 1}},
                           extra=HEADER + 'tenant "gold" { weight = 3 }\n',
                           limits={"window-entries": 500})
        fill(tramd, "news", 400, to=lambda n: "news@dst.test")
        fill(tramd, "gold", 400, to=lambda n: "gold@dst.test")
        tramd.restart(kill=True)
        go.set()
        first = [m.recipients[0] for m in sink.wait(200)][:200]
        gold = first.count("gold@dst.test")
        assert 142 <= gold <= 158, gold


def test_lanes_hide_nobody(make_tramd):
    """A tenant with mail to 700 domains at one site, in a window of 100: after a restart all of it
    is overdue, and the other's lane is found behind it."""
    go = threading.Event()
    with Sink() as sink:
        sink.rule("MAIL", None, hold=go)
        tramd = make_tramd(routes={"*": {"deliver": "smtp:[127.0.0.1]:%d" % sink.port,
                                         "connections": 1}},
                           extra=HEADER, limits={"window-entries": 100})
        fill(tramd, "news", 700, to=lambda n: "a@d%d.test" % n)
        tramd.send(text("shop"), to="password@dst.test")
        tramd.restart(kill=True)
        wait_for(lambda: tramd.ctl_json("stats")["window_lanes"] > 60, what="the window is full")
        go.set()
        got = [m.recipients[0] for m in sink.wait(40)]
        assert "password@dst.test" in got[:10], got


def test_connections(make_tramd):
    """One tenant's mail hangs at 40 hosts that say nothing: that does not take all connections."""
    with Sink() as good, Sink(host="0.0.0.0") as silent:
        silent.rule("BANNER", SILENT)
        routes = {"d%d.test" % n: "smtp:[127.0.0.%d]:%d" % (n, silent.port) for n in range(2, 42)}
        tramd = make_tramd(routes=dict(routes, **{"dst.test": "smtp:[127.0.0.1]:%d" % good.port}),
                           extra=HEADER, limits={"deliveries": 10})
        fill(tramd, "news", 40, to=lambda n: "a@d%d.test" % (n + 2))
        wait_for(lambda: tramd.ctl_json("stats")["connections_out"] == 9,
                 what="most connections are taken")
        reasons = [h for row in rows(tramd, "queue", "list")
                   for told in rows(tramd, "explain", row["id"])
                   for h in told.get("held_by", []) if h["kind"] == "tenant"]
        assert len(reasons) == 31 and "9 of 10" in reasons[0]["text"], reasons
        tramd.send(text("shop"), to="password@dst.test")
        good.wait(1)


def test_sites(make_tramd):
    """One tenant has mail for 200 destinations, with room in memory for ten: another's goes at
    once, and also after a restart, when all of it is overdue."""
    never = threading.Event()
    with Sink() as good, Sink(host="0.0.0.0") as slow:
        slow.rule("MAIL", None, hold=never)
        first, second = good.rule("MAIL", None, hold=never,
                                  times=1), good.rule("MAIL", "450 4.2.1 later", times=1)
        routes = {"d%d.test" % n: "smtp:[127.0.1.%d]:%d" % (n + 1, slow.port) for n in range(200)}
        tramd = make_tramd(routes=dict(routes, **{"dst.test": "smtp:[127.0.0.1]:%d" % good.port}),
                           extra=HEADER, limits={"window-sites": 10}, queue={"retry-first": "1s"})
        fill(tramd, "news", 200, to=lambda n: "a@d%d.test" % n)
        wait_for(lambda: tramd.ctl_json("stats")["connections_out"] == 7,
                 what="three quarters of the room are taken")
        last = tramd.queue_ids()[-1]
        wait_for(lambda: ["tenant news has its share of limits.window-sites: 7 of 10"] == [
            h["text"] for told in rows(tramd, "explain", last) for h in told.get("held_by", [])],
                 what="the last waits for room")
        tramd.send(text("shop"), to="password@dst.test")
        good.wait_rule(first, 1)
        tramd.restart(kill=True)
        good.wait_rule(second, 1)			# it comes back from the disk
        good.wait(1)
        assert tramd.ctl_json("stats")["connections_out"] >= 7 and not slow.messages
        never.set()


def test_strangers_have_no_name(make_tramd):
    """Who may not relay cannot say for whom it is: the field goes on as it came, and a bad one is
    nothing."""
    with Sink() as sink:
        tramd = make_tramd(routes={"dst.test": "smtp:[127.0.0.1]:%d" % sink.port}, relay_from=(),
                           extra=HEADER + 'relay-to = "dst.test"\ncheck-sender = no\n')
        tramd.send(text("no such name!"))
        assert b"X-Tenant: no such name!" in sink.wait(1)[0].headers
        assert "tenant" not in tramd.wait_log(event="accept")


def test_bad_name(make_tramd):
    with Sink() as sink:
        tramd = make_tramd(static=sink, extra=HEADER)
        for bad in (text("no such name!"), b"X-Tenant: a\r\n" + text("b")):
            with tramd.client() as c:
                c.hello()
                c.envelope("a@src.test", ["b@dst.test"])
                c.command("DATA", 354)
                c.send(stuff(bad) + b".\r\n")
                assert "5.6.0" in c.reply(550).text
