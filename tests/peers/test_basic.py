"""The main job: what is accepted arrives, octet for octet, once, to everyone it was for."""
import email
import os
import random
import threading

import pytest

from conftest import FAST
from harness import TIMEOUT, split_received, stuff
from sink import FEATURES

HEADER = b"From: a@src.test\r\nTo: b@dst.test\r\nSubject: bytes\r\n"
# do not begin with a field: a blank line comes between
HEADLESS = ("no-header", "dot-first", "mbox")
OCTETS = bytes(c for c in range(1, 256) if c not in (10, 13))

CONTENT = {
    "plain": HEADER + b"\r\nHello.\r\n",
    "eight-bit": HEADER + b"\r\n" + "Trạm, bưu chính\r\n".encode() + OCTETS + b"\r\n",
    "dots": HEADER + b"\r\n.\r\n..\r\n...\r\n.a\r\n\r\n.\r\n.",
    "dot-first": b".\r\n.\r\n",
    "long-lines": HEADER + b"\r\n" + b"x" * 998 + b"\r\n" + b"y" * 30000 + b"\r\n" + b"." * 5000
    + b"\r\n", "blank-ends": HEADER + b"X-Blank: a \t\r\n\r\nline \r\n\t\r\n\r\n\r\n",
    "folded": b"Subject: one\r\n two\r\n\tthree\r\nX: 1\r\nX: 2\r\nx: 3\r\n\r\nbody\r\n",
    "header-only": HEADER,
    "no-header": b"no header here, only text\r\nand more\r\n",
    "blank-first": b"\r\nbody behind an empty header\r\n",
    "mbox": b"From a@src.test Sat Nov 21 03:47:35 2026\r\nSubject: odd\r\n\r\nFrom here\r\n",
    # about 65,520 octets
    "chunk-edge": HEADER + b"\r\n" + (b"z" * 76 + b"\r\n") * 840,
    "chunks": HEADER + b"\r\n" + b"".join(b".%076d\r\n" % i for i in range(5000)),
}


def deliver(tramd, sink, data, **how):
    message_id = tramd.send(data, **how)
    tramd.wait_log(event="final", id=message_id)
    return message_id, next(m for m in sink.messages
                            if message_id.encode() in split_received(m.data)[0])


def complete(data):
    """SMTP can carry only whole lines by DATA."""
    return data if not data or data.endswith(b"\r\n") else data + b"\r\n"


@pytest.mark.quick
@pytest.mark.parametrize("name", CONTENT)
def test_identical(tramd, sink, name):
    data = complete(CONTENT[name])
    for bdat in (False, True):
        message_id, arrived = deliver(tramd, sink, data, bdat=bdat)
        received, rest = split_received(arrived.data)
        assert rest == (b"\r\n" if name in HEADLESS else b"") + data
        assert (received.count(b"Received:") == 1 and b"tram.test" in received
                and message_id.encode() in received)


@pytest.mark.parametrize("name", ["plain", "eight-bit", "dots", "chunks"])
def test_identical_without_extensions(make_tramd, make_sink, name):
    sink = make_sink(features=())
    tramd = make_tramd(static=sink, queue=FAST)
    _, arrived = deliver(tramd, sink, complete(CONTENT[name]))
    assert split_received(arrived.data)[1] == complete(CONTENT[name]) and not arrived.bdat


@pytest.mark.quick
def test_empty(tramd, sink):
    _, arrived = deliver(tramd, sink, b"")
    received, rest = split_received(arrived.data)
    assert received and rest in (b"", b"\r\n")


@pytest.mark.parametrize("features", [FEATURES, ()], ids=["chunking", "data"])
def test_fifty_megabytes(make_tramd, make_sink, features):
    sink = make_sink(features=features)
    tramd = make_tramd(static=sink, queue=FAST)
    line = random.Random(1).randbytes(57).hex().encode()
    data = HEADER + b"\r\n" + b".%s\r\n" % line * ((50 << 20) // (len(line) + 3) - 2)
    message_id = tramd.send(data)
    tramd.wait_log(event="final", id=message_id, timeout=4 * TIMEOUT)
    assert split_received(sink.wait(1)[0].data)[1] == data


def test_over_the_size(tramd, sink):
    with tramd.client() as c:
        c.hello()
        assert c.features["SIZE"] == ["52428800"]
        c.command("MAIL FROM:<a@src.test> SIZE=52428801", 552)
        c.envelope("a@src.test", ["b@dst.test"])
        c.command("DATA", 354)
        c.send(b"x" * 998 + b"\r\n")
        c.send((b"y" * 998 + b"\r\n") * (52428800 // 1000 + 1))
        c.command(".", 552)
        assert c.message(CONTENT["plain"])			# the session goes on
    sink.wait(1)


@pytest.mark.quick
def test_thousand_recipients(tramd, sink):
    to = ["r%d@dst.test" % i for i in range(1000)]
    message_id = tramd.send(CONTENT["plain"], to=to)
    tramd.wait_log(event="final", id=message_id, count=1000)
    assert sink.recipients() == {address: 1 for address in to}
    with tramd.client() as c:
        c.hello()
        c.envelope("a@src.test", to)
        c.command("RCPT TO:<one-more@dst.test>", 452)
        c.command("RSET", 250)


def test_domains_apart(make_tramd, make_sink):
    """Each recipient goes where its domain's route says; the most specific one counts."""
    one, two, rest = make_sink(), make_sink(), make_sink()
    tramd = make_tramd(static=rest, routes={
        "one.test": "smtp:[127.0.0.1]:%d" % one.port,
        "*.two.test": "smtp:[127.0.0.1]:%d" % two.port, "gone.test": "discard"})
    to = ["a@one.test", "b@deep.er.two.test", "c@two.test", "d@other.test", "e@ONE.test",
          "f@gone.test"]
    message_id = tramd.send(CONTENT["plain"], to=to)
    tramd.wait_log(event="final", id=message_id, count=6)
    assert set(one.recipients()) == {"a@one.test", "e@one.test"}
    assert set(two.recipients()) == {"b@deep.er.two.test"}
    assert set(rest.recipients()) == {"c@two.test", "d@other.test"}


@pytest.mark.quick
def test_same_id_everywhere(tramd, sink):
    message_id, arrived = deliver(tramd, sink, CONTENT["plain"])
    assert b"id %s" % message_id.encode() in split_received(arrived.data)[0]
    accept, final = tramd.events(event="accept")[0], tramd.events(event="final")[0]
    assert accept["id"] == final["id"] == message_id
    assert (accept["from"] == "a@src.test" and final["to"] == "b@dst.test"
            and final["outcome"] == "delivered")


def test_parameters_are_passed_on(tramd, sink):
    with tramd.client() as c:
        c.hello()
        c.message(CONTENT["eight-bit"], mail="BODY=8BITMIME RET=HDRS ENVID=QQ314159 SIZE=%d"
                  % len(CONTENT["eight-bit"]),
                  rcpt="NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+2B@example.test")
    arrived = sink.wait(1)[0]
    assert {"BODY=8BITMIME", "RET=HDRS", "ENVID=QQ314159",
            "SIZE=%d" % len(arrived.data)} <= set(arrived.mail_params)
    params = arrived.rcpt_params["b@dst.test"]
    assert "ORCPT=rfc822;Bob+2B@example.test" in params and "NOTIFY=SUCCESS,FAILURE" in params


def test_internationalised(tramd, sink):
    with tramd.client() as c:
        c.hello()
        c.message("Subject: Trạm\r\n\r\nbưu\r\n".encode(), "người@nguồn.test", ["hộp@đích.test"],
                  mail="SMTPUTF8")
    arrived = sink.wait(1)[0]
    assert arrived.sender == "người@nguồn.test" and "SMTPUTF8" in arrived.mail_params
    assert b"UTF8SMTP" in split_received(arrived.data)[0]


def parts_of(data):
    """Type and decoded content of each part that has no parts, by Python's email package."""
    return [(p.get_content_type(), p.get_payload(decode=True))
            for p in email.message_from_bytes(data).walk()
            if not p.is_multipart()]


@pytest.mark.parametrize("convert", ["yes", "no"])
def test_host_without_8bitmime(make_tramd, make_sink, convert):
    """As it is; or, on wish, seven bits of the same content."""
    sink = make_sink(features=[f for f in FEATURES if f != "8BITMIME"])
    tramd = make_tramd(static=sink, extra="convert-8bit = " + convert)
    encoding = b"Content-Transfer-Encoding: 8bit\r\n"
    inner = (b"Subject: inner\r\nMIME-Version: 1.0\r\n" + encoding
             + "\r\nlá thư = bên trong \t\r\n".encode() * 900)
    data = (b"Subject: outer\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"a "
            b"b\"\r\n" + encoding +
            b"\r\n--a b\r\nContent-Type: text/plain; charset=utf-8\r\n" + encoding + b"\r\n" +
            "xin chào ".encode() * 500 + b"\r\n.\r\n\r\n--a b\r\nContent-Type: image/png\r\n"
            + encoding + b"\r\n" +
            bytes(range(128, 256)) * 400 + b"\r\n--a b\r\nContent-Type: message/rfc822\r\n"
            + encoding + b"\r\n" +
            inner + b"\r\n--a b--\r\n")
    with tramd.client() as c:
        c.hello()
        c.message(data, mail="BODY=8BITMIME")
    arrived = split_received(sink.wait(1)[0].data)[1]
    if convert == "no":
        assert arrived == data
        return
    assert max(arrived) < 128 and max(map(len,
                                          arrived.split(b"\r\n"))) <= 76 and b"8bit" not in arrived
    assert parts_of(arrived) == parts_of(data) and len(parts_of(data)) == 3
    assert "SIZE" not in " ".join(sink.messages[0].mail_params) and not sink.messages[0].bdat


def test_relaying_denied(make_tramd, sink):
    tramd = make_tramd(static=sink, relay_from=["192.0.2.0/24"], extra='relay-to = {"ours.test"}')
    with tramd.client() as c:
        c.hello()
        c.command("MAIL FROM:<a@src.test>", 250)
        assert "5.7.1" in c.command("RCPT TO:<b@dst.test>", 550).text
        c.command("RCPT TO:<b@ours.test>", 250)
        c.command("DATA", 354)
        c.send(CONTENT["plain"])
        c.command(".", 250)
    assert sink.wait(1)[0].recipients == ["b@ours.test"]


@pytest.mark.parametrize("written", ["bücher.test", "xn--bcher-kva.test"])
def test_two_names_of_one_domain(make_tramd, sink, written):
    """An international domain is the same in U-labels and in A-labels, in the configuration and in
    addresses."""
    tramd = make_tramd(routes={written: "smtp:[%s]:%d" % (sink.host, sink.port),
                               "*": "reject:550 5.1.2 not here"},
                       relay_from=["192.0.2.0/24"], extra='relay-to = {"%s"}' % written)
    with tramd.client() as c:
        c.hello()
        c.command("MAIL FROM:<a@src.test> SMTPUTF8", 250)
        for domain in ("bücher.test", "BÜCHER.test", "xn--bcher-kva.test", "XN--bcher-kva.Test"):
            c.command("RCPT TO:<b@%s>" % domain, 250)
        assert "5.7.1" in c.command("RCPT TO:<b@bucher.test>", 550).text
        c.command("DATA", 354)
        c.send(CONTENT["plain"])
        c.command(".", 250)
    assert sink.wait(1)[0].recipients == ["b@bücher.test", "b@bÜcher.test", "b@xn--bcher-kva.test",
                                          "b@xn--bcher-kva.test"]


def test_pipelined_messages(tramd, sink):
    """Thirty transactions in one write, as a client that has read EHLO may send them with BDAT."""
    data = CONTENT["dots"] + b"\r\n"
    with tramd.client() as c:
        c.hello()
        c.send(b"".join(b"MAIL FROM:<a%d@src.test>\r\nRCPT TO:<b%d@dst.test>\r\nBDAT %d LAST\r\n"
                        % (i, i, len(data))
                        + data for i in range(30)) + b"QUIT\r\n")
        for _ in range(90):
            c.reply(250)
        c.reply(221)
        c.reply(0)
    assert sorted(m.sender for m in sink.wait(30)) == sorted("a%d@src.test" % i for i in range(30))
    assert all(split_received(m.data)[1] == data for m in sink.messages)


@pytest.mark.quick
def test_many_at_once(tramd, sink):
    """Forty clients send messages of all sizes; each arrives once, whole."""
    sent, faults = {}, []

    def client(number):
        chance = random.Random(number)
        try:
            with tramd.client() as c:
                c.hello()
                for i in range(10):
                    body = chance.randbytes(chance.choice((0, 10, 2000, 40000,
                                                           100000))).hex().encode()
                    lines = b"".join(body[j:j + 70] + b"\r\n" for j in range(0, len(body), 70))
                    sender = "s%d-%d@src.test" % (number, i)
                    sent[sender] = HEADER + b"\r\n" + lines
                    c.message(sent[sender], sender, ["a%d@dst.test" % number, "b@dst.test"],
                              bdat=i % 2 == 1)
                c.quit()
        except (AssertionError, OSError) as fault:
            faults.append(fault)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    tramd.wait_log(event="final", count=800, timeout=2 * TIMEOUT)
    assert {m.sender: split_received(m.data)[1] for m in sink.messages} == sent
    assert sum(sink.recipients().values()) == 800


@pytest.mark.quick
def test_stops_and_starts(make_tramd, make_sink, sink):
    """What is queued when tramd stops goes out when it starts again."""
    blocked = sink.rule("BANNER", "421 4.3.2 not now")
    tramd = make_tramd(static=sink, queue=FAST)
    ids = [tramd.send(CONTENT["plain"], to=["r%d@dst.test" % i]) for i in range(20)]
    sink.wait_rule(blocked)
    tramd.stop()
    sink.clear_rules()
    tramd.start()
    for message_id in ids:
        tramd.wait_log(event="final", id=message_id)
    assert sink.recipients() == {"r%d@dst.test" % i: 1 for i in range(20)}


def test_nothing_left(tramd, sink):
    """An idle tramd has an empty queue and a store that does not grow with what went through."""
    for _ in range(3):
        for _ in range(10):
            tramd.send(CONTENT["chunks"])
        sink.wait(10)
        tramd.wait_empty()
    # 30 × 390 KB went through; far less than that is needed at a time.
    assert os.stat(os.path.join(tramd.queue_path, "data.mdb")).st_blocks * 512 < 90 << 20


def test_stuffing_itself():
    assert stuff(b".\r\n..\r\na\r\n.b\r\n") == b"..\r\n...\r\na\r\n..b\r\n"
