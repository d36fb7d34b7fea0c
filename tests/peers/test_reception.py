"""What the daemon does with clients that are slow, early, many, silent or wrong: what the machine
in process cannot show, because a clock, an address or a second session has a part in it. Strangers
are clients outside of relay-from."""
import signal
import socket

import pytest

from dns_server import BrokenDns
from harness import SmtpRaw, free_port_on, split_received, wait_for

STRANGERS = {"relay_from": ["192.0.2.0/24"], "extra": 'relay-to = {"dst.test"}'}


# ---- the greeting

@pytest.mark.quick
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
    assert (b"secret" not in data and b"127.0.0.1" not in data
            and b"Received: from hidden.invalid" in data)
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


@pytest.mark.quick
def test_sender_that_takes_no_mail(make_checking, sink):
    tramd, _ = make_checking()
    with tramd.client() as c:
        c.hello()
        c.send("MAIL FROM:<a@null.test>\r\nRCPT TO:<b@dst.test>\r\nNOOP\r\n")
        assert "5.7.27" in c.reply(550).text
        c.reply(503)
        c.reply(250)
        for sender in ("a@plain.test", "a@both.test", "a@nomx.test", "a@nowhere.test",
                       "a@[192.0.2.1]", ""):
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
    limits = {"command-timeout": "2s"} if end == "time-out" else {}
    tramd, dns = make_checking("resolver-timeout = 4m\nstop-timeout = 200ms",
                               {"plain.test": "silence"}, limits=limits)
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


# ---- handed in by a mail program

@pytest.mark.parametrize("submission", ["yes", "no"])
def test_submission(make_tramd, sink, submission):
    tramd = make_tramd(static=sink, listener={"submission": submission})
    header = b"From: a@src.test\r\nBcc: secret@dst.test,\r\n\tother@dst.test\r\nSubject: x\r\n"
    with tramd.client() as c:
        c.hello()
        c.message(header + b"\r\nBcc: body\r\n")
        c.message(b"no header\r\n")
    plain, headless = (split_received(m.data)[1] for m in
                       sorted(sink.wait(2), key=lambda m: b"no header" in m.data))
    if submission == "no":
        assert plain == header + b"\r\nBcc: body\r\n" and headless == b"\r\nno header\r\n"
    else:
        assert b"secret" not in plain and plain.startswith(b"From: a@src.test\r\nSubject: "
                                                           b"x\r\nDate: ")
        assert plain.count(b"\r\nMessage-ID: <") == 1 and plain.endswith(b"@tram.test>\r\n\r\nBcc: "
                                                                         b"body\r\n")
        assert headless.startswith(b"Date: ") and headless.endswith(b">\r\n\r\nno header\r\n")


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
    tramd = make_tramd(static=sink, limits={"data-timeout": "2s"})
    with tramd.client() as c:
        c.hello()
        c.envelope("a@src.test", ["b@dst.test"])
        c.command("DATA", 354)
        c.send(b"Subject: and then\r\n")
        assert "4.4.2" in c.reply(421).text
        c.reply(0)
    assert not sink.messages


@pytest.mark.quick
def test_strangers_are_hurried_when_connections_run_short(make_tramd, sink):
    """With four of five taken: those that were there before too, but not our own clients."""
    tramd = make_tramd(static=sink, relay_from=["127.0.0.8/30"],
                       limits={"connections": 5, "stress-timeout": "300ms"}, extra="threads = 1")
    ours = SmtpRaw("127.0.0.1", tramd.port, source="127.0.0.9")
    strangers = [tramd.client() for _ in range(2)]
    strangers[0].hello()
    strangers.append(tramd.client())
    for c in strangers:
        assert "4.4.2" in c.reply(421).text
        c.close()
    ours.command("NOOP", 250)
    ours.close()


def test_drops_are_no_stream(make_tramd, sink):
    """A client that is never silent, and never done."""
    tramd = make_tramd(static=sink, limits={"data-timeout": "2s", "data-rate": "100KB"})
    with tramd.client() as c:
        c.hello()
        c.envelope("a@src.test", ["b@dst.test"])
        c.command("DATA", 354)
        c.socket.settimeout(0.02)
        while not c.pending:
            c.send(b"x\r\n")
            try:
                c.pending = c.socket.recv(1000)
            except socket.timeout:
                pass
        assert c.pending.startswith(b"421 4.4.2 too slow")
    assert not sink.messages


def until_refused(tramd, count, **how):
    """So many sessions, and one more, which is not let in: its reply."""
    sessions = [SmtpRaw("127.0.0.1", tramd.port, **how) for _ in range(count)]
    extra = SmtpRaw("127.0.0.1", tramd.port, greet=False, **how)
    reply = extra.reply(421)
    extra.reply(0)
    extra.close()
    return sessions, reply


def test_connections_of_one_client(make_tramd, sink):
    tramd = make_tramd(static=sink, limits={"connections-per-client": 3},
                       relay_from=["127.0.0.8/30"])
    wait_for(lambda: tramd.ctl("sessions").count("smtp") == 0, what="the harness has left")
    sessions, reply = until_refused(tramd, 3)
    assert "your network" in reply.text
    others = [SmtpRaw("127.0.0.1", tramd.port, source="127.0.0.2")]
    # ours: no limit
    others += [SmtpRaw("127.0.0.1", tramd.port, source="127.0.0.9") for _ in range(5)]
    sessions.pop().quit()
    wait_for(lambda: tramd.ctl("sessions").count("127.0.0.1:") == 2, what="one has left")
    sessions.append(tramd.client())
    for c in sessions + others:
        c.close()


def test_connections_in_all(make_tramd, sink):
    tramd = make_tramd(static=sink, limits={"connections": 3})
    wait_for(lambda: tramd.ctl("sessions").count("smtp") == 0, what="the harness has left")
    sessions, reply = until_refused(tramd, 3)
    assert "4.7.0" in reply.text
    tramd.wait_log(event="refused")
    for c in sessions:
        c.command("NOOP", 250)
        c.close()


def test_flood_of_rubbish(make_tramd, sink):
    """Hundreds of connections that talk nonsense, hang up or say nothing do not keep the mail of
    others waiting."""
    tramd = make_tramd(static=sink, relay_from=["127.0.0.8/30"],
                       limits={"error-delay": "0", "connections-per-client": 300})
    rubbish = [b"\0" * 5000, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01",
               b"\xff\xfe\r\n" * 500,
               b"EHLO a\r\n" * 500, b"x" * 100000, b"MAIL FROM:<" + b"a" * 5000 + b"\r\n", b""]
    held = []
    for i in range(250):
        c = SmtpRaw("127.0.0.1", tramd.port, greet=False)
        try:
            c.send(rubbish[i % len(rubbish)])
        except OSError:
            pass				# closed already: that is well
        if i % 3:
            held.append(c)
        else:
            c.close()
    with SmtpRaw("127.0.0.1", tramd.port, source="127.0.0.9") as c:
        c.hello()
        c.message(b"Subject: among them\r\n\r\n")
    sink.wait(1)
    for c in held:
        c.close()


# ---- the header

def dot(tramd, data):
    with tramd.client() as c:
        c.hello()
        c.envelope("a@src.test", ["b@dst.test"])
        c.command("DATA", 354)
        c.send(data + b"\r\n.\r\n")
        reply = c.reply()
        c.command("NOOP", 250)			# the session goes on
        return reply


def test_header_too_large(make_tramd, sink):
    tramd = make_tramd(static=sink, limits={"header-size": "2KB"})
    assert dot(tramd, b"Subject: a\r\nX: %s\r\n\r\nbody" % (b"x" * 1990)).code == 250
    for header in (b"X: " + b"x" * 3000, b"X: 12345678\r\n" * 200, b"X: a\r\n b" * 300):
        reply = dot(tramd, header + b"\r\n\r\nbody")
        assert reply.code == 552 and "5.3.4" in reply.text


def test_header_of_too_many_lines(make_tramd, sink):
    tramd = make_tramd(static=sink, limits={"header-lines": 20})
    assert dot(tramd, b"X: a\r\n" * 20 + b"\r\nbody").code == 250
    reply = dot(tramd, b"X: a\r\n" * 21 + b"\r\nbody")
    assert reply.code == 552 and "5.3.4" in reply.text


def test_too_many_hops(make_tramd, sink):
    tramd = make_tramd(static=sink, limits={"hops": 10})
    hop = b"received: from a by b; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    assert dot(tramd, hop * 10 + b"X: Received\r\n\r\n" + hop * 20).code == 250
    reply = dot(tramd, hop * 11 + b"\r\nbody")
    assert reply.code == 554 and "5.4.6" in reply.text


# ---- addresses to listen on

def test_both_families_on_one_port(make_tramd, sink):
    """[::] is for IPv6 alone, so that 0.0.0.0 can stand beside it."""
    port = free_port_on(["127.0.0.1", "::1"])
    tramd = make_tramd(static=sink, extra='listener all { address = {"0.0.0.0:%d", "[::]:%d"} }'
                       % (port, port), relay_from=["127.0.0.0/8", "::1"], hostname="mx.tram.test")
    for host in ("127.0.0.1", "::1"):
        with SmtpRaw(host, port) as c:
            c.hello()
            c.message(b"Subject: %s\r\n\r\n" % host.encode())
    traces = sorted(b"[127.0.0.1]" in m.data for m in sink.wait(2))
    assert traces == [False, True] and any(b"([IPv6:::1])" in m.data for m in sink.messages)


# ---- the end

@pytest.mark.quick
def test_stop_finishes_what_is_in_progress(make_tramd, sink):
    tramd = make_tramd(static=sink, extra="stop-timeout = 5m")
    idle, mail, busy = tramd.client(), tramd.client(), tramd.client()
    busy.hello()
    busy.envelope("a@src.test", ["b@dst.test"])
    busy.command("DATA", 354)
    busy.send(b"Subject: half\r\n\r\n")
    mail.hello()
    mail.command("MAIL FROM:<a@src.test>", 250)
    tramd.process.send_signal(signal.SIGTERM)
    assert "4.3.2" in idle.reply(421).text
    idle.reply(0)
    busy.send(b"whole\r\n.\r\n")
    busy.reply(250)
    assert "4.3.2" in busy.reply(421).text
    busy.reply(0)
    mail.close()
    assert tramd.end() == 0
    tramd.start()
    assert sink.wait(1)[0].data.endswith(b"\r\nwhole\r\n")
    for c in (idle, busy):
        c.close()
