"""Other programs that log in, or verify us: Exim both ways, Postfix by DANE, nodemailer, and what
Thunderbird says."""
import base64
import os
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile

import pytest

import dnssec
import exim
import harness
from dnssec import SignedNsd, Unbound, spki_digest
from harness import TIMEOUT, quoted, split_received, wait_for
from test_auth import HOST, PASSWORD, USER, entry, make_server  # noqa: F401

BODY = ("From: Anna <anna@src.test>\r\nTo: b@far.test\r\nSubject: way\r\nMessage-ID: "
        "<1@src.test>\r\n"
        "Date: Sat, 21 Nov 2026 03:47:35 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; "
        "charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n\r\nXin chào\r\n.\r\n..dots\r\n").encode()


def need_namespaces():
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("a mount namespace needs root")


def test_exim_both_ways(make_server, make_tramd, sink, ca, tmp_path):  # noqa: F811
    """tram, logged in → Exim, logged in → tram → the sink; TLS with certificates that are looked
    at."""
    if exim.program() is None:
        pytest.skip("Exim has not been unpacked (see exim.py)")
    need_namespaces()
    last = make_server()
    chain, key = ca.sign("exim", ["exim.test"])
    (tmp_path / "secret").write_text(PASSWORD)
    with exim.Exim(chain, key, ca.path, USER, PASSWORD,
                   relay=(HOST, last.ports["submission"])) as middle:
        first = make_tramd(routes={"*": {"deliver": "smtp:[%s]:%d" % (HOST, middle.port),
                                         "tls": "verify", "tls-names":
                                         '"exim.test"', "user": quoted(USER),
                                         "password-file": quoted(str(tmp_path / "secret"))}},
                           extra="delivery-ca = %s\n" % quoted(ca.path))
        with smtplib.SMTP(HOST, first.port, local_hostname="src.test") as c:
            c.sendmail(USER, ["b@far.test"], BODY, mail_options=["BODY=8BITMIME"])
        try:
            message = sink.wait(1)[0]
        except AssertionError as fault:
            raise AssertionError("%s\n%s" % (fault, middle.log())) from None
        wait_for(lambda: " => b@far.test" in middle.log(), TIMEOUT, "Exim's own line of it")
        log = middle.log()
    assert message.data.endswith(BODY) and message.sender == USER
    assert re.search(r" <= %s .*P=esmtpsa .*A=plain_server:%s" % (USER, USER), log), log
    assert re.search(r" => b@far.test .*A=plain_client", log), log
    assert last.wait_log(event="auth", result="ok")["user"] == USER


class ResolvingPostfix(harness.Postfix):
    """One whose whole name service is this resolver, in a mount namespace of its own."""

    def __init__(self, relay, resolver, **settings):
        self.conf = tempfile.NamedTemporaryFile("w", prefix="tram-resolv-", suffix=".conf")
        self.conf.write("nameserver %s\n" % resolver.host)
        self.conf.flush()
        os.chmod(self.conf.name, 0o644)
        super().__init__(relay, **settings)

    def command(self, word):
        subprocess.run(["unshare", "-m", "sh", "-c",
                        'mount --bind "$0" /etc/resolv.conf && exec "$@"', self.conf.name,
                        harness.POSTFIX, "-c", self.etc, word], check=True,
                       stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_postfix_verifies_us_by_dane(make_tramd, sink, ca):
    """The right record: it comes. Another host name with a wrong one: not a word of it."""
    need_namespaces()
    if dnssec.missing() or not shutil.which(harness.POSTFIX):
        pytest.skip("%s is not installed" % (dnssec.missing() or "postfix"))
    # DANE-EE: the name in it does not count
    chain, key = ca.sign("dane", ["elsewhere.test"])
    daemon = make_tramd(static=sink, extra="certificate mail { chain = %s key = %s }\n"
                        % (quoted(chain), quoted(key)))
    zone = ("good A 127.0.0.1\nbad A 127.0.0.1\nnone A 127.0.0.1\n_%d._tcp.good TLSA 3 1 1 "
            "%s\n_%d._tcp.bad TLSA 3 1 1 %s"
            % (daemon.port, spki_digest(chain), daemon.port, "00" * 32))
    with SignedNsd({"dane.test": zone}, signed=["dane.test"]) as nsd:
        resolver = Unbound(nsd, host="127.0.53.%d" % (1 + os.getpid() % 250), port=53)
        with resolver:
            postfix = ResolvingPostfix(
                "", resolver, disable_dns_lookups="no", smtp_host_lookup="dns",
                smtp_dns_support_level="dnssec",
                smtp_tls_security_level="dane-only", smtp_tls_loglevel="1",
                transport_maps="inline:{%s}" % ", ".join(
                    "%s.test=smtp:[%s.dane.test]:%d" % (name, name, daemon.port)
                    for name in ("good", "bad", "none")))
            try:
                with smtplib.SMTP(HOST, postfix.port, local_hostname="src.test") as c:
                    c.sendmail("a@src.test", ["b@good.test", "b@bad.test", "b@none.test"], BODY)
                wait_for(lambda: len(re.findall("status=", postfix.log())) >= 3, TIMEOUT,
                         "an outcome for each")
                log = postfix.log()
            finally:
                postfix.close()
    assert sorted(re.findall(r"to=<(\S+)>,.*status=(\w+)", log)) == [
        ("b@bad.test", "deferred"), ("b@good.test", "sent"), ("b@none.test", "deferred")], log
    assert re.findall(r"Verified TLS connection established to (\S+)\[",
                      log) == ["good.dane.test"], log
    assert [m.recipients
            for m in sink.wait(1)] == [["b@good.test"]] and b"with ESMTPS" in sink.messages[0].data


NODE = """
const mailer = require("/usr/share/nodejs/nodemailer");
const [port, secure, ca, user, pass] = process.argv.slice(2);
const transport = mailer.createTransport({host: "127.0.0.1", port: +port, secure: secure == "yes", requireTLS: true,
    tls: {ca: require("fs").readFileSync(ca), servername: "tram.test"}, auth: {user, pass}});
transport.sendMail({from: user, to: "b@far.test", subject: "thư", text: "Xin chào\\n.\\n",
    attachments: [{filename: "all.bin", content: Buffer.alloc(100000, 7)}]})
    .then(i => console.log(i.response), e => { console.error(e.message); process.exit(1); });
"""


@pytest.mark.parametrize("port", ["submission", "smtps"])
def test_nodemailer(make_server, sink, ca, tmp_path, port):  # noqa: F811
    if not shutil.which("node") or not os.path.isdir("/usr/share/nodejs/nodemailer"):
        pytest.skip("node-nodemailer is not installed")
    (tmp_path / "send.js").write_text(NODE)
    daemon = make_server()
    for password, good in ((PASSWORD, True), ("wrong", False)):
        done = subprocess.run(["node", str(tmp_path / "send.js"), str(daemon.ports[port]),
                               "yes" if port == "smtps" else "no",
                               ca.path, USER, password], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=2 * TIMEOUT, check=False)
        assert (done.returncode == 0) == good, done.stdout
        assert (b"250 2.0.0" if good else b"535") in done.stdout
    assert b"Xin ch" in sink.wait(1)[0].data or b"Xin_ch" in sink.messages[0].data


def test_as_thunderbird_does(make_server, sink, ca):  # noqa: F811
    """Line by line, as its log has it: it greets with its address, asks again behind STARTTLS, and
    waits for each reply."""
    daemon = make_server(submission="submission = yes ")
    context = ssl.create_default_context(cafile=ca.path)
    with socket.create_connection((HOST, daemon.ports["submission"]), timeout=TIMEOUT) as plain:
        def talk(s, line, expect):
            if line is not None:
                s.sendall(line + b"\r\n")
            said = b""
            while not re.search(rb"(?m)^\d\d\d [^\n]*\n\Z", said):
                more = s.recv(4096)
                assert more, "closed behind %r: %r" % (line, said)
                said += more
            assert said.startswith(expect), (line, said)
            return said.decode()
        talk(plain, None, b"220 ")
        offer = talk(plain, b"EHLO [192.168.178.21]", b"250-")
        assert "STARTTLS" in offer and "AUTH" not in offer
        talk(plain, b"STARTTLS", b"220 ")
        with context.wrap_socket(plain, server_hostname="tram.test") as s:
            offer = talk(s, b"EHLO [192.168.178.21]", b"250-")
            assert re.search(r"(?m)^250[- ]AUTH .*PLAIN",
                             offer) and "8BITMIME" in offer and "STARTTLS" not in offer
            talk(s, b"AUTH PLAIN " + base64.b64encode(b"\0%s\0%s"
                                                      % (USER.encode(), PASSWORD.encode())),
                 b"235 2.7.0 ")
            talk(s, b"MAIL FROM:<%s> BODY=8BITMIME SIZE=%d" % (USER.encode(), len(BODY)),
                 b"250 2.1.0 ")
            talk(s, b"RCPT TO:<b@far.test>", b"250 2.1.5 ")
            talk(s, b"RCPT TO:<c@far.test>", b"250 2.1.5 ")
            talk(s, b"DATA", b"354 ")
            talk(s, BODY.replace(b"\r\n.", b"\r\n..") + b".", b"250 2.0.0 ")
            talk(s, b"QUIT", b"221 ")
    message = sink.wait(1)[0]
    received, rest = split_received(message.data)
    assert rest == BODY and b"[192.168.178.21]" in received and b"with ESMTPSA" in received
    assert sorted(message.recipients) == ["b@far.test", "c@far.test"]
