"""Real clients and a real server: smtplib, swaks, msmtp and sendmail hand mail to tram, which
passes it to Postfix, which passes it to tram, which delivers it. What arrives is what was sent, but
for the Received fields."""
import email
import email.policy
import os
import re
import shutil
import smtplib
import subprocess
from email.message import EmailMessage

import pytest

from conftest import FAST
from harness import TIMEOUT, program, split_received, wait_for

SUBJECT = ("Thư: a subject with ünïcode that is long enough to be folded by the client, once or "
           "twice")


def letter(to="b@dst.test", size=0):
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"], message["To"], message["Subject"] = "Alice <a@src.test>", to, SUBJECT
    message["Message-ID"], message["Date"] = ("<client-1@src.test>",
                                              "Sat, 21 Nov 2026 03:47:35 +0000")
    message.set_content("Xin chào.\n.\n..dots\n" + "line of text\n" * size)
    message.add_attachment(bytes(range(256)) * 300, maintype="application", subtype="octet-stream",
                           filename="all.bin")
    message.set_boundary("=-the-boundary-=")
    return message


def need(name):
    found = shutil.which(name) or shutil.which("/usr/sbin/" + name)
    if not found:
        pytest.skip("needs the package %s" % name)
    return found


def without_received(data):
    while True:
        received, data = split_received(data)
        if not received:
            return data


@pytest.fixture
def chain(make_tramd, make_postfix, sink):
    """tram → Postfix → tram → sink; what the tests send to, and where it ends."""
    last = make_tramd(static=sink, queue=FAST)
    postfix = make_postfix("[127.0.0.1]:%d" % last.port)
    first = make_tramd(static=("127.0.0.1", postfix.port), queue=FAST)
    first.postfix, first.last = postfix, last
    return first


def run(command, stdin=b"", **env):
    done = subprocess.run([str(word) for word in command], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=TIMEOUT, env=dict(os.environ, **env))
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")
    return done.stdout.decode("utf-8", "replace")


# ---- straight to the sink

@pytest.mark.quick
def test_smtplib(tramd, sink):
    with smtplib.SMTP("127.0.0.1", tramd.port, timeout=TIMEOUT) as client:
        assert client.send_message(letter()) == {}
        client.rset()
        assert client.vrfy("b@dst.test")[0] == 252
        assert client.noop()[0] == 250
        assert client.help()
        client.sendmail("", ["postmaster@dst.test", "b@dst.test"], letter().as_bytes())
    arrived = {message.sender: message for message in sink.wait(2)}
    assert without_received(arrived["a@src.test"].data) == letter().as_bytes()
    assert arrived[""].recipients == ["postmaster@dst.test", "b@dst.test"]


def test_smtplib_utf8(tramd, sink):
    with smtplib.SMTP("127.0.0.1", tramd.port, timeout=TIMEOUT) as client:
        client.ehlo()
        client.sendmail("người@nguồn.test", "hộp@đích.test",
                        "Subject: Trạm\r\n\r\nbưu\r\n".encode(),
                        mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    assert sink.wait(1)[0].recipients == ["hộp@đích.test"]


def test_swaks(tramd, sink):
    text = run([need("swaks"), "--server", "127.0.0.1", "--port", tramd.port, "--from",
                "a@src.test", "--to",
                "b@dst.test,c@dst.test", "--header", "Subject: from swaks", "--body",
                "body of swaks", "--pipeline", "--helo", "client.test"])
    assert re.search(r"<-  250 2\.0\.0 queued as [0-9a-hjkmnp-tv-z]{13}\n", text), text
    arrived = sink.wait(1)[0]
    assert sorted(arrived.recipients) == ["b@dst.test", "c@dst.test"]
    assert b"Subject: from swaks" in arrived.data and b"body of swaks" in arrived.data


def test_msmtp(tramd, sink, tmp_path):
    data = letter().as_bytes(policy=email.policy.SMTP)
    run([need("msmtp"), "--host=127.0.0.1", "--port=%d" % tramd.port, "--auth=off",
         "--tls=off", "--from=a@src.test", "--domain=client.test", "b@dst.test"],
        stdin=data.replace(b"\r\n", b"\n"), HOME=str(tmp_path))
    assert without_received(sink.wait(1)[0].data) == data


def test_nodemailer_like_client_that_waits_for_nothing(tramd, sink):
    """Some clients pipeline all of a small message behind EHLO's reply, in one packet, and
    close."""
    data = letter().as_bytes()
    with tramd.client() as c:
        c.hello()
        c.send(b"MAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nBDAT %d LAST\r\n" % len(data)
               + data + b"QUIT\r\n")
        for code in (250, 250, 250, 221, 0):
            c.reply(code)
    assert without_received(sink.wait(1)[0].data) == data


@pytest.mark.quick
@pytest.mark.parametrize("arguments, to", [
    (["-i", "-f", "a@src.test", "b@dst.test", "c@dst.test"], ["b@dst.test", "c@dst.test"]),
    (["-t", "-oi", "-fa@src.test"], ["b@dst.test"]),
    (["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root@dst.test"], ["root@dst.test"])])
def test_sendmail(tramd, sink, arguments, to):
    if not os.access(program("tram-sendmail"), os.X_OK):
        pytest.skip("tram-sendmail is not built")
    text = b"From: Cron <a@src.test>\nTo: b@dst.test\nSubject: by pipe\n\n.\nline\n"
    done = subprocess.run([program("tram-sendmail"), "-C", tramd.config_path, *arguments],
                          input=text, timeout=TIMEOUT,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    arrived = sink.wait(1)[0]
    assert sorted(arrived.recipients) == to
    if "-i" in arguments or "-oi" in arguments:
        assert arrived.body == b".\r\nline\r\n"


# ---- all the way

@pytest.mark.parametrize("size", [0, 20000])
def test_chain(chain, sink, size):
    """What arrives behind three servers is identical but for the three Received fields."""
    sent = letter(size=size)
    with smtplib.SMTP("127.0.0.1", chain.port, timeout=TIMEOUT) as client:
        client.send_message(sent)
    arrived = sink.wait(1)[0]
    assert without_received(arrived.data) == sent.as_bytes()
    received = re.findall(rb"(?m)^Received:(?:.*\r\n(?:[ \t].*\r\n)*)", arrived.headers)
    assert len(received) == 3 and b"Postfix" in received[1]
    assert (arrived.sender, arrived.recipients) == ("a@src.test", ["b@dst.test"])
    again = email.message_from_bytes(arrived.data, policy=email.policy.default)
    assert not again.defects and str(again["Subject"]) == SUBJECT
    assert next(again.iter_attachments()).get_content() == bytes(range(256)) * 300


def test_chain_many(chain, sink):
    """Three hundred messages to several recipients each; Postfix's own pace, connection reuse and
    pipelining."""
    for i in range(10):
        with chain.client() as c:
            c.hello()
            for j in range(30):
                c.message(b"Subject: %d-%d\r\n\r\n%s\r\n" % (i, j, b"x" * 500),
                          "a%d-%d@src.test" % (i, j), ["r%d@dst.test" % k for k in range(3)])
    sink.wait_until(lambda: sum(len(m.recipients) for m in sink.messages) >= 900, 4 * TIMEOUT,
                    "900 recipients")
    senders = sorted({m.sender for m in sink.messages})
    assert senders == sorted("a%d-%d@src.test" % (i, j) for i in range(10) for j in range(30))
    wait_for(lambda: not chain.queue_ids() and not chain.last.queue_ids(), TIMEOUT, "empty queues")
    assert sink.recipients() == {"r%d@dst.test" % k: 300 for k in range(3)}


def test_chain_dsn(chain, sink):
    """NOTIFY=SUCCESS goes through all hosts that know it; the last one answers it: ours, the sink
    has no DSN."""
    sink.features = [f for f in sink.features if f != "DSN"]
    with chain.client() as c:
        c.hello()
        c.message(letter().as_bytes(), mail="ENVID=way1 RET=HDRS",
                  rcpt="NOTIFY=SUCCESS ORCPT=rfc822;b@dst.test")
    sink.wait_until(lambda: any(m.sender == "" for m in sink.messages), TIMEOUT, "the report")
    report = next(m for m in sink.messages if m.sender == "")
    assert report.recipients == ["a@src.test"]
    assert b"Original-Envelope-Id: way1" in report.data and b"relayed" in report.data
    assert b"Reporting-MTA: dns; tram.test" in report.data.replace(b"dns;tram", b"dns; tram")


def test_chain_bounce(chain, sink):
    """A refusal behind Postfix: the last tram bounces it."""
    sink.rule("RCPT", "550 5.1.1 no such user", match="b@dst")
    with smtplib.SMTP("127.0.0.1", chain.port, timeout=TIMEOUT) as client:
        client.send_message(letter())
    bounce = sink.wait(1)[0]
    assert bounce.sender == "" and b"550 5.1.1 no such user" in bounce.data


def test_postfix_refuses(make_tramd, make_postfix, sink):
    """Postfix as the next hop that refuses: size, relaying; its words stand in our bounce."""
    postfix = make_postfix("[127.0.0.1]:%d" % sink.port, message_size_limit=20000,
                           smtpd_recipient_restrictions="check_recipient_access "
                                                        "inline:{{bad@dst.test=550 5.7.1 never}}")
    tramd = make_tramd(static=("127.0.0.1", postfix.port), queue=FAST,
                       routes={"src.test": "smtp:[127.0.0.1]:%d" % sink.port})
    tramd.send(b"Subject: big\r\n\r\n" + b"x" * 70 * 400 + b"\r\n")
    assert b"5.3.4" in sink.wait(1)[0].data
    tramd.send(b"Subject: small\r\n\r\nx\r\n", to=["bad@dst.test"])
    assert b"5.7.1" in sink.wait(2)[1].data and b"never" in sink.messages[1].data
