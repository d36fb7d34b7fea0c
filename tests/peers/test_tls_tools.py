"""What the operator is told about TLS: with each try in explain, and by tls-check and
dns-records."""
import json
import threading

import pytest

import dnssec
from certificates import certificate
from conftest import FAST
from dnssec import SignedNsd, Unbound, spki_digest
from harness import free_port, quoted, wait_for
from sink import DROP
from steering import BODY, NEVER, rows, start_tool
from test_dane import (FIRST, SECOND, make_world, nsd, place,
                       resolver)		# noqa: F401 (fixtures)


@pytest.mark.quick
def test_explain_has_the_tls_of_each_try(make_tramd, make_sink, ca, tmp_path):
    """In JSON, in words, and in an archive that another queue takes."""
    sink = make_sink(tls=ca.sign("mx", ["mx.dst.test"]))
    sink.rule("RCPT", "450 4.2.1 mailbox busy")
    routes = {"*": {"deliver": "smtp:[127.0.0.1]:%d" % sink.port, "tls": "verify",
                    "tls-names": '"mx.dst.test"'}}
    tramd = make_tramd(routes=routes, queue=NEVER, extra="delivery-ca = %s\n" % quoted(ca.path))
    id = tramd.send(BODY, to=["a@dst.test"])
    line = tramd.wait_log(event="delivery", id=id)
    assert (line["tls"].startswith("TLSv1.3 TLS_") and line["tls"].endswith(" verified")
            and line["tls_policy"] == "route")
    wait_for(lambda: "mailbox busy" in tramd.ctl("explain", id), what="explain has the reply")
    first = rows(tramd, "explain", id)[1]["tries"][0]
    assert (first["tls"] == line["tls"] and first["tls_policy"] == "route"
            and "tls_resumed" not in first)
    assert "TLS: %s, by policy: route\n" % line["tls"] in tramd.ctl("explain", id)
    archive = str(tmp_path / "archive")
    tramd.ctl("queue", "export", archive)
    other = make_tramd(routes=routes, queue=NEVER)
    other.ctl("queue", "import", archive)
    new = rows(other, "queue", "list")[0]["id"]
    assert rows(other, "explain", new)[1]["tries"][0] == first


def test_explain_of_a_plain_try_says_nothing_of_tls(make_tramd, sink):
    sink.rule("RCPT", "450 4.2.1 mailbox busy")
    tramd = make_tramd(static=sink, queue=NEVER)
    id = tramd.send(BODY, to=["a@dst.test"])
    wait_for(lambda: "mailbox busy" in tramd.ctl("explain", id), what="explain has the reply")
    assert not {"tls", "tls_policy"} & set(rows(tramd, "explain", id)[1]["tries"][0])


# ---- resumption

def again(tramd, sink, to="a@dst.test"):
    """Another message on another connection; the delivery line, and was it resumed, as both sides
    see it?"""
    got = len(sink.messages)
    line = tramd.wait_log(event="delivery", id=tramd.send(BODY, to=[to]))
    message = sink.wait(got + 1)[got]
    assert line["fate"] == "delivered" and (line.get("tls_resumed") == "yes") == message.resumed
    return line, message.resumed


@pytest.fixture
def make_resuming(make_tramd, ca):
    """make_resuming(sink, …): each message takes its own connection there."""
    def make(sink, extra="", **route):
        settings = route or {"tls": "verify", "tls-names": '"mx.dst.test"'}
        return make_tramd(routes={"*": dict(settings, deliver="smtp:[127.0.0.1]:%d" % sink.port)},
                          queue=FAST,
                          limits={"messages-per-connection": "1"},
                          extra="delivery-ca = %s\n%s" % (quoted(ca.path), extra))
    return make


@pytest.fixture
def tls_sink(make_sink, ca):
    return make_sink(tls=ca.sign("mx", ["mx.dst.test", "other.dst.test"]))


@pytest.mark.quick
def test_the_next_connection_resumes_what_was_verified(make_resuming, tls_sink):
    """What its first handshake has found stands; another policy, or a reload, and it is a full one
    again."""
    tramd = make_resuming(tls_sink)
    seen = [again(tramd, tls_sink) for _ in range(3)]
    assert [resumed for _, resumed in seen] == [False, True, True]
    assert len({line["tls"] for line, _ in seen}) == 1 and seen[0][0]["tls"].endswith(" verified")
    tls_sink.rule("RCPT", "450 4.2.1 later", times=1)
    id = tramd.send(BODY, to=["a@dst.test"])
    assert tramd.wait_log(event="delivery", id=id)["tls_resumed"] == "yes"
    tls_sink.wait(4)
    tramd.reload()
    assert [again(tramd, tls_sink)[1] for _ in range(2)] == [False, True]
    with open(tramd.config_path, encoding="utf-8") as f:
        text = f.read()
    tramd.write_config(text.replace('"mx.dst.test"', '"other.dst.test"'))
    tramd.reload()
    assert [again(tramd, tls_sink)[1] for _ in range(2)] == [False, True]


@pytest.mark.parametrize("extra",
                         ["delivery-tls-sessions = 0", "delivery-tls-session-lifetime = 1s"])
def test_no_session_is_resumed_beyond_its_time(make_resuming, tls_sink, extra):
    tramd = make_resuming(tls_sink, extra + "\n")
    again(tramd, tls_sink)
    if "lifetime" in extra:			# no resumption prolongs it
        wait_for(lambda: not again(tramd, tls_sink)[1], what="a full handshake", timeout=60)
    else:
        assert not again(tramd, tls_sink)[1]


def test_two_routes_never_share_a_session(make_tramd, tls_sink, ca):
    """The same host and port: one route verifies it, the other does not."""
    deliver = "smtp:[127.0.0.1]:%d" % tls_sink.port
    tramd = make_tramd(routes={"dst.test": {"deliver": deliver, "tls": "verify",
                                            "tls-names": '"mx.dst.test"'},
                               "*": {"deliver": deliver, "tls": "required"}},
                       queue=FAST, limits={"messages-per-connection": "1"},
                       extra="delivery-ca = %s\n" % quoted(ca.path))
    assert [again(tramd, tls_sink, to)[1] for to in ("a@src.test", "a@dst.test", "a@src.test",
                                                     "a@dst.test")] == [False, False, True, True]


def test_what_failed_its_proof_is_not_resumed(make_resuming, make_sink, ca, tls_sink):
    """Each try is a full handshake, so that a certificate that was mended is seen at once."""
    bad, good = ca.sign("bad", ["elsewhere.test"]), ca.sign("mended", ["mx.dst.test"])
    sink = make_sink(tls=bad)
    tramd = make_resuming(sink)
    id = tramd.send(BODY, to=["a@dst.test"])
    tramd.wait_log(event="host-failed")
    sink.context.load_cert_chain(*good)
    assert tramd.wait_log(event="delivery", id=id)["fate"] == "delivered"


def test_a_host_that_cannot_resume_is_met_afresh(make_resuming, tls_sink):
    """It hangs up when a session is offered: the same address is called again, and nothing goes in
    plain text."""
    tramd = make_resuming(tls_sink, tls="may")
    again(tramd, tls_sink)
    tls_sink.rule("TLS", DROP, times=1)
    line, resumed = again(tramd, tls_sink)
    assert not resumed and line["tls"].startswith("TLSv1.3")


# ---- tls-check

def check(tramd, *goal):
    """(exit status, rows)"""
    done = tramd.ctl("tls-check", *goal, "--json", check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()][:-1]


def step(found, name, host=None):
    """The last row of this step."""
    return [row for row in found if row["step"] == name
            and (host is None or row.get("host") == host)][-1]


@pytest.mark.quick
def test_check_of_a_domain_with_dane(make_world):
    """Both of its hosts, each with all that it shows; no mail is said, and a delivery goes where it
    was said to go."""
    world = make_world(tls="dane")
    status, found = check(world.tramd, "d-ee.dane.test")
    assert status == 0, found
    assert step(found, "resolver")["text"] == "validates DNSSEC"
    assert step(found, "mx")["secure"] and step(found, "mx")["hosts"] == ["first.dane.test"]
    assert step(found, "mta-sts")["verdict"] == "note"
    dane = step(found, "dane", "first.dane.test")
    assert (dane["verdict"] == "good" and len(dane["records"]) == 1
            and dane["records"][0].startswith("3 1 1 "))
    assert step(found, "policy")["policy"] == "dane" and step(found, "policy")["enforced"]
    assert step(found, "addresses")["text"] == FIRST
    assert step(found, "tls")["version"] == "TLSv1.3" and step(found, "tls")["group"]
    leaf = [row for row in found if row["step"] == "certificate"][0]
    assert (leaf["names"].startswith("authority.dane.test, ")
            and leaf["spki_sha256"] == dane["records"][0][6:])
    assert step(found, "verified")["verified"] == "dane"
    assert step(found,
                "result")["text"] == "mail would go to first.dane.test, with TLS, verified by DANE"
    assert world.delivered("d-ee.dane.test")["host"] == "first.dane.test"
    text = world.tramd.ctl("tls-check", "d-ee.dane.test")
    assert "first.dane.test\n" in text and "good  verified     verified by DANE\n" in text
    assert [line.split(" ")[0] for line in world.sinks[FIRST].lines_of(1)] == ["EHLO", "STARTTLS",
                                                                               "EHLO", "QUIT"]


def test_check_tells_which_host_is_wrong(make_world):
    """The first host's records name another key: mail would go to the second; a monitor sees status
    1."""
    world = make_world()
    status, found = check(world.tramd, "d-next.dane.test")
    assert status == 1
    assert step(found, "verified", "wrong.dane.test")["verdict"] == "bad"
    assert "its certificate is not good" in step(found, "tls", "wrong.dane.test")["text"]
    assert step(found, "delivery", "second.dane.test")["verdict"] == "good"
    assert step(found,
                "result")["verdict"] == "note" and "would go to second.dane.test" in step(found, "result")["text"]
    assert world.delivered("d-next.dane.test")["host"] == "second.dane.test"


@pytest.mark.parametrize("domain,host,name,text", [
    ("d-wrong", "wrong", "verified", ""), ("d-sick", "sick", "dane", "the look-up of TLSA"),
    ("d-unusable", "unusable", "dane", ""), ("d-sickmx", None, "mx", "SERVFAIL")])
def test_check_of_what_is_bad(make_world, domain, host, name, text):
    status, found = check(make_world().tramd, domain + ".dane.test")
    row = step(found, name, host and host + ".dane.test")
    assert status == 1 and row["verdict"] == "bad" and text in row["text"]


def check_host(make_tramd, ca, port, extra=""):
    tramd = make_tramd(static=("127.0.0.1", port),
                       extra="delivery-ca = %s\n%s" % (quoted(ca.path), extra))
    return check(tramd, "--host", "127.0.0.1:%d" % port)


def test_check_of_a_host_as_a_route_asks(make_tramd, make_sink, ca):
    """What must be verified: good, wrong name, expired, an unknown authority, none at all; nobody
    there."""
    pairs = {"good": ca.sign("c-good", ["mx.dst.test"]),
             "name": ca.sign("c-name", ["elsewhere.test"]),
             "expired": ca.sign("c-old", ["mx.dst.test"], days=-1), "plain": None}
    sinks = {name: make_sink(tls=pair) for name, pair in pairs.items()}
    ports = dict({name: sink.port for name, sink in sinks.items()}, nobody=free_port())
    tramd = make_tramd(routes={name + ".test": {"deliver": "smtp:[127.0.0.1]:%d" % port,
                                                "tls": "verify",
                                                "tls-names": '"mx.dst.test"'}
                               for name, port in ports.items()},
                       extra="delivery-ca = %s\n" % quoted(ca.path))
    status, found = check(tramd, "good.test")
    assert status == 0 and step(found,
                                "verified")["verified"] == "verified" and step(found, "policy")["policy"] == "route"
    wanted = {"name": ("verified", "mismatch"), "expired": ("verified", "expired"),
              "plain": ("tls", "STARTTLS"), "nobody": ("connect", "refused")}
    for name, (where, what) in wanted.items():
        status, found = check(tramd, name + ".test")
        row = step(found, where)
        assert status == 1 and row["verdict"] == "bad" and what in row["text"], (name, found)
        assert step(found, "result")["verdict"] == "bad"
    assert "expired on" in [row for row in check(tramd, "expired.test")[1]
                            if row["step"] == "certificate"][0]["text"]
    # no route asks for more
    status, found = check(tramd, "--host", "127.0.0.1:%d" % ports["plain"])
    assert status == 0 and "STARTTLS is not offered" in step(found, "tls")["text"]
    assert "in plain text" in step(found, "result")["text"]
    sinks["good"].rule("TLS", DROP)
    status, found = check(tramd, "--host", "127.0.0.1:%d" % ports["good"])
    assert status == 1 and "in plain text" in step(found, "result")["text"]
    for sink in sinks.values():
        assert not sink.commands("MAIL")


def test_check_of_several_smarthosts(make_tramd, make_sink, ca):
    """Each of them is looked at, though mail goes to the first: the others must do when that one
    does not."""
    good, other = ca.sign("s-good", ["mx.dst.test"]), ca.sign("s-other", ["elsewhere.test"])
    sinks = [make_sink(tls=pair) for pair in (good, other, good, None)]
    hosts = ["127.0.0.1:%d" % port for port in [sink.port for sink in sinks] + [free_port()]]
    tramd = make_tramd(routes={"*": {"deliver": ", ".join("smtp:[127.0.0.1]" + host[9:]
                                                          for host in hosts),
                                     "tls": "verify", "tls-names": '"mx.dst.test"'}},
                       extra="delivery-ca = %s\n" % quoted(ca.path),
                       limits={"addresses-per-attempt": "2"})
    status, found = check(tramd, "dst.test")
    assert status == 1 and "to the hosts it names" in step(found, "route")["text"]
    assert step(found, "verified", hosts[1])["verdict"] == "bad"
    assert "STARTTLS" in step(found, "tls",
                              hosts[3])["text"] and "refused" in step(found, "connect",
                                                                      hosts[4])["text"]
    assert [row["host"] for row in found if row["step"] == "delivery"] == [hosts[0], hosts[2]]
    assert "would go to " + hosts[0] in step(found, "result")["text"]
    for sink in sinks:
        assert not sink.commands("MAIL")


def test_a_check_changes_nothing_for_mail(make_tramd, tls_sink):
    """Its failed handshake is not remembered against the host, as one of a delivery is."""
    tramd = make_tramd(static=tls_sink)
    tls_sink.rule("TLS", DROP, times=1)
    assert check(tramd, "dst.test")[0] == 1
    tramd.send(BODY)
    assert tls_sink.wait(1)[0].tls == "TLSv1.3"


def test_check_when_dns_is_down(make_tramd):
    tramd = make_tramd(routes={"*": {"deliver": "mx"}}, resolver="127.0.0.1:%d" % free_port())
    status, found = check(tramd, "dst.test")
    assert status == 1 and step(found,
                                "mx")["verdict"] == "bad" and step(found,
                                                                   "mta-sts")["verdict"] == "bad"


def test_check_of_nonsense(make_tramd, sink):
    tramd = make_tramd(static=sink, routes={"gone.test": "discard"})
    for goal in (["*.test"], ["--host", "a b:25"], ["--host", "mx.test:0"]):
        assert tramd.ctl("tls-check", *goal, check=False).returncode == 1
    for goal in ([], ["a.test", "--host", "mx.test:25"]):
        assert tramd.ctl("tls-check", *goal, check=False).returncode == 2
    status, found = check(tramd, "gone.test")
    assert status == 1 and "discards" in step(found, "route")["text"]


def test_a_check_does_not_hold_up_the_stop(make_tramd, make_sink):
    """The host says nothing; the operator goes away, and another one waits when the server is
    stopped."""
    sink = make_sink()
    late = threading.Event()
    sink.rule("BANNER", "220 late", hold=late)
    tramd = make_tramd(static=sink)
    tools = [start_tool(tramd, "tls-check", "--host", "127.0.0.1:%d" % sink.port) for _ in range(2)]
    wait_for(lambda: sink.sessions == 2, what="both have called")
    tools[0].kill()
    tools[0].communicate()
    tramd.stop()
    late.set()
    tools[1].communicate()


# ---- dns-records

PUBLISHED = """published-mta-sts = testing
published-mta-sts-max-age = 1d
published-tlsrpt = "mailto:tls@pub.test"
resolver-test = "off"
"""


@pytest.fixture
def own_zones():
    """pub.test is signed and open.test is not; mail for both comes to mx.pub.test."""
    if dnssec.missing():
        pytest.skip("needs the program " + dnssec.missing())
    zones = {"pub.test": "mx A 127.0.0.1\n", "open.test": "@ MX 10 mx.pub.test.\n"}
    with SignedNsd(zones, signed=["pub.test"]) as nsd:
        with Unbound(nsd) as resolver:
            yield nsd, resolver


def records(tramd, domain="pub.test"):
    """(exit status, what it prints, [(record, state)])"""
    done = tramd.ctl("dns-records", domain, "--json", check=False)
    assert done.returncode in (0, 1), done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()][:-1]
    text = tramd.ctl("dns-records", domain, check=False).stdout.decode("utf-8")
    return done.returncode, text, [(row["record"], row.get("state")) for row in found]


@pytest.mark.quick
def test_what_is_printed_can_be_pasted(make_secure, ca, own_zones):
    """All is missing; pasted as it is, all is there; with another key on the way, that one's record
    is missing."""
    nsd, resolver = own_zones
    pair, coming = ca.sign("pub", ["mx.pub.test"]), ca.sign("coming", ["mx.pub.test"])
    other = ca.sign("unused", ["other.test"])
    tramd = make_secure(certificate("other", [other]) + certificate("mail", [pair]),
                        hostname="mx.pub.test", resolver=resolver.address, extra=PUBLISHED)
    status, text, found = records(tramd)
    assert status == 1
    assert found == [("mx", "missing"), ("tlsa", "missing"), ("mta-sts", "missing"),
                     ("tlsrpt", "missing"), ("policy-file", None)]
    assert "_25._tcp.mx.pub.test. IN TLSA 3 1 1 %s ; EC 256, %s\n" % (spki_digest(pair[0]),
                                                                      pair[0]) in text
    assert ";\tversion: STSv1\n;\tmode: testing\n;\tmx: mx.pub.test\n;\tmax_age: 86400\n" in text
    nsd.set_zone("pub.test", "mx A 127.0.0.1\n" + text)
    wait_for(lambda: records(tramd)[0] == 0, what="all is published")
    assert {state for _, state in records(tramd)[2]} == {"there", None}
    with open(tramd.config_path, encoding="utf-8") as f:
        config = f.read()
    section = certificate("mail", [pair])
    assert section in config
    tramd.write_config(config.replace(section,
                                      section[:-2] + "\tnext-key = %s\n}\n" % quoted(coming[1])))
    tramd.reload()
    status, text, found = records(tramd)
    assert status == 1 and found[1:3] == [("tlsa", "there"), ("tlsa", "different")]
    assert "TLSA 3 1 1 %s ; EC 256, %s (the next key)\n" % (spki_digest(coming[0]),
                                                            coming[1]) in text


def test_records_in_a_zone_that_is_not_signed(make_secure, ca, own_zones):
    nsd, resolver = own_zones
    pair = ca.sign("open", ["open.test"])
    nsd.set_zone("open.test", "@ MX 10 mx.else.test.\n@ A 127.0.0.1\n_25._tcp TLSA 3 1 1 %s\n"
                 % spki_digest(pair[0]))
    tramd = make_secure(certificate("mail", [pair]), hostname="open.test",
                        resolver=resolver.address, extra='resolver-test = "off"\n')
    wait_for(lambda: records(tramd, "open.test")[2] == [
        ("mx", "different"), ("tlsa", "there, but the zone is not signed")],
             what="what is wrong with each")


def test_records_when_dns_is_down_and_nothing_has_tls(make_tramd, sink):
    tramd = make_tramd(static=sink, hostname="mx.pub.test", resolver="127.0.0.1:%d" % free_port(),
                       extra="resolver-timeout = 200ms\nresolver-tries = 1\n")
    status, text, found = records(tramd)
    assert status == 1 and found == [("mx", "unknown: the look-up failed"), ("tlsa", None)]
    assert "no listener has TLS" in text
    for goal in ("[127.0.0.1]", "*.test"):
        assert tramd.ctl("dns-records", goal, check=False).returncode == 1
    assert tramd.ctl("dns-records", check=False).returncode == 2


def test_a_next_key_that_cannot_be_read(make_secure, ca, tmp_path):
    path = tmp_path / "next.key"
    path.write_text("nonsense")
    section = certificate("mail", [ca.sign("k", ["k.test"])])
    tramd = make_secure(section[:-2] + "\tnext-key = %s\n}\n" % quoted(str(path)), start=False)
    done = tramd.run_tool("tramd", "-n", check=False)
    assert done.returncode == 78 and b"next.key: not a readable key" in done.stderr
