"""REQUIRETLS and TLS-Required (RFC 8689): from the client to the last host, or back to the sender.
With DANE: test_dane.py."""
import re
import smtplib
import ssl

import pytest

from harness import quoted

HOST = "127.0.0.1"
DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nsecret body\r\n"


@pytest.fixture
def make_host(make_sink, pair):
    def make(requiretls=True, tls=True):
        sink = make_sink(tls=pair if tls else None)
        sink.tls_features = ("REQUIRETLS",) if requiretls else ()
        return sink
    return make


@pytest.fixture
def make_relay(make_secure, ca):
    """A tramd that takes REQUIRETLS, and verifies by name whom it passes mail on to. back: where
    reports go."""
    def make(*hosts, back=None, tls="verify", names='"mail.test"'):
        route = {"deliver": ", ".join("smtp:[%s]:%d" % (HOST, host.port) for host in hosts),
                 "tls": tls}
        if names:
            route["tls-names"] = names
        routes = {"src.test": "smtp:[%s]:%d" % (HOST, back.port)} if back else {}
        daemon = make_secure(extra="delivery-ca = %s\n" % quoted(ca.path), start=False)
        daemon.settings["routes"] = dict(routes, **{"*": route})
        daemon.write_config(daemon.text())
        return daemon.start()
    return make


def send(daemon, options=("REQUIRETLS",), sender="a@src.test", to="b@dst.test", data=DATA):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(HOST, daemon.port) as client:
        client.starttls(context=context)
        client.ehlo()
        assert client.has_extn("REQUIRETLS")
        client.sendmail(sender, [to], data, mail_options=list(options))


def report_of(back):
    """The one report: what it says, once it is there."""
    message = back.wait(1)[0]
    assert message.sender == "" and message.recipients == ["a@src.test"]
    assert b"secret body" not in message.data and b"Subject: way" in message.data
    return message


@pytest.mark.quick
def test_from_one_tram_to_the_next(make_relay, make_host):
    sink = make_host()
    second = make_relay(sink)
    first = make_relay(second)
    send(first)
    send(first, options=())
    one, two = sorted(sink.wait(2), key=lambda message: "REQUIRETLS" not in message.mail_params)
    assert "REQUIRETLS" in one.mail_params and "REQUIRETLS" not in two.mail_params
    assert one.session != two.session and one.tls == two.tls == "TLSv1.3"
    for daemon in (first, second):
        daemon.wait_empty()


def test_it_is_stored(make_relay, make_host, tmp_path):
    sink = make_host()
    sink.rule("BANNER", "421 4.3.2 later")
    daemon = make_relay(sink)
    send(daemon)
    assert " requiretls" in daemon.wait_log(event="site-backoff")["site"]
    daemon.restart(kill=True)
    daemon.ctl("queue", "hold", "--all")
    daemon.ctl("queue", "export", tmp_path / "archive")
    daemon.ctl("queue", "remove", "--all")
    daemon.ctl("queue", "import", tmp_path / "archive")
    assert "REQUIRETLS" in daemon.ctl("queue", "show", daemon.queue_ids()[0])
    sink.clear_rules()
    daemon.ctl("queue", "release", "--all")
    assert "REQUIRETLS" in sink.wait(1)[0].mail_params


def test_the_next_host_if_one_does_not_offer_it(make_relay, make_host):
    first, second, third = make_host(requiretls=False), make_host(tls=False), make_host()
    send(make_relay(first, second, third))
    assert "REQUIRETLS" in third.wait(1)[0].mail_params
    assert not first.commands("MAIL") and not second.commands("MAIL")


@pytest.mark.parametrize("host, how, status", [
    ({"requiretls": False}, {}, "5.7.30"),
    ({"tls": False}, {}, "5.7.10"),
    # an address has no name that could be verified
    ({}, {"tls": "may", "names": None}, "5.7.30"),
])
def test_back_to_the_sender(make_relay, make_host, host, how, status):
    sink, back = make_host(**host), make_host()
    daemon = make_relay(sink, back=back, **how)
    send(daemon)
    report = report_of(back)
    assert b"Status: " + status.encode() in report.data
    assert "REQUIRETLS" in report.mail_params
    daemon.wait_empty()
    assert not sink.commands("MAIL")


def test_the_wrong_host_gets_nothing(make_relay, make_host):
    sink = make_host()
    daemon = make_relay(sink, names='"other.test"')
    send(daemon)
    assert "certificate is not good" in daemon.wait_log(event="host-failed")["reply"]
    assert not sink.commands("MAIL") and daemon.queue_ids()


def test_a_report_is_not_lost(make_relay, make_host):
    """Neither our own nor one of somebody else's that comes by with REQUIRETLS."""
    sink, back = make_host(), make_host(requiretls=False, tls=False)
    sink.rule("RCPT", "550 5.1.1 no such user", match="b@")
    daemon = make_relay(sink, back=back)
    send(daemon)
    assert "REQUIRETLS" not in report_of(back).mail_params
    send(daemon, sender="", to="c@src.test")
    assert "REQUIRETLS" not in back.wait(2)[1].mail_params
    daemon.wait_empty()


def test_where_tls_is_off_it_is_refused_at_once(make_relay, make_host):
    sink = make_host()
    daemon = make_relay(sink, tls="off", names=None)
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        send(daemon)
    assert b"5.7.30" in refused.value.recipients["b@dst.test"][1]
    send(daemon, options=())
    sink.wait(1)


@pytest.mark.parametrize("field, optional", [
    (b"TLS-Required: No\r\n", True), (b"tls-required:\r\n no \r\n", True),
    (b"TLS-Required: Yes\r\n", False),
    (b"TLS-Required: No\r\nTLS-Required: Yes\r\n", False), (b"X-TLS-Required: No\r\n", False)])
def test_the_header_field(make_relay, make_host, field, optional):
    """Such messages are of a site of their own; REQUIRETLS counts for more; what the route says
    stays in force."""
    sink = make_host()
    daemon = make_relay(sink)
    for options in ((), ("REQUIRETLS",)):
        send(daemon, options=options, data=field + DATA)
    assert {message.tls for message in sink.wait(2)} == {"TLSv1.3"}
    daemon.wait_empty()
    daemon.restart()
    sink.rule("BANNER", "421 4.3.2 later")
    send(daemon, options=(), data=field + DATA)
    assert ("tls-required=no" in daemon.wait_log(event="host-failed",
                                                 reply=re.compile("421"))["site"]) == optional
    sink.clear_rules()
    sink.wait(3)
