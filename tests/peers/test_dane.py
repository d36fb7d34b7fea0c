"""DANE on deliveries (RFC 7672): signed zones, a resolver that validates them, hosts with TLS on the loopback network.

All hosts listen on the one port of the route "mx:PORT", and TLSA records are named after it.
"""
import re
import shutil

import pytest

import dnssec
from certificates import Authority
from conftest import FAST
from dnssec import SignedNsd, Unbound, spki_digest, without_ad
from harness import free_port_on, wait_for
from sink import DROP, Sink

DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nbody\r\n"
FIRST, SECOND = "127.0.1.1", "127.0.1.2"
NONSENSE = "00" * 32

# The first three hosts have the right records; %(port)d, %(leaf)s and %(ca)s are filled in.
SIGNED = """
    first       A     127.0.1.1
    second      A     127.0.1.2
    authority   A     127.0.1.1
    misnamed    A     127.0.1.1
    wrong       A     127.0.1.1
    unusable    A     127.0.1.1
    mixed       A     127.0.1.1
    sick        A     127.0.1.1
    bare        A     127.0.1.1
    alias       CNAME first
    _%(port)d._tcp.first      TLSA 3 1 1 %(leaf)s
    _%(port)d._tcp.second     TLSA 3 1 1 %(leaf)s
    _%(port)d._tcp.authority  TLSA 2 1 1 %(ca)s
    _%(port)d._tcp.misnamed   TLSA 2 1 1 %(ca)s
    _%(port)d._tcp.wrong      TLSA 3 1 1 %(none)s
    _%(port)d._tcp.unusable   TLSA 1 1 1 %(none)s
    _%(port)d._tcp.unusable   TLSA 0 0 1 %(none)s
    _%(port)d._tcp.mixed      TLSA 3 1 1 %(none)s
    _%(port)d._tcp.mixed      TLSA 1 1 1 %(leaf)s
    _%(port)d._tcp.sick       TLSA 3 1 1 %(leaf)s
    _%(port)d._tcp.implicit   TLSA 3 1 1 %(leaf)s
    _%(port)d._tcp.implicit2  TLSA 3 1 1 %(none)s
    implicit    A     127.0.1.1
    implicit2   A     127.0.1.1
    d-ee        MX    10 first
    d-ta        MX    10 authority
    d-misnamed  MX    10 misnamed
    d-wrong     MX    10 wrong
    d-next      MX    10 wrong
    d-next      MX    20 second
    d-unusable  MX    10 unusable
    d-mixed     MX    10 mixed
    d-sick      MX    10 sick
    d-sicknext  MX    10 sick
    d-sicknext  MX    20 second
    d-bare      MX    10 bare
    d-alias     MX    10 alias
    d-outside   MX    10 host.plain.test.
    d-sickmx    MX    10 first
"""

UNSIGNED = """
    host        A     127.0.1.1
    _%(port)d._tcp.host      TLSA 3 1 1 %(none)s
    @           A     127.0.1.1
    own         MX    10 host
    ee          MX    10 first.dane.test.
    wrong       MX    10 wrong.dane.test.
"""


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


class Place:
    """The certificate of all hosts, their port, and the zones."""

    def __init__(self, ca):
        leaf, self.key = ca.sign("mx", ["authority.dane.test", "other.test"])
        self.chain = ca.at("mx-chain.pem")
        with open(self.chain, "wb") as out:		# DANE-TA: the authority is in the chain (RFC 7672 §3.1.2)
            for path in (leaf, ca.path):
                with open(path, "rb") as f:
                    shutil.copyfileobj(f, out)
        self.port = free_port_on([FIRST, SECOND])
        words = {"port": self.port, "leaf": spki_digest(leaf), "ca": spki_digest(ca.path), "none": NONSENSE}
        self.zones = {"dane.test": SIGNED % words, "plain.test": UNSIGNED % words}
        self.broken = {"_%d._tcp.sick.dane.test TLSA" % self.port, "d-sickmx.dane.test MX", "bogus.dane.test A"}
        self.zones["dane.test"] += "bogus A 127.0.1.1\n"


@pytest.fixture(scope="module")
def place(ca):
    if dnssec.missing():
        pytest.skip("needs the program " + dnssec.missing())
    return Place(ca)


@pytest.fixture(scope="module")
def nsd(place):
    with SignedNsd(place.zones, signed=["dane.test"], broken=place.broken) as made:
        yield made


@pytest.fixture(scope="module")
def resolver(nsd):
    with Unbound(nsd) as made:
        yield made


GOOD = 'resolver-test = {"dane.test", "bogus.dane.test"}\n'


class World:
    """Sinks with TLS, and a tramd whose resolver has been tested when mail is sent."""

    def __init__(self, make_tramd, place, resolver, hosts=(FIRST, SECOND), starttls=True, test=GOOD, trust="validates",
                 extra="", routes=None, limits=None, **route):
        self.port = place.port
        tls = (place.chain, place.key) if starttls else None
        self.sinks = {host: Sink(host, place.port, tls=tls) for host in hosts}
        rest = dict({k.replace("_", "-"): v for k, v in route.items()}, deliver="mx:%d" % place.port)
        self.tramd = make_tramd(routes=dict(routes or {}, **{"src.test": "discard", "*": rest}),
                                resolver=resolver.address, hostname="relay.test", queue=FAST, limits=limits,
                                extra=test + "check-sender = no\nallow-private = yes\n" + extra)
        if trust:
            self.trusts(trust)

    def trusts(self, what):
        return self.tramd.wait_log(event="resolver-trust", msg=re.compile("the resolver " + what))

    def send(self, domain, local="b"):
        return self.tramd.send(DATA, to="%s@%s" % (local, domain))

    def delivered(self, domain):
        """Its delivery line, once it is there."""
        line = self.tramd.wait_log(event="delivery", id=self.send(domain))
        assert line["fate"] == "delivered"
        return line

    def waits(self, domain):
        """The trouble that it met; nothing of it was said to anybody."""
        message_id = self.send(domain)
        line = self.tramd.wait_log(event="host-failed")
        self.tramd.wait_log(event="site-backoff")
        assert message_id in self.tramd.queue_ids()
        assert not any(sink.commands("MAIL") for sink in self.sinks.values())
        return line["reply"]

    def got(self):
        return {host: len(sink.messages) for host, sink in self.sinks.items()}

    def change(self, old, new):
        with open(self.tramd.config_path, encoding="utf-8") as f:
            text = f.read()
        assert old in text
        self.tramd.write_config(text.replace(old, new))
        self.tramd.reload()

    def close(self):
        for sink in self.sinks.values():
            sink.close()


@pytest.fixture
def make_world(make_tramd, place, resolver):
    made = []

    def make(by=None, **how):
        made.append(World(make_tramd, place, by or resolver, **how))
        return made[-1]
    yield make
    for world in made:
        world.close()


# ---- published, securely

@pytest.mark.quick
@pytest.mark.parametrize("tls", ["auto", "dane"])
@pytest.mark.parametrize("domain", ["d-ee", "d-ta", "d-alias", "implicit"])
def test_the_right_host_gets_it(make_world, domain, tls):
    """By the host's own key, by its authority and name, behind an alias, without an MX record."""
    world = make_world(tls=tls)
    line = world.delivered(domain + ".dane.test")
    assert line["tls"].startswith("TLSv1.3 ") and line["tls"].endswith(" dane")
    assert world.sinks[FIRST].wait(1)[0].tls == "TLSv1.3"


@pytest.mark.parametrize("domain", ["d-wrong", "d-mixed", "d-misnamed", "implicit2"])
def test_another_host_gets_nothing(make_world, domain):
    """Another key than the records name; so, too, beside one that cannot be used; the wrong name under the right CA."""
    world = make_world()
    reply = world.waits(domain + ".dane.test")
    assert "certificate is not good" in reply
    assert world.sinks[FIRST].commands("STARTTLS")


def test_the_next_host_is_good(make_world):
    """At the first attempt."""
    world = make_world()
    line = world.delivered("d-next.dane.test")
    assert line["tls"].endswith(" dane") and line["host"] == "second.dane.test"
    assert world.got() == {FIRST: 0, SECOND: 1}
    assert not world.tramd.events(event="site-backoff")
