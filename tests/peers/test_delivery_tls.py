"""TLS to the next hop: what a route asks for, what the host can do, and what becomes of the
message."""
import smtplib
import ssl

import pytest

from certificates import Authority
from conftest import FAST
from harness import quoted
from sink import DROP

DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nbody\r\n"
HOST = "127.0.0.1"


@pytest.fixture
def make_relay(make_tramd, ca):
    """make_relay(sink, tls="verify", …): a tramd with one route to it, settings of the route as
    given."""
    def make(to, extra="", smtps=False, limits=None, **route):
        deliver = "%s:[%s]:%d" % ("smtps" if smtps else "smtp", HOST, to.port)
        settings = {k.replace("_", "-"): v for k, v in route.items()}
        return make_tramd(routes={"*": dict(settings, deliver=deliver)}, queue=FAST, limits=limits,
                          extra="delivery-ca = %s\n%s" % (quoted(ca.path), extra))
    return make


def send(daemon, to="b@dst.test"):
    with smtplib.SMTP(HOST, daemon.port) as client:
        client.sendmail("a@src.test", [to], DATA)


@pytest.fixture
def secure(make_sink, ca):
    return make_sink(tls=ca.sign("mx", ["mx.dst.test", "dst.test"]))


@pytest.mark.quick
def test_by_itself_tls_is_used_where_it_is_offered(make_relay, secure):
    daemon = make_relay(secure)
    send(daemon)
    assert secure.wait(1)[0].tls == "TLSv1.3"
    assert [line.split(" ")[0] for line in secure.lines_of(1)][:4] == ["EHLO", "STARTTLS", "EHLO",
                                                                       "MAIL"]
    assert daemon.wait_log(event="delivery")["tls"].startswith("TLSv1.3 TLS_")


def test_off_means_off(make_relay, secure):
    send(make_relay(secure, tls="off"))
    assert secure.wait(1)[0].tls is None
    assert not secure.commands("STARTTLS")


@pytest.mark.parametrize("rule", [("STARTTLS", "454 4.7.0 not now"), ("STARTTLS", "501 5.5.4 no"),
                                  ("TLS", DROP)],
                         ids=["454", "501", "handshake"])
@pytest.mark.parametrize("tls", ["auto", "may"])
def test_what_may_be_plain_goes_plain_on_a_new_connection(make_relay, secure, rule, tls):
    secure.rule(*rule)
    daemon = make_relay(secure, tls=tls)
    send(daemon)
    assert secure.wait(1)[0].tls is None
    assert secure.sessions == 2
    assert "MAIL" not in [line.split(" ")[0] for line in secure.lines_of(1)]
    # remembered: no second try (or the same connection, kept)
    send(daemon)
    assert secure.wait(2)[1].tls is None
    assert len(secure.commands("STARTTLS")) == 1


@pytest.mark.parametrize("rule", [("STARTTLS", "454 4.7.0 not now"), ("TLS", DROP)],
                         ids=["454", "handshake"])
def test_what_must_be_tls_waits(make_relay, secure, rule):
    secure.rule(*rule)
    daemon = make_relay(secure, tls="required")
    send(daemon)
    daemon.wait_log(event="site-backoff")
    assert not secure.commands("MAIL")
    secure.clear_rules()
    assert secure.wait(1)[0].tls == "TLSv1.3"


def test_a_host_without_starttls_gets_nothing_that_must_be_tls(make_relay, sink):
    daemon = make_relay(sink, tls="required")
    send(daemon)
    assert "does not offer STARTTLS" in daemon.wait_log(event="host-failed")["reply"]
    assert not sink.commands("MAIL")


def test_stripped_ehlo_does_not_help(make_relay, make_sink, ca):
    """Somebody in between refuses EHLO so that HELO, which has no STARTTLS, is said."""
    sink = make_sink(tls=ca.sign("strip", ["mx.dst.test"]))
    sink.rule("EHLO", "502 5.5.1 unknown")
    daemon = make_relay(sink, tls="required")
    send(daemon)
    assert "no STARTTLS" in daemon.wait_log(event="host-failed")["reply"]
    assert not sink.commands("MAIL")


def test_what_is_said_behind_220_is_dropped(make_relay, secure):
    """CVE-2021-38371 and its kin: a reply that was pipelined in plain text is no reply to what is
    said under TLS."""
    secure.rule("STARTTLS", b"220 2.0.0 go on\r\n250-evil.test\r\n250 AUTH PLAIN\r\n")
    daemon = make_relay(secure, tls="required")
    send(daemon)
    assert secure.wait(1)[0].tls == "TLSv1.3"
    assert daemon.wait_log(event="delivery")["fate"] == "delivered"


def test_a_verified_host_is_its_name(make_relay, secure):
    daemon = make_relay(secure, tls="verify", tls_names='"mx.dst.test"')
    send(daemon)
    assert secure.wait(1)[0].tls == "TLSv1.3"
    assert daemon.wait_log(event="delivery")["tls"].endswith(" verified")


@pytest.mark.parametrize("kind", ["wrong name", "expired", "unknown authority"])
def test_a_host_that_is_not_who_it_should_be_gets_nothing(make_relay, make_sink, ca, tmp_path,
                                                          kind):
    other = Authority(tmp_path / "other") if kind == "unknown authority" else ca
    pair = other.sign("bad", ["mx.dst.test" if kind != "wrong name" else "elsewhere.test"],
                      days=-1 if kind == "expired" else 30)
    sink = make_sink(tls=pair)
    daemon = make_relay(sink, tls="verify", tls_names='"mx.dst.test"')
    send(daemon)
    why = {"wrong name": "hostname mismatch", "expired": "certificate has expired",
           "unknown authority": "unable to get local issuer"}[kind]
    assert why in daemon.wait_log(event="host-failed")["reply"]
    assert not sink.commands("MAIL")


def test_smtps(make_relay, make_sink, ca):
    sink = make_sink(tls=ca.sign("smtps", ["mx.dst.test"]), tls_on_connect=True)
    send(make_relay(sink, smtps=True, tls="verify", tls_names='"mx.dst.test"'))
    assert sink.wait(1)[0].tls == "TLSv1.3"
    assert not sink.commands("STARTTLS")


def test_smtps_to_a_plain_port_is_no_message_in_plain(make_relay, sink):
    daemon = make_relay(sink, smtps=True, limits={"tls-timeout": "2s"})
    send(daemon)
    daemon.wait_log(event="host-failed")
    assert not sink.messages


def test_two_routes_to_one_host_do_not_share_a_connection(make_tramd, ca, make_sink):
    sink = make_sink(tls=ca.sign("two", ["mx.dst.test"]))
    deliver = "smtp:[%s]:%d" % (sink.host, sink.port)
    daemon = make_tramd(routes={"plain.test": {"deliver": deliver, "tls": "off"},
                                "secret.test": {"deliver": deliver, "tls": "required"}}, queue=FAST)
    for _ in range(3):
        send(daemon, "b@plain.test")
        send(daemon, "b@secret.test")
    for message in sink.wait(6):
        assert (message.tls is None) == ("plain.test" in message.recipients[0])


def test_a_reload_changes_what_is_asked_for(make_relay, sink):
    daemon = make_relay(sink, tls="required")
    send(daemon)
    daemon.wait_log(event="site-backoff")
    with open(daemon.config_path, encoding="utf-8") as f:
        text = f.read()
    daemon.write_config(text.replace("tls = required", "tls = may"))
    daemon.reload()
    assert sink.wait(1)[0].tls is None


def test_a_client_certificate_is_shown_to_who_asks(make_relay, make_sink, ca):
    sink = make_sink(tls=ca.sign("asks", ["mx.dst.test"]))
    sink.context.verify_mode = ssl.CERT_REQUIRED
    sink.context.load_verify_locations(ca.path)
    chain, key = ca.sign("us", ["relay.src.test"])
    daemon = make_relay(sink, tls="required",
                        extra="delivery-certificate = us\ncertificate us { chain = %s key = %s }\n"
                        % (quoted(chain), quoted(key)))
    send(daemon)
    assert sink.wait(1)[0].tls == "TLSv1.3"


def test_postfix_with_mandatory_tls(make_relay, make_postfix, sink, ca):
    chain, key = ca.sign("postfix", ["mx.dst.test"])
    postfix = make_postfix("[%s]:%d" % (sink.host, sink.port), smtpd_tls_security_level="encrypt",
                           smtpd_tls_cert_file=chain, smtpd_tls_key_file=key)
    daemon = make_relay(postfix, tls="verify", tls_names='"mx.dst.test"')
    send(daemon)
    assert "with ESMTPS" in sink.wait(1)[0].data.decode()
    assert daemon.wait_log(event="delivery")["fate"] == "delivered"
