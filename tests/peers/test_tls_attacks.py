"""What is tried against TLS on the way in: commands put before the handshake, ends in the midst of
a message, handshakes that never end, other protocols, octets one by one. What a client did not say
under TLS does not count, and nobody else waits."""
import os
import socket
import ssl
import struct
import subprocess

import pytest

from harness import TIMEOUT, SmtpRaw, split_received
from tls_client import Records, TlsRaw, context

HOST = "127.0.0.1"
DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nbody\r\n"


def connect(daemon, **how):
    return TlsRaw(HOST, daemon.port, **how)


def still_serves(daemon, sink, ca):
    before = len(sink.messages)
    with connect(daemon) as c:
        c.start_tls(context(ca.path))
        c.hello()
        c.message(DATA)
        c.quit()
    sink.wait(before + 1)


# ---- around STARTTLS (CVE-2011-0411 and its kin)

@pytest.mark.quick
@pytest.mark.parametrize("behind", [
    b"NOOP\r\n", b"EHLO evil.test\r\nMAIL FROM:<evil@src.test>\r\nRCPT TO:<b@dst.test>\r\n",
    b"MAIL FROM:<evil@", b"R",
    b"EHLO evil.test\r\nMAIL FROM:<evil@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\nSubject: "
    b"evil\r\n\r\n.\r\n",
    b"STARTTLS\r\n", b"QUIT\r\n", b"\r\n" * 100])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_what_stands_behind_starttls_is_dropped(secure, sink, ca, version, behind):
    with connect(secure) as c:
        c.hello()
        c.send(b"STARTTLS\r\n" + behind)
        c.reply(220)
        c.wrap(context(ca.path, version))
        c.command("RCPT TO:<b@dst.test>", 503)
        c.hello("good.test")
        c.command("RCPT TO:<b@dst.test>", 503)
        c.message(DATA, sender="good@src.test")
        c.quit()
    message = sink.wait(1)[0]
    assert message.sender == "good@src.test" and split_received(message.data)[1] == DATA
    assert b"evil" not in message.data
    assert secure.wait_log(event="session", messages="1")["errors"] == "2"


def test_pipelined_all_the_way(secure, sink, ca):
    """EHLO and STARTTLS in one segment too."""
    with connect(secure) as c:
        c.send("EHLO evil.test\r\nSTARTTLS\r\nMAIL FROM:<evil@src.test>\r\n")
        c.reply(250)
        c.reply(220)
        c.wrap(context(ca.path))
        c.command("MAIL FROM:<a@src.test>", 503)	# no EHLO since
        c.hello()
        c.message(DATA)


def test_hello_is_forgotten(secure, ca):
    with connect(secure) as c:
        c.hello("before.test")
        c.start_tls(context(ca.path), hello=False)
        c.command("MAIL FROM:<a@src.test>", 503)
        c.hello("after.test")
        c.command("MAIL FROM:<a@src.test>", 250)
        c.quit()
    assert secure.wait_log(event="session", errors="1")["helo"] == "after.test"


def test_starttls_where_it_has_no_place(secure, ca):
    with connect(secure) as c:
        c.command("STARTTLS", 503)			# before EHLO
        c.hello()
        c.command("STARTTLS now", (501, 555))
        c.command("MAIL FROM:<a@src.test>", 250)
        c.command("STARTTLS", 503)			# in a transaction
        c.command("RSET", 250)
        c.start_tls(context(ca.path), hello=False)
        c.hello()
        c.command("STARTTLS", 503)			# twice


# ---- an end in the midst

def begin(c, bdat):
    c.hello()
    c.envelope("a@src.test", ["b@dst.test"])
    if bdat:
        c.send(b"BDAT 1000 LAST\r\nSubject: cut\r\n\r\n")
    else:
        c.command("DATA", 354)
        c.send(b"Subject: cut\r\n\r\nbody\r\n")


@pytest.mark.parametrize("end", ["close_notify", "fin", "reset"])
@pytest.mark.parametrize("bdat", [False, True], ids=["data", "bdat"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_an_end_in_a_message_discards_it(secure, sink, ca, version, bdat, end):
    with connect(secure) as c:
        c.start_tls(context(ca.path, version))
        begin(c, bdat)
        if end == "close_notify":
            try:
                c.socket = c.socket.unwrap()
                c.send(b"more\r\n.\r\nQUIT\r\n")	# in plain: there is no way back
            except (OSError, ssl.SSLError):
                pass					# it has hung up already
        elif end == "reset":
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line = secure.wait_log(event="session", helo="client.test")
    assert line["messages"] == "0", line
    assert not secure.queue_ids()
    still_serves(secure, sink, ca)
    assert all(b"cut" not in m.data for m in sink.messages)


def test_all_of_it_and_the_end_in_one_segment(secure, sink, ca):
    """What was said whole counts, whatever comes behind it."""
    raw = SmtpRaw(HOST, secure.port)
    raw.hello()
    raw.command("STARTTLS", 220)
    client = Records(raw, context(ca.path, "1.2"))
    client.shake(raw.send)
    raw.send(client.record(b"EHLO client.test\r\n"))
    client.reply(250)
    flight = client.record(b"MAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nBDAT %d LAST\r\n"
                           % len(DATA) + DATA)
    with pytest.raises((ssl.SSLWantReadError, ssl.SSLSyscallError)):
        client.tls.unwrap()
    raw.send(flight + client.out())
    sink.wait(1)
    raw.close()


# ---- renegotiation

def test_renegotiation_is_refused(secure, sink, ca):
    done = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % (HOST, secure.port),
                           "-starttls", "smtp",
                           "-tls1_2", "-CAfile", ca.path], input=b"R\n", stdout=subprocess.PIPE,
                          timeout=TIMEOUT, stderr=subprocess.STDOUT)
    assert b"RENEGOTIATING" in done.stdout and b"no renegotiation" in done.stdout, done.stdout
    still_serves(secure, sink, ca)


# ---- handshakes that lead nowhere

def hello_octets():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_half_open_handshakes(make_secure, sink, ca):
    """Hundreds that say nothing, or half a hello; each is ended, and nobody waits for them."""
    daemon = make_secure(limits={"tls-timeout": "5s"})
    held, hello = [], hello_octets()
    for number in range(150):
        c = SmtpRaw(HOST, daemon.port)
        c.hello()
        c.send(b"STARTTLS\r\n")
        c.reply(220)
        if number % 2:
            c.send(hello[:number])
        held.append(c)
        held.append(SmtpRaw(HOST, daemon.tls_port, greet=False))
        if number % 2:
            held[-1].send(hello[:number])
    waiting = [row["waiting_for"] for row in daemon.ctl_json_lines("sessions")]
    assert waiting.count("tls handshake") > 0, waiting
    for _ in range(5):
        still_serves(daemon, sink, ca)
    for c in held:
        while c.socket.recv(4096):
            pass
        c.close()
    daemon.wait_log(event="session", end="timeout of the tls handshake", count=300)
    still_serves(daemon, sink, ca)


@pytest.mark.parametrize("said", [b"\0" * 2000, os.urandom(4000), b"EHLO client.test\r\n",
                                  b"GET / HTTP/1.1\r\n\r\n",
                                  b"\x16\x03\x01\xff\xff" + b"a" * 70000,
                                  b"\x16\x03\x01\x00\x00" * 1000,
                                  b"\x80\x2e\x01\x03\x01" + b"\0" * 50,
                                  b"\x15\x03\x01\x00\x02\x01\x00" * 50],
                         ids=["zeros", "noise", "smtp", "http", "huge-record", "empty-records",
                              "sslv2", "alerts"])
@pytest.mark.parametrize("on_connect", [False, True], ids=["starttls", "smtps"])
def test_no_client_hello(secure, sink, ca, on_connect, said):
    with SmtpRaw(HOST, secure.tls_port if on_connect else secure.port, greet=not on_connect) as c:
        if not on_connect:
            c.hello()
            c.command("STARTTLS", 220)
        try:
            c.send(said)
            while c.socket.recv(4096):
                pass
        except ConnectionError:
            pass
    assert secure.wait_log(event="session", end="tls failed")["tls-error"]
    still_serves(secure, sink, ca)


def test_a_hello_on_the_plain_port(secure, sink, ca):
    with SmtpRaw(HOST, secure.port) as c:
        c.send(hello_octets())
        c.reply((500, 554))
        c.reply(0)
    still_serves(secure, sink, ca)


# ---- octets

@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_one_octet_per_segment(secure, sink, ca, version):
    """The handshake and a whole message."""
    raw = SmtpRaw(HOST, secure.port)
    raw.hello()
    raw.command("STARTTLS", 220)
    client = Records(raw, context(ca.path, version))

    def dribble(octets):
        for i in range(len(octets)):
            raw.send(octets[i:i + 1])
    client.shake(dribble)
    dribble(client.record(b"EHLO client.test\r\n"))
    client.reply(250)
    dribble(client.record(b"MAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\n"))
    got = b""
    while b"354" not in got:
        got += client.any_reply()
    assert got.count(b"\r\n") == 3
    dribble(client.record(DATA + b".\r\n"))
    assert split_received(sink.wait(1)[0].data)[1] == DATA
    raw.close()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_large_records_cut_anywhere(secure, sink, ca, version):
    """Each message is one record of nearly 16 KB, cut in and around its header and its end."""
    body = b"Subject: cut\r\n\r\n" + b"0123456789abcde\r\n" * 940
    raw = SmtpRaw(HOST, secure.port)
    raw.hello()
    raw.command("STARTTLS", 220)
    client = Records(raw, context(ca.path, version))
    client.shake(raw.send)
    raw.send(client.record(b"EHLO client.test\r\n"))
    client.reply(250)
    commands = b"MAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nBDAT %d LAST\r\n" % len(body)
    cuts = [1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 4096, 8192, -1, -2, -15, -16, -17, -18]
    for cut in cuts:
        record = client.record(commands + body)
        assert record[:3] == b"\x17\x03\x03" and len(record) > 16000
        raw.send(record[:cut])
        raw.send(record[cut:])
        got = b""
        while b"queued" not in got or not got.endswith(b"\r\n"):
            got += client.any_reply()
    assert all(split_received(m.data)[1] == body for m in sink.wait(len(cuts)))
    raw.close()


def test_records_that_were_changed_on_the_way(secure, sink, ca):
    """One bit: the connection ends, and nothing of it counts."""
    for version in ("1.2", "1.3"):
        raw = SmtpRaw(HOST, secure.port)
        raw.hello()
        raw.command("STARTTLS", 220)
        client = Records(raw, context(ca.path, version))
        client.shake(raw.send)
        raw.send(client.record(b"EHLO client.test\r\n"))
        client.reply(250)
        record = bytearray(client.record(b"MAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nBDAT "
                                         b"9 LAST\r\nSubject: "))
        record[-20] ^= 1
        raw.send(bytes(record))
        try:
            while client.hear():
                pass
        except ConnectionError:
            pass
        raw.close()
    secure.wait_log(event="session", end="tls failed", count=2)
    assert not sink.messages and not secure.queue_ids()
