"""Logging in at a smarthost: with what, over what, and what happens if it will not have us."""
import smtplib
import threading

import pytest

from conftest import FAST
from harness import quoted, wait_for
from sink import FEATURES, SILENT

DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nbody\r\n"
HOST = "127.0.0.1"


@pytest.fixture
def make_smarthost(make_sink, ca):
    def make(mechanisms="PLAIN LOGIN", tls=True, **how):
        sink = make_sink(features=FEATURES + ("AUTH " + mechanisms,) if mechanisms else FEATURES,
                         tls=ca.sign("smarthost", ["relay.dst.test"]) if tls else None, **how)
        sink.users = {"anna@dst.test": "secret 1"}
        return sink
    return make


@pytest.fixture
def make_relay(make_tramd, ca, tmp_path):
    def make(sink, secret="secret 1\n", token=None, smtps=False, user="anna@dst.test", limits=None,
             **route):
        path = tmp_path / "secret"
        path.write_text(secret)
        settings = {"tls": "verify", "tls-names": '"relay.dst.test"', "user": quoted(user),
                    "token-file" if token else "password-file": quoted(str(path)),
                    "deliver": "%s:[%s]:%d" % ("smtps" if smtps else "smtp", HOST, sink.port)}
        settings.update({k.replace("_", "-"): v for k, v in route.items()})
        settings = {k: v for k, v in settings.items() if v is not None}
        return make_tramd(routes={"*": settings}, queue=FAST, limits=limits,
                          extra="delivery-ca = %s\n" % quoted(ca.path))
    return make


def send(daemon, to="b@dst.test"):
    with smtplib.SMTP(HOST, daemon.port) as client:
        client.sendmail("a@src.test", [to], DATA)


@pytest.mark.quick
@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN", "NTLM PLAIN X-NEW"])
def test_a_password(make_relay, make_smarthost, mechanisms):
    sink = make_smarthost(mechanisms)
    send(make_relay(sink))
    message = sink.wait(1)[0]
    assert (message.user, message.tls) == ("anna@dst.test", "TLSv1.3")


def test_over_smtps(make_relay, make_smarthost):
    sink = make_smarthost(tls_on_connect=True)
    send(make_relay(sink, smtps=True))
    assert sink.wait(1)[0].user == "anna@dst.test"


def test_a_token_is_read_anew(make_relay, make_smarthost, tmp_path):
    sink = make_smarthost("PLAIN XOAUTH2")
    sink.users = {"anna@dst.test": "new-token"}
    daemon = make_relay(sink, secret="old-token", token=True)
    send(daemon)
    daemon.wait_log(event="site-backoff")
    (tmp_path / "secret").write_text("new-token\n")
    assert sink.wait(1)[0].user == "anna@dst.test"
    assert all(line.startswith("AUTH XOAUTH2 ") for line in sink.commands("AUTH"))


@pytest.mark.parametrize("reply", ["535 5.7.8 wrong", "454 4.7.0 later", "421 4.7.0 go away"])
def test_a_refused_login_keeps_the_message(make_relay, make_smarthost, reply):
    sink = make_smarthost()
    sink.rule("AUTH", reply)
    daemon = make_relay(sink)
    send(daemon)
    daemon.wait_log(event="site-backoff")
    assert not sink.commands("MAIL")
    assert not daemon.events(event="final")
    sink.clear_rules()
    assert sink.wait(1)[0].user == "anna@dst.test"


def test_no_login_without_the_right_certificate(make_relay, make_smarthost):
    sink = make_smarthost()
    daemon = make_relay(sink, tls_names='"other.dst.test"')
    send(daemon)
    daemon.wait_log(event="host-failed")
    assert not sink.commands("AUTH") and not sink.commands("MAIL")


def test_no_mail_without_the_login(make_relay, make_smarthost):
    sink = make_smarthost(mechanisms=None)
    daemon = make_relay(sink)
    send(daemon)
    assert "does not offer AUTH" in daemon.wait_log(event="host-failed")["reply"]
    assert not sink.commands("MAIL")


def test_unverified_only_if_somebody_says_so(make_relay, make_smarthost):
    sink = make_smarthost(tls=False)
    send(make_relay(sink, tls=None, tls_names=None, auth_unverified="yes"))
    message = sink.wait(1)[0]
    assert (message.user, message.tls) == ("anna@dst.test", None)


def test_only_what_is_allowed_is_used(make_relay, make_smarthost):
    sink = make_smarthost("LOGIN PLAIN")
    send(make_relay(sink, auth_mechanisms='"LOGIN"'))
    assert sink.wait(1)[0].user == "anna@dst.test"
    assert [line.split(" ")[1] for line in sink.commands("AUTH")] == ["LOGIN"]


def test_a_secret_that_is_not_there(make_relay, make_smarthost, tmp_path):
    sink = make_smarthost()
    daemon = make_relay(sink)
    (tmp_path / "secret").unlink()
    send(daemon)
    failed = daemon.wait_log(event="secret-failed")
    assert (failed["file"], failed["why"]) == (str(tmp_path / "secret"),
                                               "No such file or directory")
    reply = daemon.wait_log(event="host-failed")["reply"]
    assert "its password cannot be read" in reply and str(tmp_path) not in reply, "it may be told to the sender"
    (tmp_path / "secret").write_text("secret 1")
    assert sink.wait(1)[0].user == "anna@dst.test"


def test_nonsense_in_the_exchange(make_relay, make_smarthost):
    sink = make_smarthost("LOGIN")
    sink.rule("AUTH", "334 %%%not-base64%%%", times=1)
    daemon = make_relay(sink)
    send(daemon)
    daemon.wait_log(event="host-failed")
    assert not daemon.events(event="final", outcome="failed")


def test_a_smarthost_that_hangs_in_the_exchange(make_relay, make_smarthost):
    sink = make_smarthost()
    sink.rule("AUTH", SILENT, times=1)
    daemon = make_relay(sink, limits={"auth-timeout": "1s"})
    send(daemon)
    assert "AUTH" in daemon.wait_log(event="host-failed")["reply"]
    assert sink.wait(1)[0].user == "anna@dst.test"


def test_a_password_is_for_its_own_host(make_tramd, make_smarthost, ca, tmp_path):
    """A route that leads to another host since a reload, while its mail is still on its way to the
    first: who goes there by another route does not show the new password."""
    first, second = make_smarthost("PLAIN"), make_smarthost("PLAIN")
    second.users = {"anna@dst.test": "secret 2"}
    for name in "1", "2":
        (tmp_path / name).write_text("secret " + name)

    def to(sink, secret):
        return {"tls": "verify", "tls-names": '"relay.dst.test"', "user": '"anna@dst.test"',
                "password-file": quoted(str(tmp_path / secret)), "messages-per-connection": "1",
                "deliver": "smtp:[%s]:%d" % (HOST, sink.port)}
    daemon = make_tramd(routes={"*": to(first, "1"), "else.test": to(first, "1")}, queue=FAST,
                        extra="delivery-ca = %s\n" % quoted(ca.path))
    go = threading.Event()
    held = first.rule("DOT", None, times=1, hold=go)
    send(daemon)
    first.wait_rule(held)
    daemon.settings["routes"]["*"] = to(second, "2")
    daemon.write_config(daemon.text())
    daemon.reload()
    daemon.wait_log(event="reload")
    send(daemon, "b@else.test")
    wait_for(lambda: len(first.commands("AUTH")) >= 2, what="a second login")
    go.set()
    assert len(first.wait(2)) == 2
    assert len(set(first.commands("AUTH"))) == 1
    send(daemon)
    assert second.wait(1)[0].user == "anna@dst.test"


def test_two_logins_of_one_user(make_tramd, make_smarthost, ca, tmp_path):
    """Routes to one host, as one user, with other secrets: each route's mail goes by its own."""
    sink = make_smarthost("PLAIN")
    for name, secret in ("good", "secret 1"), ("bad", "secret 2"):
        (tmp_path / name).write_text(secret)
    daemon = make_tramd(routes={domain: {
        "tls": "verify", "tls-names": '"relay.dst.test"', "user": '"anna@dst.test"',
        "password-file": quoted(str(tmp_path / secret)),
        "deliver": "smtp:[%s]:%d" % (HOST, sink.port)
    } for domain, secret in (("one.test", "bad"), ("two.test", "good"))}, queue=FAST,
        extra="delivery-ca = %s\n" % quoted(ca.path))
    send(daemon, "b@one.test")
    daemon.wait_log(event="host-failed")
    send(daemon, "b@two.test")
    assert sink.wait(1)[0].recipients == ["b@two.test"]
    assert len(set(sink.commands("AUTH"))) == 2
    (tmp_path / "bad").write_text("secret 1")
    assert [message.recipients for message in sink.wait(2)] == [["b@two.test"], ["b@one.test"]]
