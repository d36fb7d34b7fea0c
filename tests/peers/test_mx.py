"""What the DNS says about a domain's mail, and what becomes of a message to it: a real name server
(NSD), and one that misbehaves in front of it. Hosts are addresses of the loopback network, all on
the port of the route "mx:PORT"."""
import re
import shutil
import threading

import pytest

from conftest import FAST
from dns_server import BrokenDns, Nsd
from harness import free_port_on, wait_for
from sink import FEATURES, Sink

DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nbody\r\n"
FIRST, SECOND, THIRD = "127.0.1.1", "127.0.1.2", "127.0.1.3"

ZONE = """
    first       A     127.0.1.1
    second      A     127.0.1.2
    third       A     127.0.1.3
    nobody      A     127.0.1.99
    six         AAAA  ::1
    both        AAAA  ::1
    both        A     127.0.1.1
    two         A     127.0.1.99
    two         A     127.0.1.2
    order       MX    20 second
    order       MX    10 first
    order       MX    30 third
    fallback    MX    10 nobody
    fallback    MX    20 second
    addresses   MX    10 two
    equal       MX    10 first
    equal       MX    10 second
    equal       MX    10 third
    null        MX    0 .
    implicit    A     127.0.1.1
    implicit6   AAAA  ::1
    textonly    TXT   "neither MX nor address"
    lost        MX    10 nowhere
    lost2       MX    10 nowhere
    lost2       MX    20 second
    sickhost    MX    10 sick
    sickhost    MX    20 nowhere
    sick        A     127.0.1.1
    alias       CNAME order
    aliasmx     MX    10 mailalias
    mailalias   CNAME first
    loop1       CNAME loop2
    loop2       CNAME loop1
    self        MX    10 relay.test.
    backup      MX    10 second
    backup      MX    20 relay.test.
    backup      MX    30 first
    backup      MX    20 third
    literal     MX    10 127.0.1.1.
    local       MX    10 localhost.
    private     MX    10 first
    happy       MX    10 both
    xn--bcher-kva MX  10 first
""" + "".join("    large MX 10 a-rather-long-name-of-a-host-that-fills-the-answer-%d\n"
              "    a-rather-long-name-of-a-host-that-fills-the-answer-%d A 127.0.1.1\n" % (i, i)
              for i in range(40))


@pytest.fixture(scope="module")
def nsd():
    if not shutil.which("nsd") and not shutil.which("/usr/sbin/nsd"):
        pytest.skip("needs the package nsd")
    with Nsd({"mx.test": ZONE, "relay.test": "@ A 127.0.0.1"}) as real:
        yield real


@pytest.fixture
def dns(nsd):
    """In front of NSD: passes everything on, until a test sets rules."""
    with BrokenDns(upstream=nsd) as made:
        yield made


class World:
    """Sinks on several addresses, all on one port, and a tramd that finds them by the DNS."""

    def __init__(self, make_tramd, resolver, hosts, allow_private=True, extra="", **how):
        self.port = free_port_on(["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.99", "::1"])
        self.sinks = {host: Sink(host, self.port) for host in hosts}
        extra += "\nresolver-timeout = 300ms\nresolver-tries = 2\n"
        if allow_private:
            extra += "allow-private = yes\n"
        self.tramd = make_tramd(routes={"src.test": "discard", "*": "mx:%d" % self.port},
                                resolver=resolver,
                                hostname="relay.test", queue=FAST, extra=extra, **how)

    def send(self, domain, local="b"):
        return self.tramd.send(DATA, to="%s@%s" % (local, domain if "." in domain or "[" in domain
                                                    else domain + ".mx.test"))

    def final(self, domain):
        """Its fate and last reply."""
        return self.tramd.wait_log(event="final", id=self.send(domain))

    def got(self):
        return {host: len(sink.messages) for host, sink in self.sinks.items()}

    def close(self):
        for sink in self.sinks.values():
            sink.close()


@pytest.fixture
def make_world(make_tramd):
    made = []

    def make(resolver, hosts=(FIRST, SECOND, THIRD), **how):
        made.append(World(make_tramd, resolver.address, hosts, **how))
        return made[-1]
    yield make
    for world in made:
        world.close()


def put_off(tramd, message_id):
    """It was tried, or looked up, and waits: neither delivered nor bounced."""
    tramd.wait_log(event=re.compile("^(lookup-failed|site-backoff|delivery)$"))
    wait_for(lambda: message_id in tramd.queue_ids(), what="it waits in the queue")
    assert not tramd.events(event="final", id=message_id)


# ---- a healthy DNS

@pytest.mark.parametrize("domain, host", [
    ("order", FIRST), ("fallback", SECOND), ("addresses", SECOND), ("implicit", FIRST),
    ("alias", FIRST),
    ("aliasmx", FIRST), ("lost2", SECOND), ("happy", FIRST), ("backup", SECOND), ("large", FIRST),
    ("ORDER.MX.test", FIRST), ("[127.0.1.2]", SECOND)])
def test_goes_to(make_world, nsd, domain, host):
    """At the first attempt, without a retry."""
    world = make_world(nsd)
    assert world.final(domain)["outcome"] == "delivered"
    assert world.got() == {FIRST: 0, SECOND: 0, THIRD: 0, host: 1}
    assert not world.tramd.events(event="delivery", fate=re.compile("deferred|failed"))


@pytest.mark.parametrize("domain", ["implicit6", "happy"])
def test_by_ipv6(make_world, nsd, domain):
    world = make_world(nsd, hosts=("::1",))
    assert world.final(domain)["outcome"] == "delivered"


def test_international_domain(make_world, nsd):
    world = make_world(nsd)
    with world.tramd.client() as c:
        c.hello()
        c.message(DATA, to=["b@bücher.mx.test"], mail="SMTPUTF8")
    assert world.sinks[FIRST].wait(1)[0].recipients == ["b@bücher.mx.test"]


@pytest.mark.parametrize("domain, status", [
    ("null", ["5.1.10"]), ("nxdomain-here", ["5.1.2", "5.4.4"]),
    ("nowhere.invalid", ["5.1.2", "5.4.4"]),
    ("textonly", ["5.4.4", "5.1.2"]), ("lost", ["5.4.4"]), ("self", ["5.4.6"])])
def test_bounced_at_once(make_world, nsd, domain, status):
    world = make_world(nsd)
    final = world.final(domain)
    assert final["outcome"] == "failed" and any(s in final["reply"] for s in status)
    assert sum(world.got().values()) == 0
    world.tramd.wait_empty()


@pytest.mark.parametrize("domain", ["literal", "local", "private"])
def test_private_hosts_are_refused(make_world, nsd, domain):
    """Unless they are allowed: a stranger's MX must not lead us to our own services."""
    world = make_world(nsd, allow_private=False)
    final = world.final(domain)
    assert final["outcome"] == "failed" and "5." in final["reply"]
    assert sum(world.got().values()) == 0


def test_loop_of_names_waits(make_world, nsd):
    world = make_world(nsd)
    put_off(world.tramd, world.send("loop1"))


def test_addresses_of_an_attempt_are_counted(make_world, nsd):
    """The second host would take it, but an attempt may try only one address."""
    world = make_world(nsd, limits={"addresses-per-attempt": 1})
    message_id = world.send("fallback")
    put_off(world.tramd, message_id)
    assert world.got()[SECOND] == 0


def test_equal_ones_share(make_world, nsd):
    world = make_world(nsd, limits={"messages-per-connection": "1"})
    for _ in range(40):
        world.send("equal")
    world.tramd.wait_log(event="final", count=40)
    assert sum(world.got().values()) == 40
    assert sum(count > 0 for count in world.got().values()) >= 2, world.got()


@pytest.mark.parametrize("reply", ["554 5.3.2 no service", "421 4.3.2 not now"])
def test_unwilling_host(make_world, nsd, reply):
    """A host that refuses in its greeting is passed over, in the same attempt."""
    world = make_world(nsd)
    world.sinks[FIRST].rule("BANNER", reply)
    assert world.final("order")["outcome"] == "delivered"
    assert world.got() == {FIRST: 0, SECOND: 1, THIRD: 0}


UTF8 = "Subject: Trạm\r\n\r\n".encode()


def send_utf8(world, domain, sender="người@src.test"):
    with world.tramd.client() as c:
        c.hello()
        return c.message(UTF8, sender=sender, to=["b@%s.mx.test" % domain], mail="SMTPUTF8")


def without(world, feature, *hosts):
    for host in hosts:
        world.sinks[host].features = [f for f in FEATURES if f.split()[0] != feature]


def test_next_host_knows_utf8(make_world, nsd):
    """What one host does not offer the next may; other mail goes to the first."""
    world = make_world(nsd)
    without(world, "SMTPUTF8", FIRST, SECOND)
    plain = world.send("order")
    # the connection is kept, and is of no use to the next
    world.tramd.wait_log(event="final", id=plain)
    ids = [send_utf8(world, "order") for _ in range(3)]
    for one in ids:
        assert world.tramd.wait_log(event="final", id=one)["outcome"] == "delivered"
    assert world.got() == {FIRST: 1, SECOND: 0, THIRD: 3}
    assert (world.final("order")["outcome"] == "delivered"
            and not world.tramd.events(event="site-backoff"))


@pytest.mark.parametrize("sender, status", [("người@src.test", "5.6.7"), ("a@src.test", "5.6.9")])
def test_no_host_knows_utf8(make_world, nsd, sender, status):
    world = make_world(nsd)
    without(world, "SMTPUTF8", FIRST, SECOND, THIRD)
    final = world.tramd.wait_log(event="final", id=send_utf8(world, "order", sender))
    assert final["outcome"] == "failed" and status in final["reply"]


def test_host_that_may_know_utf8_is_away(make_world, nsd):
    """The first does not, the others cannot be reached: that is no verdict. Other mail does not
    wait for it."""
    world = make_world(nsd, hosts=(FIRST,))
    without(world, "SMTPUTF8", FIRST)
    message_id = send_utf8(world, "order")
    world.tramd.wait_log(event="host-unfit")
    assert world.final("order")["outcome"] == "delivered"
    assert not world.tramd.events(event="final",
                                  id=message_id) and not world.tramd.events(event="site-backoff")
    world.sinks[THIRD] = Sink(THIRD, world.port)
    assert world.tramd.wait_log(event="final", id=message_id)["outcome"] == "delivered"
    assert world.got() == {FIRST: 1, THIRD: 1}


def test_next_host_takes_more(make_world, nsd):
    """The first says SIZE 1000."""
    world = make_world(nsd)
    world.sinks[FIRST].features = ["SIZE 1000"]
    assert world.final("order")["outcome"] == "delivered"
    large = world.tramd.send(DATA + (b"x" * 70 + b"\r\n") * 20, to="b@order.mx.test")
    assert world.tramd.wait_log(event="final", id=large)["outcome"] == "delivered"
    assert world.got() == {FIRST: 1, SECOND: 1, THIRD: 0}


def test_unwilling_hosts_all(make_world, nsd):
    """5xx in every greeting is for now only."""
    world = make_world(nsd)
    for sink in world.sinks.values():
        sink.rule("BANNER", "554 5.3.2 no service", times=1)
    final = world.final("order")
    assert final["outcome"] == "delivered" and sum(world.got().values()) == 1


def test_refused_recipient_is_final(make_world, nsd):
    """5xx to RCPT by the first host is its domain's word: the next one is not asked."""
    world = make_world(nsd)
    world.sinks[FIRST].rule("RCPT", "550 5.1.1 no such user")
    assert world.final("order")["outcome"] == "failed"
    assert world.sinks[SECOND].sessions == 0


def test_two_domains_one_site(make_world, nsd):
    """Domains with the same hosts share connections."""
    world = make_world(nsd, limits={"connections-per-site": "1"})
    ids = [world.send(domain, "r%d" % i) for i in range(10) for domain in ("order", "alias")]
    for message_id in ids:
        world.tramd.wait_log(event="final", id=message_id)
    assert world.got()[FIRST] == 20 and world.sinks[FIRST].sessions < 20


def test_mx_changes(make_world):
    """A new MX counts once the old answer's time is over (half a minute at least)."""
    with Nsd({"moving.test": "@ MX 10 here\nhere A 127.0.1.1\nthere A 127.0.1.2\n"}, ttl=1) as nsd:
        world = make_world(nsd)
        assert world.final("moving.test")["outcome"] == "delivered" and world.got()[FIRST] == 1
        nsd.set_zone("moving.test", "@ MX 10 there\nhere A 127.0.1.1\nthere A 127.0.1.2\n")
        pause = threading.Event()
        for _ in range(60):
            assert world.final("moving.test")["outcome"] == "delivered"
            if world.got()[SECOND]:
                return
            pause.wait(1)			# the age of the answer is what passes here
        raise AssertionError("the new host gets no mail: %r" % world.got())


# ---- a sick DNS

@pytest.mark.parametrize("what", ["servfail", "refused", "notimp", "silence", "garbage",
                                  "malformed", "short", "wrong-id",
                                  "wrong-question", "truncate-always", "refuse-tcp", "cname-loop"])
def test_failed_lookup_waits(make_world, dns, what):
    """No trouble of the DNS is a verdict on the address: the message waits, and goes when the DNS
    is well again."""
    dns.rules["order.mx.test"] = what
    world = make_world(dns)
    message_id = world.send("order")
    put_off(world.tramd, message_id)
    dns.rules["order.mx.test"] = None
    assert world.tramd.wait_log(event="final", id=message_id)["outcome"] == "delivered"
    assert world.got()[FIRST] == 1


@pytest.mark.parametrize("what", ["truncate", "formerr", "then-right", "slow:0.2", "silence-udp"])
def test_odd_but_right(make_world, dns, what):
    """TCP after truncation, no EDNS after FORMERR, a forged answer before the right one."""
    if what == "silence-udp":
        pytest.skip("TCP is not tried where UDP is silent; resolver-tcp = yes is for that")
    dns.rules.update({("order.mx.test", "MX"): what, ("first.mx.test", "A"): what})
    world = make_world(dns)
    assert world.final("order")["outcome"] == "delivered"
    assert world.got()[FIRST] == 1


def test_always_by_tcp(make_world, dns):
    dns.rules["*.mx.test"] = "silence-udp"
    world = make_world(dns, extra="resolver-tcp = yes")
    assert world.final("order")["outcome"] == "delivered"


@pytest.mark.parametrize("what", ["servfail", "silence"])
def test_host_of_unknown_address(make_world, dns, what):
    """One host has no address, the other's cannot be learnt: that is no verdict."""
    dns.rules["sick.mx.test"] = what
    world = make_world(dns)
    message_id = world.send("sickhost")
    put_off(world.tramd, message_id)
    dns.rules["sick.mx.test"] = None
    assert world.tramd.wait_log(event="final", id=message_id)["outcome"] == "delivered"


def test_no_data_for_mx(make_world, dns):
    """MX: no such record. The address stands in."""
    dns.rules[("implicit.mx.test", "MX")] = "nodata"
    world = make_world(dns)
    assert world.final("implicit")["outcome"] == "delivered"


def test_dns_is_gone(make_world, dns):
    """Nobody answers at all: mail is accepted and waits; other routes are not disturbed."""
    world = make_world(dns)
    dns.stop()
    message_id = world.send("order")
    put_off(world.tramd, message_id)
    other = world.tramd.send(DATA, to="x@src.test")
    assert world.tramd.wait_log(event="final", id=other)["outcome"] == "discarded"


def test_asked_once(make_world, dns):
    """A thousand messages to one domain do not ask a thousand times."""
    world = make_world(dns)
    with world.tramd.client() as c:
        c.hello()
        for i in range(200):
            c.message(DATA, to=["r%d@order.mx.test" % i])
    world.tramd.wait_log(event="final", count=200)
    assert dns.count("order.mx.test", "MX") <= 3
