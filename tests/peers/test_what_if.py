"""`tramctl what-if`: each line of the decision against what becomes of a real message to the same
address."""
import json
import smtplib
import subprocess
import time

import pytest

import test_dane
import test_mx
from dns_server import BrokenDns, Nsd
from harness import free_port, program, quoted, wait_for
from sink import FEATURES
from steering import BODY, NEVER, rows, start_tool
from test_dane import FIRST, SECOND, nsd, place, resolver		# noqa: F401 (fixtures)

STRANGER = "192.0.2.7"
SOURCES = {"a": "127.0.0.2", "b": "127.0.0.3", "c": "127.0.0.4"}
make_signed_world, make_mx_world = test_dane.make_world, test_mx.make_world


def what_if(tramd, to, *options):
    """(exit status, rows)"""
    done = tramd.ctl("what-if", "--to", to, *options, "--json", check=False)
    assert done.returncode in (0, 1), done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found[-1]["end"] and found[-1]["good"] == (done.returncode == 0)
    return done.returncode, found[:-1]


def steps(found, name):
    return [row for row in found if row["step"] == name]


def step(found, name):
    return steps(found, name)[-1]


# ---- the route

@pytest.mark.quick
def test_the_route_and_why_this_one(make_tramd, make_sink):
    """By pattern and sender: those that were passed over say why; mail goes where it was said to
    go."""
    sinks = {name: make_sink() for name in ("any", "shop", "anna", "wide")}
    to = {name: "smtp:[127.0.0.1]:%d" % sink.port for name, sink in sinks.items()}
    tramd = make_tramd(routes={"*": to["wide"],
                               "dst.test": [to["any"],
                                            {"deliver": to["shop"], "sender": '"shop.test"'},
                                            {"deliver": to["anna"], "sender": ["anna@src.test"]}]})
    for sender, name, others in (
            ("x@shop.test", "shop", {"asks for another sender": 1, "is less specific": 2}),
            ("x@else.test", "any", {"asks for another sender": 2, "is less specific": 1})):
        status, found = what_if(tramd, "b@DST.test", "--from", sender)
        assert status == 0 and steps(found,
                                     "policy")[0]["host"] == "127.0.0.1:%d" % sinks[name].port
        assert step(found, "route")["pattern"] == "dst.test"
        why = [row["why"] for row in steps(found, "not-route")]
        assert {word: why.count(word) for word in set(why)} == others
        assert "go to 127.0.0.1:%d at once" % sinks[name].port in step(found, "result")["text"]
        tramd.send(BODY, sender=sender, to="b@dst.test")
        sinks[name].wait(1)
    assert step(what_if(tramd, "b@dst.test", "--from", "x@shop.test")[1],
                "route")["sender"] == "shop.test"
    text = tramd.ctl("what-if", "--to", "b@dst.test", "--from", "x@shop.test")
    assert (text.startswith("note  client       a local program")
            and "\ngood  result       it would be taken, and go to" in text)
    status, found = what_if(tramd, "b@elsewhere.test")
    assert step(found, "route")["pattern"] == "*" and not steps(found, "not-route")
    assert step(found, "limit")["most"] == 500 and steps(found, "limit")[0]["most"] == 20


def test_a_route_that_takes_it_nowhere(make_tramd):
    tramd = make_tramd(routes={"gone.test": "discard",
                               "no.test": "reject:550 5.1.1 never heard of"})
    status, found = what_if(tramd, "b@gone.test")
    assert status == 0 and "discarded" in step(found, "result")["text"]
    status, found = what_if(tramd, "b@no.test")
    assert status == 1 and step(found, "rcpt")["text"] == "550 5.1.1 never heard of"
    assert step(found, "result")["text"] == "it would be refused"
    assert what_if(tramd, "b@lost.test")[1][-2]["text"] == "550 5.4.4 no route to this domain"


# ---- taken, or not

def refusal(tramd, sender, to, user=None, port=None):
    """What a real session is answered first that is no 250."""
    with smtplib.SMTP("127.0.0.1", port or tramd.port) as client:
        client.ehlo("src.test")
        if user:
            client.login(*user)
        for code, text in (client.mail(sender), client.rcpt(to)):
            if code >= 400:
                return "%d %s" % (code, text.decode())
    return None


def test_refusals_are_those_of_a_session(make_tramd, sink, ca, tmp_path):
    """A stranger, a user under a foreign name, who has not logged in, a suppressed recipient, and
    what is too large."""
    entry = subprocess.run([program("tramctl"), "password", "anna@src.test"], input=b"secret 1",
                           stdout=subprocess.PIPE, check=True).stdout
    (tmp_path / "passwords").write_bytes(entry)
    (tmp_path / "passwords").chmod(0o600)
    (tmp_path / "senders").write_text("anna@src.test: @src.test\n")
    users, strict = free_port(), free_port()
    extra = 'passwords = %s\nsenders = %s\nrelay-to = "here.test"\n' % (
        quoted(str(tmp_path / "passwords")), quoted(str(tmp_path / "senders")))
    for name, port, auth in (("users", users, "optional"), ("strict", strict, "required")):
        extra += ('listener %s { address = "127.0.0.1:%d" auth = %s auth-without-tls = yes }\n'
                  % (name, port, auth))
    tramd = make_tramd(static=sink, relay_from=(), extra=extra, limits={
        "user-messages-per-hour": 2, "message-size": "20000B", "error-delay": "0s"})
    tramd.ctl("suppress", "add", "gone@here.test", "--reason", "no such mailbox")
    anna = ("anna@src.test", "secret 1")
    for sender, to, options, how in (
            ("a@else.test", "b@dst.test", ["--client", STRANGER], {}),
            ("a@else.test", "gone@here.test", ["--client", STRANGER], {}),
            ("a@else.test", "b@dst.test", ["--user", anna[0], "--listener", "users"],
             {"user": anna, "port": users}),
            ("a@src.test", "b@dst.test", ["--client", STRANGER, "--listener", "strict"],
             {"port": strict})):
        status, found = what_if(tramd, to, "--from", sender, *options)
        real = refusal(tramd, sender, to, **how)
        refused = [row["text"] for row in found if row.get("code", 0) >= 400]
        assert status == 1 and refused == [real], found
    assert step(what_if(tramd, "gone@here.test")[1], "suppressed")["text"] == "no such mailbox"
    for sender, to, options, how in (
            ("a@else.test", "b@here.test", ["--client", STRANGER], {}),
            ("a@src.test", "b@dst.test", ["--user", anna[0]], {"user": anna, "port": users})):
        assert refusal(tramd, sender, to, **how) is None
        status, found = what_if(tramd, to, "--from", sender, *options)
        assert status == 0, found
    assert step(found,
                "client")["text"] == "listener smtp, client anywhere (not in relay-from), logged in as anna@src.test" or \
        "listener users" in step(found, "client")["text"]
    assert step(found, "user-limit")["text"] == "user-messages-per-hour: 0 of 2"
    with smtplib.SMTP("127.0.0.1", users) as client:
        client.login(*anna)
        for _ in range(2):
            client.sendmail("a@src.test", ["b@dst.test"], b"From: a@src.test\r\n\r\nx\r\n")
    status, found = what_if(tramd, "b@dst.test", "--from", "a@src.test", "--user", anna[0])
    assert status == 1 and step(found, "user-limit")["text"] == "user-messages-per-hour: 2 of 2"
    assert refusal(tramd, "a@src.test", "b@dst.test", anna, users).startswith("451 4.7.1")
    assert "552 5.3.4" in step(what_if(tramd, "b@dst.test", "--size", "20001")[1], "mail")["text"]
    assert what_if(tramd, "b@dst.test", "--size", "20000")[0] == 0


def test_a_sender_that_takes_no_mail(make_tramd, sink, mx_nsd):
    tramd = make_tramd(static=sink, relay_from=("192.0.2.0/24",), resolver=mx_nsd.address,
                       extra='check-sender = yes\nrelay-to = "here.test"\n')
    real = refusal(tramd, "a@null.mx.test", "b@here.test")
    status, found = what_if(tramd, "b@here.test", "--from", "a@null.mx.test", "--client",
                            "127.0.0.1")
    assert status == 1 and step(found,
                                "sender-mx")["text"] == real and real.startswith("550 5.7.27")
    assert what_if(tramd, "b@here.test", "--from", "a@null.mx.test", "--client",
                   "192.0.2.1")[0] == 0
    assert what_if(tramd, "b@here.test", "--from", "a@order.mx.test", "--client",
                   "127.0.0.1")[0] == 0


def test_what_cannot_be_asked(make_tramd, sink):
    tramd = make_tramd(static=sink)
    for options, why in ((["--to", "two words"], "no address"), (["--to", "a@b@c"], "no address"),
                         (["--to", "a@dst.test", "--client", "host"], "no IP address"),
                         (["--to", "a@dst.test", "--listener", "none"],
                          "no listener with that name"),
                         (["--to", "a@dst.test", "--listener", "local", "--user", "anna"],
                          "do not log in"),
                         (["--to", "a@dst.test", "--header", "X-Pool"], "no colon"),
                         (["--to", "a@dst.test", "--from", "b c"], "no address")):
        done = tramd.ctl("what-if", *options, check=False)
        assert done.returncode == 1 and why in done.stderr.decode(), done.stderr
    for options in ([], ["--to"], ["--to", "a@dst.test", "--size", "many"],
                    ["--to", "a@dst.test", "b@dst.test"]):
        assert tramd.ctl("what-if", *options, check=False).returncode == 2


# ---- hosts, TLS, login

@pytest.fixture(scope="module")
def mx_nsd():
    with Nsd({"mx.test": test_mx.ZONE, "relay.test": "@ A 127.0.0.1"}) as real:
        yield real


@pytest.mark.quick
def test_the_hosts_of_a_domain(make_mx_world, mx_nsd):
    """By preference, with their addresses; a domain without mail, and one that is not there."""
    world = make_mx_world(mx_nsd)
    status, found = what_if(world.tramd, "b@order.mx.test")
    assert status == 0 and step(found, "mx")["hosts"] == ["first.mx.test", "second.mx.test",
                                                          "third.mx.test"]
    assert [(row["host"], row["text"]) for row in steps(found, "addresses")] == [
        ("first.mx.test", FIRST), ("second.mx.test", SECOND), ("third.mx.test", "127.0.1.3")]
    assert "go to first.mx.test at once" in step(found, "result")["text"]
    assert not any(sink.sessions for sink in world.sinks.values())
    assert world.final("order")["outcome"] == "delivered" and world.got()[FIRST] == 1
    assert step(what_if(world.tramd, "b@order.mx.test")[1], "site")["key"] == step(found,
                                                                                   "site")["key"]
    for domain in ("null", "nowhere", "lost"):
        status, found = what_if(world.tramd, "b@%s.mx.test" % domain)
        final = world.final(domain)
        assert status == 1 and final["outcome"] != "delivered"
    status, found = what_if(world.tramd, "b@null.mx.test")
    assert "it would be taken, and come back: " in step(found, "result")["text"]
    assert step(found, "result")["text"].split("back: ")[1] in world.final("null")["reply"]


@pytest.mark.parametrize("domain, first, bad",
                         [("d-ee", "first.dane.test", None),
                          ("d-sicknext", "second.dane.test", "sick.dane.test")])
def test_the_tls_of_each_host(make_signed_world, domain, first, bad):
    """DANE is looked up and judged as for mail, without a connection; mail then goes by the policy
    that was told."""
    world = make_signed_world()
    status, found = what_if(world.tramd, "b@%s.dane.test" % domain)
    assert status == 0 and not any(sink.sessions for sink in world.sinks.values())
    policy = [row for row in steps(found, "policy") if row["host"] == first][0]
    assert policy["policy"] == "dane" and policy["enforced"]
    assert [row["host"] for row in steps(found, "dane")
            if row["verdict"] == "bad"] == ([bad] if bad else [])
    assert "go to %s at once" % first in step(found, "result")["text"]
    line = world.delivered("%s.dane.test" % domain)
    assert line["host"] == first and line["tls_policy"] == "dane"
    _, found = what_if(world.tramd, "b@%s.dane.test" % domain, "--header", "TLS-Required: no",
                       "--from", "a@src.test")
    assert steps(found, "wish") and not step(found, "policy")["enforced"]
    assert step(found, "site")["key"].count("tls-required=no") == 1


def test_a_smarthost(make_tramd, make_sink, ca, tmp_path):
    relay = make_sink(features=FEATURES + ("AUTH PLAIN",), tls=ca.sign("relay", ["relay.dst.test"]))
    relay.users = {"anna": "secret 1"}
    (tmp_path / "secret").write_text("secret 1\n")
    tramd = make_tramd(routes={"*": {"deliver": "smtp:[127.0.0.1]:%d" % relay.port, "tls": "verify",
                                     "tls-names": '"relay.dst.test"', "user": '"anna"',
                                     "password-file": quoted(str(tmp_path / "secret"))}},
                       extra="delivery-ca = %s\n" % quoted(ca.path))
    status, found = what_if(tramd, "b@dst.test")
    assert status == 0 and step(found,
                                "login")["user"] == "anna" and "password in a file" in step(found, "login")["text"]
    assert step(found,
                "policy")["policy"] == "route" and step(found,
                                                        "policy")["enforced"] and relay.sessions == 0
    tramd.send(BODY, to="b@dst.test")
    assert relay.wait(1)[0].user == "anna"
    assert step(what_if(tramd, "b@dst.test")[1], "site")["key"] in [row["key"]
                                                                    for row in rows(tramd, "sites")]


# ---- what holds it

def test_a_site_in_back_off(make_tramd, sink):
    """Since when, until when, after how many failures; and that mail waits behind others. It holds
    no other site."""
    tramd = make_tramd(routes={"*": "smtp:[127.0.0.1]:%d" % free_port(),
                               "well.test": "smtp:[127.0.0.1]:%d" % sink.port},
                       queue=NEVER)
    before = time.time() * 1000 - 1000
    ids = [tramd.send(BODY, to="b@dst.test") for _ in range(3)]
    tramd.wait_log(event="site-backoff")

    def held():
        found = steps(what_if(tramd, "c@dst.test", "--from", "a@src.test")[1], "held")
        return found if found and found[0].get("kind") == "back-off" else None
    row = wait_for(held, what="it is in back-off")[0]
    assert row["failures"] == 1 and before <= row["since_ms"] < row["until_ms"]
    status, found = what_if(tramd, "c@dst.test", "--from", "a@src.test")
    assert status == 0 and step(found, "lane")["recipients"] == 3
    assert "it would be taken, and wait: site static:smtp:" in step(found, "result")["text"]
    told = [r for r in rows(tramd, "explain", ids[0]) if "recipient" in r][0]["held_by"][0]
    assert (told["kind"], told["until_ms"], told["text"]) == (row["kind"], row["until_ms"],
                                                              row["text"])
    assert step(what_if(tramd, "c@well.test")[1], "held")["text"] == "nothing holds it"
    tramd.restart()
    status, found = what_if(tramd, "c@dst.test")
    assert step(found, "held")["until_ms"] == row["until_ms"] and "asleep" in step(found,
                                                                                   "site")["text"]


@pytest.mark.quick
def test_shapes_and_tenants(make_tramd, sink):
    """Which limits would hold, what they have used, and that one is reached, before and after mail
    waits for it."""
    extra = 'tenant-by = "header:X-Tenant"\ntenant "shop" { weight = 5 }\n'
    extra += 'provider "sinks" { mx = {"127.0.0.1"} }\n'
    extra += 'shape "few" { domain = {"slow.test"} messages-per-hour = 2 }\n'
    extra += 'shape "all" { site = {"sinks"} messages-per-day = 1000 }\n'
    extra += 'shape "hers" { tenant = {"shop"} messages-per-day = 100 }\n'
    tramd = make_tramd(static=sink, extra=extra)
    options = ["--from", "a@src.test", "--header", "X-Tenant: Shop"]

    def limits(found):
        return {row["shape"]: (row["limit"], row["used"], row["most"])
                for row in steps(found, "limit") if "shape" in row}
    status, found = what_if(tramd, "b@slow.test", *options)
    assert (step(found, "tenant")["tenant"], step(found, "tenant")["weight"]) == ("shop", 5)
    assert step(found, "provider")["provider"] == "sinks"
    assert limits(found) == {"few": ("messages-per-hour", 0, 2),
                             "all": ("messages-per-day", 0, 1000),
                             "hers": ("messages-per-day", 0, 100)}
    for _ in range(2):
        tramd.send(b"X-Tenant: shop\r\n" + BODY, to="b@slow.test")
    sink.wait(2)
    tramd.wait_empty()
    status, found = what_if(tramd, "b@slow.test", *options)
    assert status == 0 and limits(found)["few"] == ("messages-per-hour", 2,
                                                    2) and limits(found)["all"][1] == 2
    told = step(found, "held")
    assert (told["kind"], told["what"], told["used"], told["most"]) == ("shape", "few", 2, 2)
    assert (told["until_ms"] > time.time() * 1000
            and "it would be taken, and wait: " in step(found, "result")["text"])
    id = tramd.send(b"X-Tenant: shop\r\n" + BODY, to="b@slow.test")
    wait_for(lambda: 'shape "few"' in tramd.ctl("explain", id), what="the shape holds it")
    assert "text" in told and step(what_if(tramd, "c@slow.test", *options)[1],
                                   "held")["what"] == "few"
    status, found = what_if(tramd, "b@quick.test", "--from", "a@src.test")
    assert step(found, "held")["text"] == "nothing holds it" and set(limits(found)) == {"all"}
    assert step(found, "tenant")["tenant"] == "src.test"
    for header in ("X-Tenant: no such name", "X-Tenant: "):
        assert what_if(tramd, "b@quick.test", "--header",
                       header)[1][-2]["text"].startswith("550 5.6.0 ")


def test_wishes_and_the_shapes_of_a_source(make_tramd, sink):
    """What MAIL asks for, as it would be granted or refused; and the limits of the source that it
    would leave from."""
    extra = ('tenant-by = none\nsource a { address = "127.0.0.1" }\nsource b { address = '
             '"127.0.0.2" }\n')
    extra += 'pool both { sources = {"a", "b"} senders = {"src.test"} }\n'
    extra += "".join('shape of-%s { source = "%s" messages-per-hour = %d }\n' % (name, name, most)
                     for name, most in (("a", 1), ("b", 1)))
    tramd = make_tramd(static=sink, extra=extra,
                       listener={"future-release": "2d", "deliver-by": "60s", "priority-max": 4})
    options = ["--from", "a@src.test", "--client", "127.0.0.1"]
    status, found = what_if(tramd, "b@dst.test", *options, "--priority", "9", "--hold-for", "1h",
                            "--within", "1d")
    assert status == 0 and step(found, "priority")["text"].startswith("4: 9 was asked for")
    assert "T" in step(found,
                       "release")["text"] and "or it is returned" in step(found,
                                                                          "deliver-by")["text"]
    assert "wait: for the time that its sender asks for" in step(found, "result")["text"]
    for wrong, reply in ((["--hold-for", "3d"], "501 5.5.4"), (["--within", "10s"], "555 5.5.4"),
                         (["--hold-for", "1h", "--within", "30m"], "501 5.5.4")):
        status, found = what_if(tramd, "b@dst.test", *options, *wrong)
        assert status == 1 and step(found, "mail")["text"].startswith(reply)
    status, found = what_if(tramd, "b@dst.test", *options, "--requiretls")
    assert step(found, "wish")["text"] == "REQUIRETLS"
    source = step(what_if(tramd, "b@dst.test", *options)[1], "source")["source"]
    limits = [row["shape"] for row in steps(what_if(tramd, "b@dst.test", *options)[1], "limit")
              if "shape" in row]
    assert limits == ["of-" + source]
    tramd.send(BODY, sender="a@src.test", to="b@dst.test")
    sink.wait(1)
    found = what_if(tramd, "b@dst.test", *options)[1]
    # the first one has had its message
    other = step(found, "source")["source"]
    assert {source, other} == {"a", "b"} and [row["used"]
                                              for row in steps(found, "limit")
                                              if "shape" in row] == [0]


@pytest.mark.quick
def test_the_source(make_tramd, sink):
    """Which pool, and which source of it this recipient gets mail from: so the sink sees it. A
    suspended site holds it."""
    extra = 'pool-header = "X-Pool"\n' + "".join(
        'source "%s" { address = "%s" ehlo-name = "%s.test" }\n' % (name, address, name)
        for name, address in SOURCES.items()) + 'pool "two" { sources = {"a", "b"} }\npool "one" { sources = {"c"} senders = {"shop.test"} }\n'
    tramd = make_tramd(static=sink, extra=extra)
    for number, (to, sender, header) in enumerate([("b@dst.test", "a@src.test", "two"),
                                                   ("c@dst.test", "a@src.test", "two"),
                                                   ("e@dst.test", "a@shop.test", None),
                                                   ("f@dst.test", "a@src.test", None)]):
        options = ["--from", sender] + (["--header", "X-Pool: " + header] if header else [])
        row = step(what_if(tramd, to, *options)[1], "source")
        tramd.send((b"X-Pool: %s\r\n" % header.encode() if header else b"") + BODY, sender=sender,
                   to=to)
        peer = sink.wait(number + 1)[number].peer
        assert peer == SOURCES.get(row.get("source"),
                                   "127.0.0.1") and row["pool"] == {"a@shop.test": "one"}.get(sender, header or "")
    key = step(what_if(tramd, "b@dst.test")[1], "site")["key"]
    tramd.ctl("sites", "suspend", key)
    found = what_if(tramd, "new@dst.test", "--from", "a@shop.test")[1]
    assert step(found, "held")["kind"] == "suspended" and "and wait: " in step(found,
                                                                               "result")["text"]


def test_a_sender_of_its_own(make_tramd, sink):
    tramd = make_tramd(static=sink, extra='verp "bounces.src.test" { sender = "src.test" }\n')
    row = step(what_if(tramd, "b@dst.test", "--from", "a@src.test")[1], "verp")
    tramd.send(BODY, sender="a@src.test", to="b@dst.test")
    assert sink.wait(1)[0].sender.startswith(row["prefix"]
                                             + "-") and sink.messages[0].sender.endswith("@" + row["domain"])
    assert not any(steps(what_if(tramd, "b@dst.test", *options)[1], "verp")
                   for options in ([], ["--from", "a@else.test"]))


def test_it_does_not_hold_up_the_stop(make_tramd, mx_nsd):
    """The resolver says nothing; one operator goes away, and another one waits when the server is
    stopped."""
    with BrokenDns(upstream=mx_nsd, rules={"*.mx.test": "silence"}) as dns:
        tramd = make_tramd(routes={"*": "mx"}, resolver=dns.address,
                           extra="resolver-timeout = 20s\n")
        tools = [start_tool(tramd, "what-if", "--to", "b@%s.mx.test" % name)
                 for name in ("order", "plain")]
        dns.wait_for("order.mx.test", "MX", 1)
        dns.wait_for("plain.mx.test", "MX", 1)
        tools[0].kill()
        tools[0].communicate()
        assert tramd.ctl("what-if", "--to", "b@[127.0.0.1]").count("result")	# the loop goes on
        tramd.stop()
        tools[1].communicate()
