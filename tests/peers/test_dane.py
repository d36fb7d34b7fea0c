"""DANE on deliveries (RFC 7672): signed zones, a resolver that validates them, hosts with TLS on
the loopback network.

All hosts listen on the one port of the route "mx:PORT", and TLSA records are named after it.
"""
import re
import shutil
import smtplib
import ssl
import threading

import pytest

import dnssec
from conftest import FAST
from dns_server import BrokenDns, ask_raw
from dnssec import SignedNsd, Unbound, spki_digest, without_ad
from certificates import certificate
from harness import free_port_on, quoted, wait_for
from https_host import Answer, HttpsHost, needs_port_443
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
    garbage     A     127.0.1.1
    halfgarbage A     127.0.1.1
    whole       A     127.0.1.1
    old         A     127.0.1.1
    oldca       A     127.0.1.1
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
    _%(port)d._tcp.garbage    TLSA 3 0 0 30820102deadbeef
    _%(port)d._tcp.garbage    TLSA 3 1 0 30820102deadbeef
    _%(port)d._tcp.halfgarbage TLSA 3 0 0 30820102deadbeef
    _%(port)d._tcp.halfgarbage TLSA 3 1 1 %(none)s
    _%(port)d._tcp.whole      TLSA 3 0 0 %(whole)s
    _%(port)d._tcp.whole      TLSA 3 0 0 30820102deadbeef
    _%(port)d._tcp.old        TLSA 3 1 1 %(old)s
    _%(port)d._tcp.oldca      TLSA 2 1 1 %(ca)s
    _%(port)d._tcp.sick       TLSA 3 1 1 %(leaf)s
    _%(port)d._tcp.implicit   TLSA 3 1 1 %(leaf)s
    _%(port)d._tcp.implicit2  TLSA 3 1 1 %(none)s
    implicit    A     127.0.1.1
    implicit2   A     127.0.1.1
    d-ee        MX    10 first
    d-ee2       MX    10 first
    d-ta        MX    10 authority
    _smtp._tls.d-wrong  TXT  "v=TLSRPTv1; rua=mailto:tls@d-wrong.dane.test"
    d-misnamed  MX    10 misnamed
    d-wrong     MX    10 wrong
    d-next      MX    10 wrong
    d-next      MX    20 second
    d-unusable  MX    10 unusable
    d-mixed     MX    10 mixed
    d-garbage   MX    10 garbage
    d-half      MX    10 halfgarbage
    d-whole     MX    10 whole
    d-old       MX    10 old
    d-oldca     MX    10 oldca
    d-sick      MX    10 sick
    d-sicknext  MX    10 sick
    d-sicknext  MX    20 second
    d-wrongsick MX    10 wrong
    d-wrongsick MX    20 sick
    d-bare      MX    10 bare
    d-alias     MX    10 alias
    d-outside   MX    10 host.plain.test.
    d-sickmx    MX    10 first
    d-sts       MX    10 first
    _mta-sts.d-sts TXT "v=STSv1; id=1"
    mta-sts.d-sts  A  127.0.3.1
    d-stsonly   MX    10 host.plain.test.
    _mta-sts.d-stsonly TXT "v=STSv1; id=1"
    mta-sts.d-stsonly  A  127.0.3.1
    d-ca        MX    10 cahost
    d-named     MX    10 misnamed
    cahost      A     127.0.1.1
"""

UNSIGNED = """
    host        A     127.0.1.1
    _%(port)d._tcp.host      TLSA 3 1 1 %(none)s
    @           A     127.0.1.1
    own         MX    10 host
    ee          MX    10 first.dane.test.
    wrong       MX    10 wrong.dane.test.
"""


class Place:
    """The certificate of all hosts, their port, and the zones."""

    def __init__(self, ca):
        leaf, self.key = ca.sign("mx", ["authority.dane.test", "other.test", "cahost.dane.test",
                                        "d-named.dane.test"])
        old, old_key = ca.sign("old", ["oldca.dane.test"], days=-1)
        self.old = self.with_authority(old, ca), old_key
        self.chain = self.with_authority(leaf, ca)
        self.port = free_port_on([FIRST, SECOND])
        with open(leaf, encoding="ascii") as f:
            whole = ssl.PEM_cert_to_DER_cert(f.read()).hex()
        words = {"port": self.port, "leaf": spki_digest(leaf), "ca": spki_digest(ca.path),
                 "none": NONSENSE, "old": spki_digest(old), "whole": whole}
        self.zones = {"dane.test": SIGNED % words, "plain.test": UNSIGNED % words}
        self.broken = {"_%d._tcp.sick.dane.test TLSA" % self.port, "d-sickmx.dane.test MX",
                       "bogus.dane.test A"}
        self.zones["dane.test"] += "bogus A 127.0.1.1\n"

    @staticmethod
    def with_authority(leaf, ca):
        """DANE-TA: the authority is in the chain (RFC 7672 §3.1.2)."""
        chain = leaf + ".chain"
        with open(chain, "wb") as out:
            for path in (leaf, ca.path):
                with open(path, "rb") as f:
                    shutil.copyfileobj(f, out)
        return chain


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

    def __init__(self, make_tramd, place, resolver, hosts=(FIRST, SECOND), starttls=True,
                 tls_of_hosts=None, test=GOOD, extra="", routes=None, limits=None, **route):
        self.port = place.port
        tls = (tls_of_hosts or (place.chain, place.key)) if starttls else None
        self.sinks = {}
        deliver = route.pop("deliver", "mx:%d") % place.port
        rest = dict({k.replace("_", "-"): v for k, v in route.items()}, deliver=deliver)
        self.tramd = make_tramd(routes=dict(routes or {}, **{"src.test": "discard", "*": rest}),
                                resolver=resolver.address, hostname="relay.test", queue=FAST,
                                limits=limits,
                                extra=test + "check-sender = no\nallow-private = yes\n" + extra)
        for host in hosts:
            self.sinks[host] = Sink(host, place.port, tls=tls)

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
        line = self.tramd.wait_log(event=re.compile("^(host|lookup)-failed$"))
        if line["event"] == "host-failed":
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

    def make(by=None, trust="validates", **how):
        made.append(World(make_tramd, place, by or resolver, **how))
        if trust:
            made[-1].trusts(trust)
        return made[-1]
    yield make
    for world in made:
        world.close()


# ---- published, securely

@pytest.mark.quick
@pytest.mark.parametrize("tls", ["auto", "dane"])
@pytest.mark.parametrize("domain", ["d-ee", "d-ta", "d-whole", "d-alias", "implicit"])
def test_the_right_host_gets_it(make_world, domain, tls):
    """By the host's own key, by its authority and name, by all of its certificate (beside garbage),
    behind an alias, without an MX record."""
    world = make_world(tls=tls)
    line = world.delivered(domain + ".dane.test")
    assert line["tls"].startswith("TLSv1.3 ") and line["tls"].endswith(" dane")
    assert world.sinks[FIRST].wait(1)[0].tls == "TLSv1.3"


def test_a_resumed_session_is_still_by_dane(make_world):
    world = make_world(limits={"messages-per-connection": "1"})
    lines = [world.delivered("d-ee.dane.test") for _ in range(2)]
    assert all(line["tls"].endswith(" dane") and line["tls_policy"] == "dane" for line in lines)
    assert [line.get("tls_resumed") for line in lines] == [None, "yes"]


@pytest.mark.parametrize("domain", ["d-wrong", "d-mixed", "d-half", "d-misnamed", "implicit2"])
def test_another_host_gets_nothing(make_world, domain):
    """Another key than the records name; so, too, beside one that cannot be used; the wrong name
    under the right CA."""
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


def test_a_key_does_not_grow_old(make_world, place):
    """DANE-EE: the record says what is good, not the dates in the certificate (RFC 7671 §5.1). An
    authority is asked."""
    world = make_world(tls_of_hosts=place.old)
    assert world.delivered("d-old.dane.test")["tls"].endswith(" dane")
    message_id = world.send("d-oldca.dane.test")
    line = world.tramd.wait_log(event="host-failed", host="oldca.dane.test")
    assert "expired" in line["reply"] and message_id in world.tramd.queue_ids()
    assert len(world.sinks[FIRST].messages) == 1


@pytest.mark.parametrize("domain", ["d-unusable", "d-garbage"])
def test_records_of_no_use_ask_for_tls(make_world, domain):
    """PKIX usages alone (RFC 7672 §3.1.3), or what nobody can read: TLS, and nobody is
    authenticated."""
    world = make_world()
    line = world.delivered(domain + ".dane.test")
    assert line["tls"].endswith(" unverified") and world.sinks[FIRST].wait(1)[0].tls == "TLSv1.3"


@pytest.mark.parametrize("domain", ["d-ee", "d-unusable", "d-garbage"])
@pytest.mark.parametrize("how", ["none", "454", "handshake"])
def test_nothing_goes_in_plain(make_world, domain, how):
    """The records say TLS; the host, or somebody on the way, does not."""
    world = make_world(starttls=how != "none")
    if how != "none":
        world.sinks[FIRST].rule(*{"454": ("STARTTLS", "454 4.7.0 not now"),
                                  "handshake": ("TLS", DROP)}[how])
    world.waits(domain + ".dane.test")
    assert not any(sink.messages for sink in world.sinks.values())


@pytest.mark.parametrize("domain", ["d-ee", "d-unusable"])
def test_what_failed_goes_once_it_is_mended(make_world, domain):
    world = make_world()
    world.sinks[FIRST].rule("STARTTLS", "454 4.7.0 not now")
    world.waits(domain + ".dane.test")
    world.sinks[FIRST].clear_rules()
    assert world.sinks[FIRST].wait(1)[0].tls == "TLSv1.3"


# ---- bogus

def test_a_host_whose_records_are_bogus_is_not_spoken_to(make_world):
    """SERVFAIL: somebody may hide the records. Not in plain, not with TLS of any kind."""
    world = make_world()
    reply = world.waits("d-sick.dane.test")
    assert "look-up of TLSA" in reply and "4.7.5" in reply
    assert world.sinks[FIRST].sessions == 0


def test_behind_a_bogus_host_the_next_one_is_used(make_world):
    world = make_world()
    line = world.delivered("d-sicknext.dane.test")
    assert line["host"] == "second.dane.test" and line["tls"].endswith(" dane")
    assert world.sinks[FIRST].sessions == 0
    assert not world.tramd.events(event="site-backoff")


def test_each_host_is_named_by_its_own_trouble(make_world):
    """The one that was not spoken to has no address in the log."""
    world = make_world()
    world.waits("d-wrongsick.dane.test")
    lines = {line["host"]: line for line in world.tramd.events(event="host-failed")}
    assert lines["wrong.dane.test"]["address"].startswith(FIRST)
    assert ("address" not in lines["sick.dane.test"]
            and "look-up of TLSA" in lines["sick.dane.test"]["reply"])


@pytest.mark.parametrize("threads", [1, 3])
def test_stopped_while_records_are_awaited(make_world, place, resolver, threads):
    names = ["_%d._tcp.first.dane.test" % place.port, "_%d._tcp.second.dane.test" % place.port]
    with BrokenDns(upstream=resolver, rules={(name, "TLSA"): "silence" for name in names}) as dns:
        world = make_world(dns, extra="threads = %d\n" % threads)
        for domain in "d-ee", "d-alias", "d-next", "d-sicknext":
            world.send(domain + ".dane.test")
        for name in names:
            dns.wait_for(name, "TLSA")
        world.tramd.stop()
        assert not any(sink.messages for sink in world.sinks.values())
        dns.rules.clear()
        world.tramd.start()
        world.tramd.wait_log(event="final", outcome="delivered", count=4)


def test_several_threads(make_world):
    world = make_world(extra="threads = 3\n")
    domains = ["d-ee", "d-ta", "d-whole", "d-alias", "d-next", "d-sicknext", "implicit",
               "d-unusable", "d-bare"]
    for i in range(10):
        for domain in domains:
            world.send(domain + ".dane.test", "r%d" % i)
    world.tramd.wait_log(event="final", count=90)
    for line in world.tramd.events(event="delivery", fate="delivered"):
        assert line["tls"].endswith(" dane") == (not line["to"].endswith(("@d-unusable.dane.test",
                                                                          "@d-bare.dane.test")))


def test_bogus_mx_waits(make_world):
    world = make_world()
    message_id = world.send("d-sickmx.dane.test")
    world.tramd.wait_log(event="lookup-failed")
    assert message_id in world.tramd.queue_ids() and world.sinks[FIRST].sessions == 0


# ---- not published, or not securely

@pytest.mark.parametrize("domain",
                         ["d-bare.dane.test", "own.plain.test", "ee.plain.test", "wrong.plain.test",
                          "plain.test", "d-outside.dane.test"])
@pytest.mark.parametrize("starttls", [True, False])
def test_what_is_not_signed_counts_for_nothing(make_world, domain, starttls):
    """No records; records in an unsigned zone; an unsigned MX record (or a signed one) that leads
    elsewhere."""
    world = make_world(starttls=starttls)
    line = world.delivered(domain)
    if starttls:
        assert line["tls"].endswith(" unverified")
    else:
        assert "tls" not in line


def test_a_route_that_says_dane_has_others_as_well(make_world):
    """Only who publishes records is asked for them."""
    world = make_world(tls="dane", starttls=False)
    for domain in "d-bare.dane.test", "own.plain.test", "plain.test":
        assert "tls" not in world.delivered(domain)


def test_no_records_are_asked_for_where_they_count_for_nothing(make_world, place, resolver):
    """RFC 7672 §2.2.2: servers that choke on TLSA questions stand in unsigned zones."""
    with BrokenDns(upstream=resolver) as dns:
        world = make_world(dns)
        for domain in "own.plain.test", "plain.test", "ee.plain.test", "d-outside.dane.test":
            world.delivered(domain)
        assert not dns.count(kind="TLSA")
        world.delivered("d-ee.dane.test")
        assert dns.count(kind="TLSA") == 1


@pytest.mark.parametrize("order",
                         [("ee.plain.test", "d-ee.dane.test"), ("d-ee.dane.test", "ee.plain.test")])
def test_signed_and_unsigned_do_not_share_a_connection(make_world, order):
    """The same host for both. What has been proved for one is not what the other was sent by."""
    world = make_world()
    for _ in range(2):
        for domain in order:
            assert world.delivered(domain)["tls"].endswith(" dane") == domain.endswith("dane.test")
    messages = world.sinks[FIRST].wait(4)
    by_domain = {domain: {m.session for m in messages if m.recipients[0].endswith("@" + domain)}
                 for domain in order}
    assert not by_domain[order[0]] & by_domain[order[1]]


def test_two_signed_domains_share_a_connection(make_world):
    world = make_world()
    for domain in "d-ee.dane.test", "d-ee2.dane.test":
        assert world.delivered(domain)["tls"].endswith(" dane")
    assert len({message.session for message in world.sinks[FIRST].wait(2)}) == 1


def test_a_restart_forgets_nothing(make_world):
    """That the MX records were secure is kept with the hosts."""
    world = make_world()
    message_id = world.send("d-wrong.dane.test")
    world.tramd.wait_log(event="site-backoff")
    world.tramd.restart()
    first = len(world.tramd.events(event="host-failed"))
    line = world.tramd.wait_log(event="host-failed", count=first + 1)
    assert "certificate is not good" in line["reply"] and message_id in world.tramd.queue_ids()
    assert not world.sinks[FIRST].messages


# ---- routes

def test_a_route_to_a_named_host(make_world, place):
    """No MX record is asked: the host's own zone decides."""
    static = {"good.test": {"deliver": "smtp:[first.dane.test]:%d" % place.port},
              "bad.test": {"deliver": "smtp:[wrong.dane.test]:%d" % place.port},
              "sick.test": {"deliver": "smtp:[sick.dane.test]:%d" % place.port},
              "open.test": {"deliver": "smtp:[host.plain.test]:%d" % place.port}}
    world = make_world(routes=static)
    assert world.delivered("good.test")["tls"].endswith(" dane")
    assert world.delivered("open.test")["tls"].endswith(" unverified")
    for name, why in ("bad", "certificate is not good"), ("sick", "look-up of TLSA"):
        message_id = world.send(name + ".test")
        line = world.tramd.wait_log(event="host-failed", site=re.compile(
            {"bad": "wrong", "sick": "sick"}[name] + ".dane.test"))
        assert why in line["reply"] and message_id in world.tramd.queue_ids()
    assert len(world.sinks[FIRST].messages) == 2


@pytest.mark.parametrize("tls, seen",
                         [("off", None), ("may", " unverified"), ("required", " unverified")])
def test_a_route_that_does_not_ask_is_not_told(make_world, tls, seen):
    world = make_world(tls=tls)
    line = world.delivered("d-wrong.dane.test")
    assert "tls" not in line if seen is None else line["tls"].endswith(seen)


def test_a_reload_from_auto_to_off(make_world):
    """What waits for a better certificate goes in plain, if the operator says so."""
    world = make_world(tls="auto")
    world.waits("d-wrong.dane.test")
    world.change("tls = auto", "tls = off")
    assert world.sinks[FIRST].wait(1)[0].tls is None


def test_a_reload_from_off_to_auto(make_world):
    world = make_world(tls="off")
    assert "tls" not in world.delivered("d-ee.dane.test")
    world.change("tls = off", "tls = auto")
    world.tramd.wait_log(event="reload")
    assert world.delivered("d-ee.dane.test")["tls"].endswith(" dane")


# ---- the resolver

def test_no_dane_by_a_resolver_that_does_not_validate(make_world, nsd):
    """A route that says dane waits, in words; it goes once there is a better resolver, and nothing
    has been sent before."""
    world = make_world(nsd, trust="does not validate DNSSEC: no AD for the signed name dane.test",
                       tls="dane")
    assert "not known to validate" in world.waits("d-ee.dane.test")
    assert not any(sink.sessions for sink in world.sinks.values())


def test_it_goes_once_the_resolver_validates(make_world, resolver):
    with without_ad(resolver) as stripped:
        world = make_world(stripped, trust="does not validate", tls="dane")
        world.waits("d-ee.dane.test")
        assert not world.sinks[FIRST].sessions
        world.change(stripped.address, resolver.address)
        world.trusts("validates")
        assert world.sinks[FIRST].wait(1)[0].tls == "TLSv1.3"
        assert world.tramd.wait_log(event="delivery")["tls"].endswith(" dane")


def test_by_itself_it_goes_without_dane(make_world, nsd):
    """The default is the strongest that can be had; that this is not DANE stands in the log from
    the start."""
    world = make_world(nsd, trust="does not validate")
    assert world.tramd.wait_log(event="resolver-trust")["level"] == "warning"
    assert world.delivered("d-wrong.dane.test")["tls"].endswith(" unverified")


def test_a_resolver_that_answers_for_the_bogus_name(make_world, nsd, resolver):
    """It says AD, but lets through what it should refuse."""
    with BrokenDns("bogus.dane.test A 127.0.1.1", upstream=resolver) as dns:
        world = make_world(dns, trust="does not validate DNSSEC: it answers for the bogus name",
                           tls="dane")
        world.waits("d-ee.dane.test")


def test_a_silent_resolver_is_no_proof(make_world, resolver):
    """The tests' names are not answered: not DANE. They are, later: the route that waited goes on
    after a reload."""
    with BrokenDns(upstream=resolver, rules={("dane.test", "A"): "silence"}) as dns:
        world = make_world(dns, trust=None, tls="dane",
                           extra="resolver-timeout = 300ms\nresolver-tries = 2\n")
        assert "not known to validate" in world.waits("d-ee.dane.test")
        dns.rules.clear()
        world.tramd.reload()
        world.trusts("validates")
        assert world.sinks[FIRST].wait(1)[0].tls == "TLSv1.3"


@pytest.mark.parametrize("tls", ["auto", "dane"])
def test_until_the_resolver_is_tested_mail_waits(make_world, resolver, tls):
    """Or a restart would be a moment without DANE."""
    with BrokenDns(upstream=resolver, rules={("dane.test", "A"): "slow:1"}) as dns:
        world = make_world(dns, trust=None, tls=tls)
        ids = [world.send("d-wrong.dane.test"), world.send("d-ee.dane.test"),
               world.send("own.plain.test")]
        world.trusts("validates")
        for message_id in ids[1:]:
            world.tramd.wait_log(event="final", id=message_id)
        assert "certificate is not good" in world.tramd.wait_log(event="host-failed")["reply"]
        assert not [line for line in world.tramd.events(event="delivery") if line["id"] == ids[0]]
        assert world.tramd.events(event="delivery", id=ids[1])[0]["tls"].endswith(" dane")


def test_stopped_before_the_resolver_was_tested(make_world, resolver):
    """Nothing is lost; the next start finds it."""
    hold = threading.Event()

    def late(query):
        return None if not hold.is_set() else ask_raw(resolver.endpoint, query.raw, query.tcp, 5)
    with BrokenDns(upstream=resolver, rules={("dane.test", "A"): late}) as dns:
        world = make_world(dns, trust=None)
        world.send("d-ee.dane.test")
        dns.wait_for("dane.test", "A")
        world.tramd.stop()
        assert not world.sinks[FIRST].sessions
        hold.set()
        world.tramd.start()
        assert world.tramd.wait_log(event="delivery")["tls"].endswith(" dane")


def test_by_itself_it_goes_when_the_test_is_not_answered(make_world, resolver):
    """There is an end to waiting, and the log says what came of it."""
    with BrokenDns(upstream=resolver, rules={("dane.test", "A"): "silence"}) as dns:
        world = make_world(dns, trust=None, extra="resolver-timeout = 300ms\nresolver-tries = 2\n")
        assert world.delivered("d-wrong.dane.test")["tls"].endswith(" unverified")
        assert world.trusts("could not be tested")["level"] == "warning"


def test_what_waits_for_dane_does_not_hold_up_others(make_world, resolver, place):
    with BrokenDns(upstream=resolver, rules={("dane.test", "A"): "silence"}) as dns:
        world = make_world(dns, trust=None, tls="dane",
                           extra="resolver-timeout = 300ms\nresolver-tries = 2\n",
                           routes={"easy.test": {"deliver": "smtp:[%s]:%d" % (SECOND, place.port)},
                                   "d-bare.dane.test": {"deliver": "mx:%d" % place.port,
                                                        "tls": "may"}})
        message_id = world.send("d-ee.dane.test")
        world.delivered("easy.test")
        world.delivered("d-bare.dane.test")
        assert message_id in world.tramd.queue_ids()


def test_a_reload_forgets_no_proof(make_world, resolver):
    """The same resolver, the same names: nothing is asked again, and nothing waits."""
    with BrokenDns(upstream=resolver) as dns:
        world = make_world(dns)
        dns.rules[("dane.test", "A")] = "silence"
        world.tramd.reload()
        world.tramd.wait_log(event="reload")
        assert world.delivered("d-ee.dane.test")["tls"].endswith(" dane")
        assert dns.count("dane.test", "A") == 1


def test_without_a_test_there_is_no_dane(make_world, resolver):
    """A route that asks for it all the same is refused: tests/config/bad/route-dane-off.conf."""
    world = make_world(test='resolver-test = "off"\n', trust=None)
    assert world.delivered("d-ee.dane.test")["tls"].endswith(" unverified")


def test_dane_goes_before_mta_sts(make_world, ca):
    """The policy lists another host, but the host's own key is published (RFC 8461 §2). Where it is
    not the policy holds."""
    needs_port_443("127.0.3.1")
    pair = ca.sign("policies", ["mta-sts.d-sts.dane.test", "mta-sts.d-stsonly.dane.test"])
    with HttpsHost(*pair, host="127.0.3.1", port=443) as policies:
        policies.answers["/.well-known/mta-sts.txt"] = Answer(
            200, "text/plain", b"version: STSv1\nmode: enforce\nmx: mx.elsewhere.test\nmax_age: "
                               b"86400\n")
        world = make_world(extra='delivery-ca = "%s"\n' % ca.path)
        line = world.delivered("d-sts.dane.test")
        assert line["tls"].endswith(" dane") and line["tls_policy"] == "dane"
        assert world.tramd.wait_log(event="sts-policy",
                                    domain="d-sts.dane.test")["mode"] == "enforce"
        world.send("d-stsonly.dane.test")
        line = world.tramd.wait_log(event="host-failed", host="host.plain.test")
        assert "MTA-STS policy does not list" in line["reply"]
        assert len(world.sinks[FIRST].messages) == 1


# ---- told (RFC 8460)

def test_what_is_counted_for_reports(make_world):
    """Each domain's sessions by what its records say, and what came of it."""
    world = make_world(extra='tls-report-contact = "tls@relay.test"\n')
    for domain in ("d-ee", "d-unusable", "own.plain"):
        world.delivered(domain + (".test" if "plain" in domain else ".dane.test"))
    for domain, host in (("d-wrong", "wrong"), ("d-misnamed", "misnamed"), ("d-sick", "sick")):
        world.send(domain + ".dane.test")
        world.tramd.wait_log(event="host-failed", host=host + ".dane.test")
    world.tramd.stop()                                  # so that nothing more is tried
    world.tramd.start()
    rows = {row["domain"]: row for row in world.tramd.ctl_json_lines("tls-reports")}
    found = {domain.split(".")[0]: (row["policy"], row["successes"], row["failures"] > 0,
                                    " ".join(re.findall("[a-z-]{2,}", row["results"])))
             for domain, row in rows.items()}
    assert found == {"d-ee": ("tlsa", 1, False, ""),
                     "d-unusable": ("tlsa", 0, True, "tlsa-invalid"),
                     "own": ("no-policy-found", 1, False, ""),
                     "d-wrong": ("tlsa", 0, True, "tlsa-invalid"),
                     "d-misnamed": ("tlsa", 0, True, "certificate-host-mismatch"),
                     "d-sick": ("tlsa", 0, True, "dnssec-invalid")}
    assert rows["d-ee.dane.test"]["policy_lines"][0].startswith("3 1 1 ")
    assert rows["d-sick.dane.test"]["failure_details"][0]["host"] == "sick.dane.test"


@pytest.mark.parametrize("relay", [True, False])
def test_the_name_of_the_domain(make_world, relay):
    """RFC 7672 §3.2.2: a certificate of the authority may name the domain whose MX was asked for.
    Where that is a relay of the route a connection is for nobody else; sites that domains share
    want the host's own name."""
    world = make_world(**({"deliver": "smtp:[nobody.dane.test]:1, smtp:d-named.dane.test:%d"}
                          if relay else {}))
    if relay:
        assert world.delivered("d-ee.dane.test")["tls"].endswith(" dane")
    else:
        assert "certificate is not good" in world.waits("d-named.dane.test")


# ---- what the message asks for (RFC 8689)

TO_REQUIRETLS = ("REQUIRETLS",)


def send_securely(world, secure_port, domain, options=TO_REQUIRETLS):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", secure_port) as client:
        client.starttls(context=context)
        client.ehlo()
        client.sendmail("a@back.test", ["b@" + domain], DATA, mail_options=list(options))


@pytest.fixture
def make_private(make_world, make_sink, pair, ca):
    """A world whose tramd takes REQUIRETLS, and whose hosts offer it; back: where reports go."""
    def make(**how):
        back, port = make_sink(), free_port_on(["127.0.0.1"])
        extra = certificate("mail",
                            [pair]) + "delivery-ca = %s\nlistener tls { address = \"127.0.0.1:%d\" }\n" % (
                                quoted(ca.path), port)
        world = make_world(extra=extra, routes={"back.test": "smtp:[127.0.0.1]:%d" % back.port},
                           **how)
        world.back, world.secure_port = back, port
        for sink in world.sinks.values():
            sink.tls_features = TO_REQUIRETLS
        return world
    return make


@pytest.mark.parametrize("domain, tls", [("d-ee", "auto"), ("d-ta", "may"), ("implicit", "verify")])
def test_requiretls_by_dane(make_private, domain, tls):
    world = make_private(tls=tls)
    send_securely(world, world.secure_port, domain + ".dane.test")
    assert "REQUIRETLS" in world.sinks[FIRST].wait(1)[0].mail_params
    assert world.tramd.wait_log(event="delivery", fate="delivered")["tls"].endswith(" dane")


def test_requiretls_by_a_signed_mx_and_a_ca(make_private):
    """No TLSA record, but a name that is signed for, and a certificate of that name."""
    world = make_private()
    send_securely(world, world.secure_port, "d-ca.dane.test")
    assert "REQUIRETLS" in world.sinks[FIRST].wait(1)[0].mail_params
    assert world.tramd.wait_log(event="delivery", fate="delivered")["tls"].endswith(" verified")


def test_requiretls_where_nothing_says_who_the_host_is(make_private):
    world = make_private()
    send_securely(world, world.secure_port, "own.plain.test")
    assert b"Status: 5.7.30" in world.back.wait(1)[0].data
    world.tramd.wait_empty()
    assert not world.sinks[FIRST].commands("MAIL")


def test_requiretls_waits_for_the_right_host(make_private):
    world = make_private()
    send_securely(world, world.secure_port, "d-wrong.dane.test")
    assert "certificate is not good" in world.tramd.wait_log(event="host-failed")["reply"]
    assert not world.sinks[FIRST].commands("MAIL") and world.tramd.queue_ids()


@pytest.mark.parametrize("tls", ["auto", "dane"])
def test_tls_required_no_waives_what_is_published_alone(make_world, tls):
    """To the same host, at the same time: one goes whoever it is, the other one waits; the
    operator's word stands."""
    world = make_world(tls=tls)
    waived = world.tramd.send(b"TLS-Required: No\r\n" + DATA, to="b@d-wrong.dane.test")
    kept = world.send("d-wrong.dane.test")
    if tls == "auto":
        line = world.tramd.wait_log(event="delivery", id=waived)
        assert line["fate"] == "delivered" and line["tls"].split()[-1] != "dane"
    site = re.compile("" if tls == "auto" else "tls-required=no")
    world.tramd.wait_log(event="site-backoff", site=site)
    assert world.tramd.queue_ids() == sorted([kept] + ([] if tls == "auto" else [waived]))


def test_a_report_gets_through_where_tls_fails(make_world):
    """It says itself that TLS does not matter to it (RFC 8460 §3, RFC 8689); mail to the same host
    waits."""
    world = make_world(extra='tls-report-contact = "tls@relay.test"\n')
    world.waits("d-wrong.dane.test")
    told = world.tramd.ctl("tls-reports", "send")
    assert told.startswith("1 reports were handed over"), told
    (report,) = world.sinks[FIRST].wait(1)
    assert (report.recipients == ["tls@d-wrong.dane.test"] and report.sender == ""
            and b"TLS-Required: No" in report.headers)
    wait_for(lambda: len(world.tramd.queue_ids()) == 1, what="the report is gone, the mail waits")
