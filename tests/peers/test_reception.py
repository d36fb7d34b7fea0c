"""What the daemon does with clients that are slow, early, many, silent or wrong: what the machine in process cannot show,
because a clock, an address or a second session has a part in it. Strangers are clients outside of relay-from."""
import signal
import socket

import pytest

from dns_server import BrokenDns
from harness import SmtpRaw

STRANGERS = {"relay_from": ["192.0.2.0/24"], "extra": 'relay-to = {"dst.test"}\ncheck-sender = no'}


# ---- the greeting

def test_early_talk_is_refused(make_tramd, sink):
    tramd = make_tramd(static=sink, listener={"greet-delay": "1m"}, start=False, **STRANGERS)
    tramd.start(ready=False)
    tramd.wait_log(event="ready")
    with SmtpRaw("127.0.0.1", tramd.port, greet=False) as c:
        c.send("EHLO spam.test\r\nMAIL FROM:<a@src.test>\r\n")
        assert "5.5.1" in c.reply(554).text
        c.reply(0)


def test_patience_is_greeted(make_tramd, sink):
    tramd = make_tramd(static=sink, listener={"greet-delay": "300ms"}, **STRANGERS)
    with tramd.client() as c:
        c.hello()
        c.message(b"Subject: late\r\n\r\n")
    sink.wait(1)


def test_known_clients_are_greeted_at_once(make_tramd, sink):
    tramd = make_tramd(static=sink, listener={"greet-delay": "1m"})
    with tramd.client() as c:		# the client's time-out is half of that
        c.hello()


def test_early_talk_without_delay(make_tramd, sink):
    """What is there when the connection is taken is seen."""
    tramd = make_tramd(static=sink, **STRANGERS)
    tramd.process.send_signal(signal.SIGSTOP)
    with SmtpRaw("127.0.0.1", tramd.port, greet=False) as c:
        c.send("EHLO spam.test\r\n")
        tramd.process.send_signal(signal.SIGCONT)
        assert "5.5.1" in c.reply(554).text
        c.reply(0)


# ---- newlines

def test_newlines_are_normalised_for_some(make_tramd, sink):
    """Of two clients one is an old printer's network."""
    tramd = make_tramd(static=sink, listener={"normalise-from": ["127.0.0.8/30"]})
    for source, code in (("127.0.0.9", 250), ("127.0.0.1", 550)):
        with SmtpRaw("127.0.0.1", tramd.port, source=source) as c:
            c.hello()
            c.envelope("a@src.test", ["b@dst.test"])
            c.command("DATA", 354)
            c.send(b"Subject: a\n\nb\r\n.\r\n")
            c.reply(code)
    assert sink.wait(1)[0].data.endswith(b"Subject: a\r\n\r\nb\r\n") and len(sink.messages) == 1


# ---- the trace

def test_client_is_hidden(make_tramd, sink):
    tramd = make_tramd(static=sink, listener={"hide-client": "yes"})
    with tramd.client() as c:
        c.hello("secret.client.test")
        message_id = c.message(b"Subject: private\r\n\r\n")
    data = sink.wait(1)[0].data
    assert b"secret" not in data and b"127.0.0.1" not in data and b"Received: from hidden.invalid" in data
    assert tramd.wait_log(event="accept", id=message_id)["client"].startswith("127.0.0.1")


# ---- the sender

SENDERS = """
    null.test    MX  0 .
    plain.test   MX  10 mail.plain.test.
    both.test    MX  0 .
    both.test    MX  10 mail.plain.test.
    nomx.test    A   192.0.2.1
"""


@pytest.fixture
def make_checking(make_tramd, sink):
    """tramd for strangers, and the name server that it asks for their senders."""
    made = []

    def make(extra="", rules=None, **how):
        made.append(BrokenDns(SENDERS, rules=rules).start())
        extra += '\nrelay-to = {"dst.test"}\nresolver-tries = 1\n'
        how.setdefault("relay_from", ["192.0.2.0/24"])
        return make_tramd(static=sink, resolver=made[-1].address, extra=extra, **how), made[-1]
    yield make
    for dns in made:
        dns.stop()


def test_sender_that_takes_no_mail(make_checking, sink):
    tramd, _ = make_checking()
    with tramd.client() as c:
        c.hello()
        c.send("MAIL FROM:<a@null.test>\r\nRCPT TO:<b@dst.test>\r\nNOOP\r\n")
        assert "5.7.27" in c.reply(550).text
        c.reply(503)
        c.reply(250)
        for sender in ("a@plain.test", "a@both.test", "a@nomx.test", "a@nowhere.test", "a@[192.0.2.1]", ""):
            c.message(b"Subject: way\r\n\r\n", sender=sender)
    assert len(sink.wait(6)) == 6


@pytest.mark.parametrize("what", ["servfail", "silence", "garbage"])
def test_sender_unknown_to_a_sick_dns(make_checking, sink, what):
    tramd, _ = make_checking("resolver-timeout = 200ms", {"null.test": what})
    with tramd.client() as c:
        c.hello()
        c.message(b"Subject: way\r\n\r\n", sender="a@null.test")
    sink.wait(1)


@pytest.mark.parametrize("how", [{"relay_from": ["127.0.0.0/8"]}, {"extra": "check-sender = no"}])
def test_sender_is_not_asked_for(make_checking, sink, how):
    tramd, dns = make_checking(**how)
    with tramd.client() as c:
        c.hello()
        c.message(b"Subject: way\r\n\r\n", sender="a@null.test")
    sink.wait(1)
    assert dns.count("null.test") == 0


@pytest.mark.parametrize("end", ["leaves", "time-out", "stop"])
def test_session_ends_while_the_sender_is_asked_for(make_checking, sink, end):
    limits = {"command-timeout": "300ms"} if end == "time-out" else {}
    tramd, dns = make_checking("resolver-timeout = 4m\nstop-timeout = 200ms", {"plain.test": "silence"}, limits=limits)
    c = tramd.client()
    c.hello()
    c.send("MAIL FROM:<a@plain.test>\r\n")
    dns.wait_for("plain.test", "MX")
    if end == "leaves":
        c.close()
        dns.rules.clear()
        tramd.reload()
        tramd.wait_log(event="reload")
    elif end == "time-out":
        assert "4.4.2" in c.reply(421).text
        c.reply(0)
    else:
        tramd.stop()
    c.close()


# ---- silence, slowness, and too many

def test_silence_between_commands(make_tramd, sink):
    tramd = make_tramd(static=sink, limits={"command-timeout": "300ms"})
    with tramd.client() as c:
        assert "4.4.2" in c.reply(421).text
        c.reply(0)
    tramd.wait_log(event="session", end="timeout")


def test_octets_that_make_no_command_buy_no_time(make_tramd, sink):
    tramd = make_tramd(static=sink, limits={"command-timeout": "500ms"})
    with tramd.client() as c:
        c.socket.settimeout(0.02)
        while not c.pending:
            c.send(b"x")
            try:
                c.pending = c.socket.recv(1000)
            except socket.timeout:
                pass
        assert c.pending.startswith(b"421 4.4.2")


def test_silence_in_a_message(make_tramd, sink):
    tramd = make_tramd(static=sink, limits={"data-timeout": "300ms"})
    with tramd.client() as c:
        c.hello()
        c.envelope("a@src.test", ["b@dst.test"])
        c.command("DATA", 354)
        c.send(b"Subject: and then\r\n")
        assert "4.4.2" in c.reply(421).text
        c.reply(0)
    assert not sink.messages


def test_strangers_are_hurried_when_connections_run_short(make_tramd, sink):
    """With four of five taken: those that were there before too, but not our own clients."""
    tramd = make_tramd(static=sink, relay_from=["127.0.0.8/30"], limits={"connections": 5, "stress-timeout": "300ms"},
                       extra="threads = 1")
    ours = SmtpRaw("127.0.0.1", tramd.port, source="127.0.0.9")
    strangers = [tramd.client() for _ in range(2)]
    strangers[0].hello()
    strangers.append(tramd.client())
    for c in strangers:
        assert "4.4.2" in c.reply(421).text
        c.close()
    ours.command("NOOP", 250)
    ours.close()
