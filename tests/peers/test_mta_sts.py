"""MTA-STS (RFC 8461): records in a real name server, policies on an HTTPS host, MX hosts with and
without good TLS.

All hosts are on the loopback network; policies are at 127.0.3.1:443, MX hosts on the one port of
the route "mx:PORT".
"""
import contextlib
import json
import re
import ssl
import threading

import pytest

from certificates import Authority
from clock import Clock
from conftest import FAST
from dns_server import Nsd
from harness import free_port_on, wait_for
from https_host import TIMEOUT, Answer, HttpsHost, hang, needs_port_443
from sink import Sink

DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nbody\r\n"
GOOD, OTHER, SELF, BARE, OLD = ("127.0.1.%d" % i for i in range(1, 6))
POLICIES, SICK = "127.0.3.1", "127.0.3.2"
WELL = "/.well-known/mta-sts.txt"
DAY = 86400

# domain: (its MX, mode or None, hosts in its policy)
DOMAINS = {
    "ok": ("10 good", "enforce", ["good.sts.test"]),
    "wild": ("10 good", "enforce", ["*.sts.test"]),
    "name": ("10 other", "enforce", ["other.sts.test"]),
    "self": ("10 self", "enforce", ["self.sts.test"]),
    "bare": ("10 bare", "enforce", ["bare.sts.test"]),
    "old": ("10 old", "enforce", ["old.sts.test"]),		# its name is the subject's only
    "unlisted": ("10 good", "enforce", ["mx.elsewhere.test"]),
    "next": ("10 bare 20 other 30 good", "enforce", ["*.sts.test"]),
    "nextlisted": ("10 other 20 good", "enforce", ["good.sts.test"]),
    "t-name": ("10 other", "testing", ["other.sts.test"]),
    "t-bare": ("10 bare", "testing", ["bare.sts.test"]),
    "t-unlisted": ("10 good", "testing", ["mx.elsewhere.test"]),
    "none": ("10 bare", "none", ["mx.elsewhere.test"]),
    "norecord": ("10 bare", None, []),
    "moved": ("10 bare", "enforce", ["good.sts.test"]),
    "type": ("10 bare", "enforce", ["good.sts.test"]),
    "huge": ("10 bare", "enforce", ["good.sts.test"]),
    "junk": ("10 bare", "enforce", ["good.sts.test"]),
    "hang": ("10 bare", "enforce", ["good.sts.test"]),
    "sick": ("10 bare", "enforce", ["good.sts.test"]),
}


def zone(ids=(), without=()):
    """ids: {domain: id of its record}, else 1. without: domains whose record is gone."""
    lines = ["good A " + GOOD, "other A " + OTHER, "self A " + SELF, "bare A " + BARE,
             "old A " + OLD]
    for domain, (mx, mode, _) in DOMAINS.items():
        words = mx.split()
        lines += ["%s MX %s %s" % (domain, words[i], words[i + 1]) for i in range(0, len(words), 2)]
        lines.append("mta-sts.%s A %s" % (domain, SICK if domain == "sick" else POLICIES))
        if mode and domain not in without:
            lines.append('_mta-sts.%s TXT "v=STSv1; id=%s;"' % (domain, dict(ids).get(domain, "1")))
    return "\n".join(lines)


def policy(mode, hosts, max_age=7 * DAY):
    text = ("version: STSv1\r\nmode: %s\r\n%smax_age: %d\r\n"
            % (mode, "".join("mx: %s\r\n" % h for h in hosts), max_age))
    return Answer(200, "text/plain", text.encode("ascii"))


@pytest.fixture
def nsd():
    with Nsd({"sts.test": zone()}) as made:
        yield made


@pytest.fixture(scope="module")
def pairs(ca, tmp_path_factory):
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    hosts = ["mta-sts.%s.sts.test" % domain for domain in DOMAINS]
    return {"policies": ca.sign("policies", hosts), "old": ca.sign("old", hosts, days=-1),
            GOOD: ca.sign("good", ["good.sts.test"]), OTHER: ca.sign("other", ["another.sts.test"]),
            SELF: stranger.sign("self", ["self.sts.test"]), BARE: None,
            OLD: ca.sign("cn", [], common_name="old.sts.test")}


class World:
    """Policy hosts, MX hosts, and a tramd that trusts the tests' authority."""

    def __init__(self, make_tramd, ca, nsd, pairs, stack, limits=None, env=None, extra="", **route):
        needs_port_443(POLICIES)
        self.nsd, self.pairs = nsd, pairs
        self.policies = stack.enter_context(HttpsHost(*pairs["policies"], host=POLICIES, port=443))
        for domain, (_, mode, hosts) in DOMAINS.items():
            if mode:
                self.serve(domain, policy(mode, hosts))
        self.port = free_port_on([GOOD, OTHER, SELF, BARE, OLD])
        self.sinks = {host: stack.enter_context(Sink(host, self.port, tls=pairs[host]))
                      for host in (GOOD, OTHER, SELF, BARE, OLD)}
        self.tramd = make_tramd(routes={"*": dict(route, deliver="mx:%d" % self.port)},
                                resolver=nsd.address, queue=FAST, limits=limits, env=env,
                                extra='allow-private = yes\ndelivery-ca = "%s"\n%s' % (ca.path,
                                                                                       extra))

    def serve(self, domain, answer):
        self.policies.answers["mta-sts.%s.sts.test%s" % (domain, WELL)] = answer

    def asked(self, domain):
        return self.policies.count(host="mta-sts.%s.sts.test" % domain)

    def send(self, domain):
        return self.tramd.send(DATA, to="b@%s.sts.test" % domain)

    def delivered(self, domain, message_id=None):
        line = self.tramd.wait_log(event="delivery", id=message_id or self.send(domain))
        assert line["fate"] == "delivered", line
        return line

    def waits(self, domain, message_id=None):
        """The trouble that it met at its first host; others may be tried again meanwhile."""
        trouble = {"event": "host-failed", "host": DOMAINS[domain][0].split()[1] + ".sts.test"}
        before = len(self.tramd.events(**trouble))
        message_id = message_id or self.send(domain)
        line = self.tramd.wait_log(**trouble, count=before + 1)
        assert message_id in self.tramd.queue_ids() and not self.tramd.events(event="delivery",
                                                                              id=message_id)
        return line


@pytest.fixture
def make_world(make_tramd, ca, nsd, pairs):
    with contextlib.ExitStack() as stack:
        yield lambda **how: World(make_tramd, ca, nsd, pairs, stack, **how)


def test_enforce(make_world):
    """The right host gets it; hosts that cannot show that they are it do not, and never plain."""
    world = make_world()
    for domain in ("ok", "wild"):
        line = world.delivered(domain)
        assert line["tls_policy"] == "mta-sts" and line["tls"].endswith(" verified"), line
    fetched = world.tramd.wait_log(event="sts-policy", domain="ok.sts.test")
    assert (fetched["mode"], fetched["id"], fetched["max_age"],
            fetched["hosts"]) == ("enforce", "1", "604800", "1")
    world.tramd.wait_log(event="sts-applies", domain="ok.sts.test", mode="enforce")
    assert world.delivered("ok")["host"] == "good.sts.test" and world.asked("ok") == 1
    for domain in ("next", "nextlisted"):
        line = world.delivered(domain)
        assert line["host"] == "good.sts.test" and line["tls"].endswith(" verified")
    assert len(world.sinks[GOOD].messages) == 5
    for domain, why in (("name", "certificate is not good.*MTA-STS"),
                        ("self", "certificate is not good.*MTA-STS"),
                        ("old", "certificate is not good.*MTA-STS"),
                        ("bare", "does not offer STARTTLS.*MTA-STS"),
                        ("unlisted", "MTA-STS policy does not list")):
        line = world.waits(domain)
        assert re.search(why, line["reply"]), line
        assert line["reply"].startswith("451 4.7.") or not line["reply"].startswith("5"), line
    world.tramd.wait_log(event="host-failed", host="other.sts.test",
                         reply=re.compile("does not list this host"))
    assert not any(world.sinks[host].commands("MAIL") for host in (OTHER, SELF, BARE, OLD))


def test_tls_check_tells_of_the_policy(make_world):
    """What holds, and what comes of it; a route that asks for a policy wants one."""
    world = make_world(tls="mta-sts")
    seen = {}
    for domain in ("nextlisted", "norecord", "bare"):
        done = world.tramd.ctl("tls-check", domain + ".sts.test", "--json", check=False)
        rows = [json.loads(line) for line in done.stdout.decode().splitlines()][:-1]
        seen[domain] = done.returncode, {row["step"]: row for row in rows}
    status, found = seen["nextlisted"]
    assert found["mta-sts"]["id"] == "1" and found["route"]["text"].endswith("tls = mta-sts")
    held = found["mta-sts-policy"]
    assert (held["verdict"], held["mode"], held["hosts"]) == ("good", "enforce", ["good.sts.test"])
    assert found["result"]["text"].startswith("mail would go to good.sts.test"), found
    status, found = seen["norecord"]
    assert status == 1 and found["mta-sts-policy"]["verdict"] == "bad"
    assert seen["bare"][0] == 1 and not world.sinks[BARE].commands("MAIL")


def test_tls_check_by_what_is_published(make_world):
    """Before any mail has gone; a policy that is promised and cannot be had is bad, though mail
    goes."""
    world = make_world()

    def check(domain):
        done = world.tramd.ctl("tls-check", domain + ".sts.test", "--json", check=False)
        found = [json.loads(line) for line in done.stdout.splitlines()][:-1]
        return done.returncode, found, {row["step"]: row for row in found}
    status, found, last = check("ok")
    assert status == 0 and last["policy"]["policy"] == "mta-sts"
    assert last["result"]["text"] == "mail would go to good.sts.test, with TLS, verified by a CA"
    for domain, why in (("name", "mismatch"), ("bare", "STARTTLS"), ("unlisted", "does not list")):
        status, found, last = check(domain)
        assert status == 1 and "no host would get mail now" in last["result"]["text"]
        assert any(why in row["text"] for row in found if row["verdict"] == "bad"), found
    status, _, last = check("norecord")
    assert (status == 0 and last["mta-sts-policy"]["verdict"] == "note"
            and "in plain text" in last["result"]["text"])
    assert check("t-bare")[0] == 0 and not world.tramd.events(event="sts-testing")
    world.serve("junk", Answer(200, "text/plain", b"nonsense"))
    status, _, last = check("junk")
    assert (status == 1 and last["mta-sts-policy"]["verdict"] == "bad"
            and "would go to bare" in last["result"]["text"])
    assert not any(sink.commands("MAIL") for sink in world.sinks.values())


def test_testing_and_none(make_world):
    """A policy that is only tested, or taken back, stops nothing; the failures of the first are
    told. Memory has room for one domain only."""
    world = make_world(limits={"sts-policies": "1"})
    assert world.delivered("t-name")["tls"].endswith(" unverified")
    assert "tls" not in world.delivered("t-bare")
    assert world.delivered("t-unlisted")["tls_policy"] == "mta-sts"
    for domain, why in (("t-name", "mismatch"), ("t-bare", "STARTTLS"),
                        ("t-unlisted", "does not list")):
        host = DOMAINS[domain][0].split()[1]
        world.tramd.wait_log(event="sts-testing", host=host + ".sts.test", why=re.compile(why))
    assert "tls" not in world.delivered("none") and "tls" not in world.delivered("norecord")
    assert world.asked("norecord") == 0 and world.asked("none") == 1


def test_policy_hosts_that_are_no_good(make_world):
    """Whatever the policy host does, the mail goes on in bounded time as if there were no policy;
    it is not asked again at once."""
    world = make_world(limits={"sts-timeout": "4s"})
    good = policy("enforce", ["good.sts.test"]).body
    world.serve("moved", Answer(302, "text/plain", b"",
                                "Location: https://mta-sts.ok.sts.test%s\r\n" % WELL))
    world.serve("type", Answer(200, "text/html", good))
    world.serve("huge", Answer(200, "text/plain", good + b"x" * 200000))
    world.serve("junk", Answer(200, "text/plain", b"\0\xff" * 500))
    world.serve("hang", hang)
    with HttpsHost(*world.pairs["old"], host=SICK, port=443):
        for domain, why in (("moved", "302"), ("type", "text/plain"), ("huge", "."), ("junk", "."),
                            ("hang", "(?i)time"), ("sick", "expired")):
            assert "tls" not in world.delivered(domain)
            line = world.tramd.wait_log(event="sts-failed", domain=domain + ".sts.test",
                                        policy="none")
            assert re.search(why, line["why"]) and 200 < int(line["again"]) <= 300, line
            assert "tls" not in world.delivered(domain)
            assert world.asked(domain) == (domain != "sick")
    assert world.asked("ok") == 0, "no redirect is followed"


def test_a_policy_that_is_known_holds(make_world, tmp_path):
    """After a restart, without record and policy host, until it expires; then the mail goes as to
    anybody."""
    clock = Clock(tmp_path)
    world = make_world(env=clock.env, limits={"sts-timeout": "10s"})
    world.serve("name", policy("enforce", ["other.sts.test"], max_age=2 * DAY))
    world.waits("name")
    world.policies.stop()
    world.tramd.restart()
    line = world.tramd.wait_log(event="host-failed")
    assert "certificate is not good" in line["reply"]
    world.nsd.set_zone("sts.test", zone(without=["name"]))
    clock.forward(DAY)
    message_id = world.send("name")
    world.tramd.ctl("retry", "other.sts.test", check=False)
    before = len(world.tramd.events(event="host-failed"))
    wait_for(lambda: len(world.tramd.events(event="host-failed")) > before, what="another try")
    assert not world.sinks[OTHER].messages
    clock.forward(DAY + 60)
    assert world.send("name")
    line = world.delivered("name", message_id)
    assert line["tls"].endswith(" unverified") and line["tls_policy"] == "default"


def test_a_new_policy_is_fetched(make_world, tmp_path):
    """When the record's id changes, and ahead of time while it is in use."""
    clock = Clock(tmp_path)
    world = make_world(env=clock.env)
    world.delivered("ok")
    assert world.asked("ok") == 1
    world.serve("ok", policy("testing", ["mx.elsewhere.test"]))
    world.nsd.set_zone("sts.test", zone(ids={"ok": "2"}))
    clock.forward(7200)
    world.delivered("ok")
    line = world.tramd.wait_log(event="sts-policy", domain="ok.sts.test", id="2")
    assert line["mode"] == "testing"
    world.delivered("ok")
    world.tramd.wait_log(event="sts-applies", domain="ok.sts.test", mode="testing")
    world.delivered("ok")
    world.tramd.wait_log(event="sts-testing", host="good.sts.test")
    clock.forward(2 * DAY)

    def is_refreshed():
        # it is looked after once an hour; a fetch under way would time out
        clock.forward(3700)
        try:
            return world.tramd.wait_log(3, 3, event="sts-policy", domain="ok.sts.test")
        except AssertionError:
            return None
    wait_for(is_refreshed, what="it is fetched ahead of time")


def test_refreshing_leaves_room_for_mail(make_world, tmp_path):
    """What is fetched ahead of time takes a quarter of the turns, however slow its hosts are."""
    clock = Clock(tmp_path)
    world = make_world(env=clock.env)
    known = ("ok", "wild", "next", "nextlisted", "t-name", "t-bare", "t-unlisted")
    for domain in known:
        world.delivered(domain)
    go_on, asked = threading.Event(), []

    def slow(conn):
        asked.append(conn)
        go_on.wait(TIMEOUT)
    for domain in known:
        world.serve(domain, slow)
    clock.forward(2 * DAY)

    def is_refreshed(count, step):
        clock.forward(step)
        world.tramd.ctl("stats")
        return len(asked) >= count
    wait_for(lambda: is_refreshed(4, 0 if asked else 3700), what="what is old is asked for again")
    assert "does not list" in world.waits("unlisted")["reply"], "one that is new has its turn"
    assert len(asked) == 4
    go_on.set()
    wait_for(lambda: is_refreshed(len(known), 1), what="the others have theirs")


def test_a_route_that_asks_for_a_policy(make_world):
    """tls = mta-sts: without a policy the mail waits, and one that is only tested is enforced.
    mta-sts = no: none is asked for."""
    world = make_world(tls="mta-sts")
    assert "no MTA-STS policy could be had" in world.waits("norecord")["reply"]
    assert world.tramd.events(event="sts-missing", domain="norecord.sts.test")
    assert "certificate is not good" in world.waits("t-name")["reply"]
    assert world.delivered("ok")["tls_policy"] == "mta-sts"
    world.tramd.write_config(open(world.tramd.config_path,
                                  encoding="utf-8").read().replace("tls = mta-sts", "")
                             + "mta-sts = no\n")
    world.tramd.reload()
    assert world.delivered("self")["tls_policy"] == "default"
    wait_for(lambda: world.sinks[OTHER].messages and world.sinks[BARE].messages,
             what="what waited goes")
    assert world.asked("self") == 0


def test_what_is_counted_for_reports(make_world):
    """RFC 8460: each domain's sessions by its policy, and what came of it; a policy that cannot be
    had is told as well."""
    world = make_world(extra='tls-report-contact = "tls@relay.test"\n')
    world.serve("junk", Answer(200, "text/plain", b"version: STSv2\r\n"))
    for domain in ("ok", "t-name", "none", "sick", "junk"):
        world.delivered(domain)
    for domain in ("name", "self", "bare", "unlisted"):
        world.waits(domain)
    world.tramd.stop()
    world.tramd.start()
    rows = world.tramd.ctl_json_lines("tls-reports")
    found = {(row["domain"].split(".")[0], row["policy"]):
             (row["successes"], " ".join(re.findall("[a-z-]{2,}", row["results"]))) for row in rows}
    bare = (0, "starttls-not-supported")
    assert found == {
        ("ok", "sts"): (1, ""), ("t-name", "sts"): (0, "certificate-host-mismatch"),
        ("none", "no-policy-found"): bare,
        ("sick", "no-policy-found"): bare, ("sick", "sts"): (0, "sts-policy-fetch-error"),
        ("junk", "no-policy-found"): bare, ("junk", "sts"): (0, "sts-policy-invalid"),
        ("name", "sts"): (0, "certificate-host-mismatch"),
        ("self", "sts"): (0, "certificate-not-trusted"),
        ("bare", "sts"): bare, ("unlisted", "sts"): (0, "validation-failure")}
    (ok,) = [row for row in rows if row["domain"] == "ok.sts.test"]
    assert ok["policy_lines"] == ["version: STSv1", "mode: enforce", "mx: good.sts.test",
                                  "max_age: 604800"]
    assert ok["policy_hosts"] == ["good.sts.test"]
