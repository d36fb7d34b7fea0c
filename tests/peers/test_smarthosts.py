"""Several smarthosts in one route: who is tried when, and what each must show before it gets the
password."""
import shutil
import smtplib

import pytest

from conftest import FAST
from dns_server import Nsd
from harness import free_port, quoted
from sink import DROP, FEATURES

DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nbody\r\n"
HOST, FIRST = "127.0.0.1", "127.0.1.1"


@pytest.fixture
def make_smarthost(make_sink, ca):
    def make(names=("relay.dst.test",), **how):
        sink = make_sink(features=FEATURES + ("AUTH PLAIN",), tls=ca.sign("relay", list(names)),
                         **how)
        sink.users = {"anna": "secret 1"}
        return sink
    return make


@pytest.fixture
def make_relay(make_tramd, ca, tmp_path):
    def make(deliver, resolver=None, extra="", **route):
        (tmp_path / "secret").write_text("secret 1\n")
        settings = {"tls": "verify", "tls-names": '"relay.dst.test"', "user": '"anna"',
                    "password-file": quoted(str(tmp_path / "secret")), "deliver": deliver}
        settings.update({k.replace("_", "-"): v for k, v in route.items()})
        return make_tramd(routes={"*": {k: v for k, v in settings.items() if v is not None}},
                          queue=FAST,
                          resolver=resolver, extra="delivery-ca = %s\n%s" % (quoted(ca.path),
                                                                             extra))
    return make


def to(*sinks):
    return ", ".join("smtp:[%s]:%d" % (HOST, sink if isinstance(sink, int) else sink.port)
                     for sink in sinks)


def send(daemon):
    with smtplib.SMTP(HOST, daemon.port) as client:
        client.sendmail("a@src.test", ["b@dst.test"], DATA)


@pytest.mark.quick
def test_the_first_one_gets_all_while_it_works(make_relay, make_smarthost):
    first, second = make_smarthost(), make_smarthost()
    daemon = make_relay(to(first, second))
    for _ in range(3):
        send(daemon)
    assert {message.user for message in first.wait(3)} == {"anna"}
    daemon.wait_empty()
    assert second.sessions == 0


@pytest.mark.parametrize("step, reply",
                         [("BANNER", "421 4.3.2 later"), ("BANNER", "554 5.3.2 no"),
                          ("BANNER", DROP),
                          ("EHLO", "451 4.3.0 later"), ("STARTTLS", "454 4.7.0 later"),
                          ("TLS", DROP), ("AUTH", "535 5.7.8 no"), ("AUTH", "454 4.7.0 later")])
def test_the_next_one_if_it_does_not(make_relay, make_smarthost, step, reply):
    first, second = make_smarthost(), make_smarthost()
    first.rule(step, reply)
    daemon = make_relay(to(first, second))
    send(daemon)
    message = second.wait(1)[0]
    assert (message.user, message.tls) == ("anna", "TLSv1.3")
    daemon.wait_empty()
    assert first.sessions > 0 and not first.commands("MAIL")
    assert not daemon.events(event="site-backoff")


def test_the_third_behind_a_dead_and_a_false_one(make_relay, make_smarthost):
    false, good = make_smarthost(names=["else.test"]), make_smarthost()
    daemon = make_relay(to(free_port(), false, good))
    send(daemon)
    assert good.wait(1)[0].user == "anna"
    daemon.wait_log(event="host-failed", count=2)
    assert not false.commands("AUTH") and not false.commands("MAIL")


def test_a_recipient_put_off_stays_with_its_host(make_relay, make_smarthost):
    first, second = make_smarthost(), make_smarthost()
    first.rule("RCPT", "450 4.2.0 later", times=1)
    daemon = make_relay(to(first, second))
    send(daemon)
    first.wait(1)
    daemon.wait_empty()
    assert second.sessions == 0


def test_all_of_them_down(make_relay, make_smarthost):
    """One site: it backs off as a whole, and each probe begins with the first."""
    first, second = make_smarthost(), make_smarthost()
    for sink in (first, second):
        sink.rule("BANNER", "421 4.3.2 later")
    daemon = make_relay(to(first, second))
    send(daemon)
    assert daemon.wait_log(event="site-backoff")["site"].startswith("static:" + to(first, second).replace(" ", ""))
    daemon.restart(kill=True)
    second.clear_rules()
    assert second.wait(1)[0].user == "anna"
    daemon.wait_empty()


def test_a_reload_takes_another_list(make_relay, make_smarthost):
    first, second = make_smarthost(), make_smarthost()
    first.rule("BANNER", "421 4.3.2 later")
    daemon = make_relay(to(first))
    send(daemon)
    daemon.wait_log(event="site-backoff")
    daemon.settings["routes"]["*"]["deliver"] = to(first, second)
    daemon.write_config(daemon.text())
    daemon.reload()
    assert second.wait(1)[0].user == "anna"


@pytest.fixture(scope="module")
def nsd():
    if not shutil.which("nsd") and not shutil.which("/usr/sbin/nsd"):
        pytest.skip("needs the package nsd")
    with Nsd({"mx.test": "relay MX 10 first\nfirst A %s\nnull MX 0 .\ndead A %s\nlast A %s\n" % (
            FIRST, HOST, HOST)}) as real:
        yield real


@pytest.mark.parametrize("name, good", [("relay.mx.test", True), ("first.mx.test", False)])
def test_the_mx_of_a_domain_among_hosts(make_relay, make_smarthost, nsd, name, good):
    """Anybody may have forged the MX record: with a password at stake the certificate must name the
    domain."""
    middle, last = make_smarthost(names=[name], host=FIRST), make_smarthost(names=["last.mx.test"])
    daemon = make_relay("smtp:null.mx.test, smtp:[dead.mx.test]:%d, smtp:relay.mx.test:%d, smtp:[last.mx.test]:%d" % (
        free_port(), middle.port, last.port), resolver=nsd.address, tls_names=None,
                        extra="allow-private = yes\n")
    send(daemon)
    assert (middle if good else last).wait(1)[0].user == "anna"
    daemon.wait_empty()
    assert bool(last.sessions) != good and bool(middle.commands("AUTH")) == good
