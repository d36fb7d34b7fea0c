"""TLS that clients begin: STARTTLS and TLS from the first octet, versions, certificates by name and
by kind of key, tickets, certificates of clients, OCSP, and what is refused without it. Attacks are
in test_tls_attacks.py."""
import re
import smtplib
import ssl
import subprocess

import pytest

from certificates import Authority, certificate
from harness import TIMEOUT, split_received
from test_clients import letter, need, run, without_received
from tls_client import TlsRaw, context

HOST = "127.0.0.1"
DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nbody\r\n"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("foreign"), "foreign authority")


def connect(daemon, **how):
    return TlsRaw(HOST, daemon.port, **how)


# ---- sessions

@pytest.mark.quick
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_starttls(secure, sink, ca, version):
    with connect(secure) as c:
        c.hello()
        assert "STARTTLS" in c.features
        c.start_tls(context(ca.path, version), hello=False)
        assert c.names() == ["mail.test"]
        c.hello()
        assert "STARTTLS" not in c.features
        message_id = c.message(DATA)
        c.quit()
    received, rest = split_received(sink.wait(1)[0].data)
    assert rest == DATA
    assert b"with ESMTPS" in received and b"TLSv%s " % version.encode() in received, received
    assert secure.wait_log(event="accept", id=message_id)["tls"].startswith("TLSv%s " % version)
    session = secure.wait_log(event="session", messages="1")
    assert session["tls"] == "TLSv" + version and session["cipher"] and session["end"] == "quit"


@pytest.mark.quick
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_on_connect(secure, sink, ca, version):
    with TlsRaw(HOST, secure.tls_port, on_connect=context(ca.path, version)) as c:
        c.hello()
        assert "STARTTLS" not in c.features
        c.command("STARTTLS", (502, 503))
        c.message(DATA)
        c.quit()
    assert b"with ESMTPS" in sink.wait(1)[0].data


def test_plain_text_goes_on_where_tls_is_optional(secure, sink):
    secure.send(DATA)
    assert b"with ESMTP " in sink.wait(1)[0].data


def test_large_messages(secure, sink, ca):
    """Both ways of content, many records, over both loops of the stream: what is taken at once and
    what waits."""
    data = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 60 + b"\r\n"
    data += (b"x" * 70 + b"\r\n") * 40000
    for bdat in (False, True):
        with connect(secure) as c:
            c.start_tls(context(ca.path))
            c.hello()
            c.message(data, bdat=bdat)
            c.quit()
    assert [split_received(m.data)[1] == data for m in sink.wait(2)] == [True, True]


def test_last_words_end_with_close_notify(secure, ca):
    """Not only QUIT: also who is sent away can tell an end from a cut."""
    with connect(secure) as c:
        c.start_tls(context(ca.path))
        c.hello()
        c.send("HELO a\nb\r\n")
        assert c.reply().code in (500, 550, 554)
        c.reply(0)			# SSLEOFError if there is no close_notify


def test_stop_tells_tls_clients(secure, ca):
    with connect(secure) as c:
        c.start_tls(context(ca.path))
        c.hello()
        secure.process.terminate()
        c.reply(421)
        c.reply(0)
    secure.end()


# ---- what is required

def test_required(make_secure, sink, ca):
    daemon = make_secure(listener={"tls": "required"})
    with connect(daemon) as c:
        for line in ("MAIL FROM:<a@src.test>", "VRFY b"):
            assert "5.7.0" in c.command(line, 530).text
        c.hello()
        for line in ("MAIL FROM:<a@src.test>", "RCPT TO:<b@dst.test>", "DATA", "VRFY b"):
            assert "5.7.0" in c.command(line, 530).text
        c.send(b"BDAT 4 LAST\r\nabcd")
        c.reply(530)
        c.command("NOOP", 250)
        c.command("RSET", 250)
        c.start_tls(context(ca.path), hello=False)
        c.hello()
        c.message(DATA)
        c.quit()
    sink.wait(1)


# ---- versions and ciphers

def handshake_fails(daemon, ctx, **how):
    with connect(daemon) as c:
        try:
            c.start_tls(ctx, **how)
            c.command("NOOP")		# TLS 1.3: the server's no comes behind our last word
        except (ssl.SSLError, ConnectionResetError) as error:
            return str(error)
        raise AssertionError("the handshake went well: %r" % (c.socket.cipher(),))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_old_versions_are_refused(secure, version):
    assert "VERSION" in handshake_fails(secure, context(version=version)).upper()
    assert secure.wait_log(event="session", end="tls failed")["tls-error"] == "unsupported protocol"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_for_old_printers(make_secure, sink):
    """On a listener of its own; the other one still refuses."""
    daemon = make_secure(listener={"tls-min-version": "1.0"})
    for version in ("1.0", "1.1", "1.2", "1.3"):
        with connect(daemon) as c:
            c.start_tls(context(version=version))
            c.hello()
            c.message(DATA)
    with pytest.raises(ssl.SSLError):
        TlsRaw(HOST, daemon.tls_port, on_connect=context(version="1.1"))
    assert len(sink.wait(4)) == 4


def test_minimum_1_3(make_secure):
    daemon = make_secure(listener={"tls-min-version": "1.3"})
    handshake_fails(daemon, context(version="1.2"))
    with connect(daemon) as c:
        c.start_tls(context(version="1.3"))


def test_ciphers_and_groups(make_secure):
    daemon = make_secure(listener={"tls-ciphers": '"ECDHE-ECDSA-AES256-GCM-SHA384"',
                                   "tls-groups": '"P-384"',
                                   "tls-ciphersuites": '"TLS_CHACHA20_POLY1305_SHA256"'})
    for version, cipher in (("1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
                            ("1.3", "TLS_CHACHA20_POLY1305_SHA256")):
        with connect(daemon) as c:
            c.start_tls(context(version=version))
            assert c.socket.cipher()[0] == cipher
    assert "Server Temp Key: ECDH, secp384r1" in s_client(daemon)
    handshake_fails(daemon, context(version="1.2", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"))


# ---- certificates

def s_client(daemon, *args, stdin=b"QUIT\r\n", check=False):
    done = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % (HOST, daemon.port),
                           "-starttls", "smtp",
                           *map(str, args)], input=stdin, timeout=TIMEOUT, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert not check or done.returncode == 0, done.stdout
    return done.stdout.decode("utf-8", "replace")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_name_picks_the_certificate(make_secure, ca, pair, version):
    other = ca.sign("other", ["smtp.other.test", "*.wild.test"])
    daemon = make_secure(certificate("mail", [pair]) + certificate("other", [other]))
    for asked, names in ((None, ["mail.test"]), ("mail.test", ["mail.test"]),
                         ("unknown.test", ["mail.test"]),
                         ("SMTP.other.test", ["smtp.other.test", "*.wild.test"]),
                         ("a.wild.test", ["smtp.other.test", "*.wild.test"]),
                         ("a.b.wild.test", ["mail.test"])):
        with connect(daemon) as c:
            c.start_tls(context(ca.path, version), name=asked)
            assert c.names() == names, asked
            c.hello()


def test_rsa_beside_ecdsa(make_secure, ca, pair):
    daemon = make_secure(certificate("mail", [pair, ca.sign("rsa", ["mail.test"], kind="rsa")]))
    for version, choice, kind in (("-tls1_3", ("-sigalgs", "ECDSA+SHA256"), "id-ecPublicKey"),
                                  ("-tls1_3", ("-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"),
                                   "rsaEncryption"),
                                  ("-tls1_2", ("-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"),
                                   "id-ecPublicKey"),
                                  ("-tls1_2", ("-cipher", "ECDHE-RSA-AES128-GCM-SHA256"),
                                   "rsaEncryption")):
        text = s_client(daemon, version, *choice, "-CAfile", ca.path, "-verify_hostname",
                        "mail.test", "-verify_return_error")
        assert "PKEY: " + kind in text and "Verify return code: 0" in text, (choice, text)


# ---- tickets

def session_of(port, ctx, session=None, on_connect=False):
    """A session; (whether it was resumed, its ticket for the next)."""
    with TlsRaw(HOST, port, **({"on_connect": ctx, "session": session} if on_connect else {})) as c:
        if not on_connect:
            c.start_tls(ctx, session=session)
        c.hello()
        c.command("NOOP", 250)
        return c.socket.session_reused, c.socket.session


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_resumption(secure, ca, version):
    ctx = context(ca.path, version)
    resumed, ticket = session_of(secure.port, ctx)
    assert not resumed and ticket.has_ticket
    resumed, following = session_of(secure.port, ctx, ticket)
    assert resumed
    if version == "1.3":		# a ticket is for one use
        assert following.id != ticket.id
    assert session_of(secure.port, ctx, following)[0]
    secure.restart()
    assert not session_of(secure.port, ctx, ticket)[0]		# its keys are on no disk


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_no_tickets(make_secure, ca, version):
    daemon = make_secure(listener={"tls-tickets": "no"})
    ctx = context(ca.path, version)
    ticket = session_of(daemon.port, ctx)[1]
    assert ticket is None or not ticket.has_ticket
    assert ticket is None or not session_of(daemon.port, ctx, ticket)[0]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_ticket_passes_no_other_door(make_secure, ca, version):
    """One listener takes anybody, the other one wants a certificate."""
    daemon = make_secure(on_connect={"client-certificates": "required",
                                     "client-ca": '"%s"' % ca.path})
    ctx = context(ca.path, version)
    ticket = session_of(daemon.port, ctx)[1]
    assert session_of(daemon.port, ctx, ticket)[0]
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        session_of(daemon.tls_port, ctx, ticket, on_connect=True)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_ticket_passes_no_stricter_door(make_secure, ca, version):
    """The same listener, after a reload that made it stricter."""
    daemon = make_secure()
    ctx = context(ca.path, version)
    ticket = session_of(daemon.port, ctx)[1]
    daemon.settings["listener"] = {"client-certificates": "required", "client-ca": '"%s"' % ca.path}
    daemon.write_config(daemon.text())
    daemon.ctl("reload")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        session_of(daemon.port, ctx, ticket)


# ---- certificates of clients

@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_client_certificates(make_secure, ca, foreign, version):
    asked = {"client-ca": '"%s"' % ca.path}
    daemon = make_secure(listener=dict(asked, **{"client-certificates": "optional"}),
                         on_connect=dict(asked, **{"client-certificates": "required"}))
    ours, theirs = ca.sign("client", ["client.test"]), foreign.sign("client", ["client.test"])
    for shown, passes in ((ours, True), (theirs, False), (None, False)):
        ctx = context(ca.path, version, pair=shown)
        session_of(daemon.port, ctx)		# optional: one that is not known is as good as none
        if passes:
            session_of(daemon.tls_port, ctx, on_connect=True)
            continue
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            session_of(daemon.tls_port, ctx, on_connect=True)
    daemon.wait_log(event="session", end="tls failed", count=2)
    errors = [line["tls-error"] for line in daemon.events(event="session", end="tls failed")]
    assert sorted(errors) == ["peer did not return a certificate",
                              "unable to get local issuer certificate"]


# ---- OCSP

def test_ocsp(make_secure, ca, pair):
    daemon = make_secure(certificate("mail", [pair], [ca.ocsp("mail", pair[0])]))
    text = s_client(daemon, "-status")
    assert "OCSP Response Status: successful" in text and "Cert Status: good" in text
    assert daemon.ctl_json_lines("certs")[0]["ocsp"] == "stapled"


def test_ocsp_goes_with_its_certificate(make_secure, ca, pair):
    """Two kinds of key, two responses, in any order."""
    rsa = ca.sign("rsa", ["mail.test"], kind="rsa")
    daemon = make_secure(certificate("mail", [pair, rsa],
                                     [ca.ocsp("rsa", rsa[0]), ca.ocsp("mail", pair[0])]))
    for algorithms, chain in (("ECDSA+SHA256", pair[0]), ("RSA-PSS+SHA256", rsa[0])):
        text = s_client(daemon, "-status", "-sigalgs", algorithms)
        shown = subprocess.run(["openssl", "x509", "-in", chain, "-noout", "-serial"],
                               stdout=subprocess.PIPE)
        serial = shown.stdout.decode().strip().split("=")[1]
        assert "Serial Number: " + serial in text, text


@pytest.mark.parametrize("case", ["expired", "of another certificate"])
def test_ocsp_that_is_no_good_is_not_shown(make_secure, ca, pair, case):
    if case == "expired":
        need("faketime")
    response = ca.ocsp("old", pair[0], days=-1) if case == "expired" else \
        ca.ocsp("elsewhere", ca.sign("elsewhere", ["elsewhere.test"])[0])
    daemon = make_secure(certificate("mail", [pair], [response]))
    assert "no response sent" in s_client(daemon, "-status")
    assert daemon.ctl_json_lines("certs")[0]["ocsp"] == case
    assert daemon.wait_log(event="certificate", level="warning", msg=re.compile("OCSP|ocsp"))


# ---- real clients

def test_smtplib(secure, sink, ca):
    ctx = ssl.create_default_context(cafile=ca.path)
    with smtplib.SMTP(HOST, secure.port, timeout=TIMEOUT) as client:
        client._host = "mail.test"		# the name that is checked
        client.starttls(context=ctx)
        client.send_message(letter())
    ctx.check_hostname = False
    with smtplib.SMTP_SSL(HOST, secure.tls_port, timeout=TIMEOUT, context=ctx) as client:
        client.send_message(letter())
    for message in sink.wait(2):
        assert without_received(message.data) == letter().as_bytes()


@pytest.mark.parametrize("flag", ["--tls", "--tls-on-connect"])
def test_swaks(secure, sink, flag):
    port = secure.port if flag == "--tls" else secure.tls_port
    text = run([need("swaks"), "--server", HOST, "--port", port, "--from", "a@src.test", "--to",
                "b@dst.test", "--body", "body of swaks", "--helo", "client.test", flag])
    assert "TLS started" in text, text
    assert b"with ESMTPS" in sink.wait(1)[0].data


@pytest.mark.parametrize("starttls", ["on", "off"])
def test_msmtp(secure, sink, ca, pair, tmp_path, starttls):
    port = secure.port if starttls == "on" else secure.tls_port
    run([need("msmtp"), "--host=localhost", "--port=%d" % port, "--auth=off", "--tls=on",
         "--tls-starttls=" + starttls, "--tls-trust-file=" + ca.path,
         "--tls-host-override=mail.test", "--from=a@src.test", "--domain=client.test",
         "b@dst.test"],
        stdin=DATA.replace(b"\r\n", b"\n"), HOME=str(tmp_path))
    assert b"with ESMTPS" in sink.wait(1)[0].data


@pytest.mark.parametrize("wrapper", ["no", "yes"])
def test_postfix(secure, sink, ca, make_postfix, wrapper):
    """As a client that sends nothing without TLS, and looks at our chain and name."""
    port = secure.port if wrapper == "no" else secure.tls_port
    postfix = make_postfix("[%s]:%d" % (HOST, port),
                           smtp_tls_security_level="verify" if wrapper == "no" else "encrypt",
                           smtp_tls_CAfile=ca.path, smtp_tls_wrappermode=wrapper,
                           smtp_tls_loglevel="1", smtp_tls_verify_cert_match="mail.test")
    with smtplib.SMTP(HOST, postfix.port, timeout=TIMEOUT) as client:
        client.sendmail("a@src.test", ["b@dst.test"], DATA)
    assert b"with ESMTPS" in sink.wait(1)[0].data
    if wrapper == "no":
        assert "Verified TLS connection established" in postfix.log()


def test_openssl_server_name(secure, ca):
    text = s_client(secure, "-CAfile", ca.path, "-verify_hostname", "mail.test",
                    "-verify_return_error", "-servername", "mail.test", check=True)
    assert "Verify return code: 0 (ok)" in text and "250" in text


def test_testssl(secure, tmp_path):
    """Nothing worse than "low", but for what the test's certificate and a lone host without a name
    bring with them."""
    report = tmp_path / "report.csv"
    subprocess.run([need("testssl"), "--starttls", "smtp", "--quiet", "--color", "0", "--warnings",
                    "off",
                    "--csvfile", str(report), "--protocols", "--std", "--server-defaults", "--fs",
                    "--vulnerable",
                    "%s:%d" % (HOST, secure.port)], stdin=subprocess.DEVNULL,
                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20 * TIMEOUT)
    rows = [line.split('","') for line in report.read_text().splitlines()[1:]]
    ours = re.compile("^\"?(cert_|DNS_CAA|OCSP_|scanTime|service)")
    worse = [row for row in rows if row[3] in ("MEDIUM", "HIGH", "CRITICAL")
             and not ours.match(row[0])]
    assert len(rows) > 30 and not worse, worse
