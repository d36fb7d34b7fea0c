"""What comes back: deliveries with a sender of their own, asynchronous bounces of a real Postfix,
complaints, forgeries."""
import os
import re
import smtplib
import subprocess

import pytest

import harness
from clock import Clock
from conftest import FAST
from harness import TIMEOUT, program, quoted, wait_for
from steering import BODY, NEVER, rows

DOMAIN = "bounces.src.test"
ADDRESS = re.compile(r"b-[0-9a-z]{13}-\d+-[0-9a-z]{24}@bounces\.src\.test$")
VERP = 'verp "%s" { sender = "src.test" }\n' % DOMAIN
SUPPRESS = 'suppress = {"bad-mailbox=30d", "complaint=90d", "content-related=1d"}\n'

REPORT = """From: MAILER-DAEMON@far.test
To: %(to)s
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="x"

--x
Content-Type: text/plain

It did not work out.
--x
Content-Type: message/delivery-status

Reporting-MTA: dns; far.test

Final-Recipient: rfc822; %(recipient)s
Action: %(action)s
Status: %(status)s
Diagnostic-Code: smtp; %(reply)s

--x
Content-Type: text/rfc822-headers

%(header)s
--x--
"""

COMPLAINT = """From: feedback@far.test
To: fbl@src.test
Subject: complaint
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="x"

--x
Content-Type: text/plain

Somebody has pressed the button.
--x
Content-Type: message/feedback-report

Feedback-Type: %(kind)s
User-Agent: test/1
Version: 1
Original-Mail-From: <%(sender)s>

--x
Content-Type: message/rfc822

%(header)s
--x--
"""


def report(to, recipient, action="failed", status="5.1.1", reply="550 5.1.1 no such user",
           header="Subject: x\n"):
    return (REPORT % locals()).replace("\n", "\r\n").encode()


def complaint(sender, kind="abuse", header="Subject: x\n"):
    return (COMPLAINT % locals()).replace("\n", "\r\n").encode()


def header_of(data):
    return data.split(b"\r\n\r\n")[0].decode().replace("\r\n", "\n") + "\n"


def come_back(tramd, data, to, sender="", **how):
    with tramd.client() as c:
        c.hello()
        return c.message(data, sender=sender, to=[to], **how)


def suppressed(tramd):
    return {row["address"]: row["class"] for row in rows(tramd, "suppress", "list")}


def sent(sink, count):
    """recipient → the sender it was told."""
    return {m.recipients[0]: m.sender for m in sink.wait(count)}


def test_senders(make_tramd, sink):
    """One for each recipient, in transactions of their own; others stay as they are, and what is
    asked of DSN goes along."""
    tramd = make_tramd(static=sink, extra=VERP, queue=FAST)
    id = tramd.send(BODY, sender="news@src.test", to=["a@dst.test", "b@dst.test", "c@dst.test"])
    told = sent(sink, 3)
    assert len(told) == 3 and all(ADDRESS.match(sender) for sender in told.values())
    assert len({sender.split("-")[3] for sender in told.values()}) == 3
    assert sorted(sender.split("-")[1:3] for sender in told.values()) == [[id, "0"], [id, "1"],
                                                                          [id, "2"]]
    assert tramd.wait_log(event="delivery", id=id, to="b@dst.test")["verp"] == told["b@dst.test"]
    before = len(sink.messages)
    for sender in ("a@other.test", "SRS0=ab=cd=x.test=y@src.test", "prvs=1234=news@src.test",
                   told["a@dst.test"], ""):
        tramd.send(BODY, sender=sender, to=["d@dst.test", "e@dst.test"])
    later = sink.wait(before + 5)[before:]
    assert [m.sender for m in later] == ["a@other.test", "SRS0=ab=cd=x.test=y@src.test",
                                         "prvs=1234=news@src.test", told["a@dst.test"], ""]
    assert all(len(m.recipients) == 2 for m in later)
    # a report of ours goes to whoever sent it
    sink.rule("RCPT", "550 5.1.1 no such user", match="gone@")
    tramd.send(BODY, sender="news@src.test", to=["gone@dst.test"])
    wait_for(lambda: any(m.recipients == ["news@src.test"] for m in sink.messages), TIMEOUT,
             "the report")
    # and a second try has the same sender
    rule = sink.rule("RCPT", "450 4.2.0 later", match="twice@", times=1)
    tramd.send(BODY, sender="news@src.test", to=["twice@dst.test"])
    sink.wait_rule(rule)
    wait_for(lambda: any(m.recipients == ["twice@dst.test"] for m in sink.messages), TIMEOUT,
             "the second try")
    tries = [line for line in sink.commands("MAIL") if "b-" in line]
    assert tries[-1].split()[1] == tries[-2].split()[1]


def test_real_bounces(make_tramd, make_postfix, sink):
    """Postfix takes it, is refused further on, and tells us: matched, counted, suppressed, and told
    to the sender."""
    sink.rule("RCPT", "550 5.1.1 no such user", match="gone@")
    sink.rule("DOT", "554 5.6.0 not with these contents", match="bad@")
    port = harness.free_port()
    postfix = make_postfix("[%s]:%d" % (sink.host, sink.port),
                           transport_maps="inline:{%s=smtp:[127.0.0.1]:%d}" % (DOMAIN, port))
    tramd = make_tramd(static=("127.0.0.1", postfix.port),
                       extra=VERP + SUPPRESS + 'tenant-by = "sender-domain"\n', start=False)
    tramd.port = port
    tramd.write_config(tramd.text())
    tramd.start()
    header = b"From: news@src.test\r\nTo: x@dst.test\r\nSubject: this week\r\n\r\nHello.\r\n"
    id = tramd.send(header, sender="news@src.test", to=["good@dst.test", "gone@dst.test"])
    line = tramd.wait_log(event="bounce-received", id=id)
    assert (line["to"] == "gone@dst.test" and line["from"] == "news@src.test"
            and line["class"] == "bad-mailbox")
    assert (line["by"] == "verp" and line["form"] == "dsn" and line["action"] == "failed"
            and "5.1.1" in line["reply"])
    assert line["tenant"] == "src.test" and line["forward"] == "news@src.test"
    assert tramd.wait_log(event="suppressed", id=id)["to"] == "gone@dst.test"
    assert suppressed(tramd) == {"gone@dst.test": "bad-mailbox"}
    told = wait_for(lambda: [m for m in sink.messages if m.recipients == ["news@src.test"]],
                    TIMEOUT, "the report at the sender")
    assert told[0].sender == "" and b"gone@dst.test" in told[0].data
    assert [m.recipients for m in sink.messages
            if m.recipients != ["news@src.test"]] == [["good@dst.test"]]
    stats = tramd.ctl_json("stats")
    assert stats["returned_bounces"] == 1 and stats["returned_classes"] == {"bad-mailbox": 1}
    assert (stats["returned_tenants"] == {"src.test": {"bad-mailbox": 1}}
            and stats["returns_kept"] == 2)
    assert re.search(r"returned +bad-mailbox +1", tramd.ctl("stats"))


def test_reports(make_tramd, sink):
    """By hand: what is forged, old, delayed, of a machine or a person; and a report that names
    somebody else."""
    tramd = make_tramd(static=sink, extra=VERP + SUPPRESS + 'postmaster = "ops@src.test"\n')
    id = tramd.send(BODY, sender="news@src.test", to=["jo@dst.test", "kim@dst.test"])
    told = sent(sink, 2)
    tramd.wait_empty()
    mine = told["jo@dst.test"]
    for bad in ("x" + mine, mine[:-len(DOMAIN) - 2] + "z@" + DOMAIN, "b@" + DOMAIN,
                mine.replace("-0-", "-1-"), mine.split("@")[0].replace("b-", "c-") + "@" + DOMAIN):
        with tramd.client() as c:
            c.hello()
            c.command("MAIL FROM:<>", 250)
            assert bad == mine or "5.1.1" in c.command("RCPT TO:<%s>" % bad, 550).text
    assert "mail that comes back" in tramd.ctl("what-if", "--to", mine, "--listener", "smtp",
                                               "--client", "192.0.2.1")
    assert tramd.ctl("what-if", "--to", "b@" + DOMAIN, check=False).returncode == 1
    with tramd.client() as c:			# alone, or not at all
        c.hello()
        c.command("MAIL FROM:<>", 250)
        c.command("RCPT TO:<%s>" % mine.upper(), 250)
        assert "4.5.3" in c.command("RCPT TO:<%s>" % told["kim@dst.test"], 452).text
        c.command("RCPT TO:<b@dst.test>", 452)
        c.command("RSET", 250)
        c.command("MAIL FROM:<>", 250)
        c.command("RCPT TO:<b@dst.test>", 250)
        c.command("RCPT TO:<%s>" % mine, 452)
    come_back(tramd, BODY, "Postmaster@" + DOMAIN, sender="x@far.test")
    wait_for(lambda: any(m.recipients == ["ops@src.test"] for m in sink.messages), TIMEOUT,
             "the postmaster has mail")
    come_back(tramd, report(mine, "jo@dst.test", "delayed", "4.4.1", "451 4.4.1 later"), mine)
    line = tramd.wait_log(event="bounce-received", action="delayed")
    assert "class" not in line and line["to"] == "jo@dst.test" and not suppressed(tramd)
    # it is about the recipient that it was sent to, whatever it says
    come_back(tramd, report(mine, "victim@dst.test"), mine.upper())
    assert tramd.wait_log(event="bounce-received", action="failed")["to"] == "jo@dst.test"
    assert suppressed(tramd) == {"jo@dst.test": "bad-mailbox"}
    come_back(tramd, b"From: jo@dst.test\r\nSubject: Out of office\r\nAuto-Submitted: "
                     b"auto-replied\r\n\r\nIn May.\r\n",
              told["kim@dst.test"], sender="kim@dst.test")
    line = tramd.wait_log(event="returned", kind="autoreply")
    assert line["id"] == id and line["to"] == "kim@dst.test" and line["forward"] == "news@src.test"
    come_back(tramd, b"From: jo@dst.test\r\nSubject: hello\r\n\r\n" + b"word word\r\n" * 40000,
              told["kim@dst.test"], sender="kim@dst.test")
    tramd.wait_log(event="returned", kind="other")
    come_back(tramd, complaint("nobody@src.test"), told["kim@dst.test"])
    line = tramd.wait_log(event="complaint")
    assert (line["to"] == "kim@dst.test" and line["class"] == "complaint"
            and line["feedback"] == "abuse")
    assert suppressed(tramd)["kim@dst.test"] == "complaint"
    wait_for(lambda: len([m for m in sink.messages if m.recipients == ["news@src.test"]]) == 5,
             TIMEOUT, "all are told to the sender")
    assert {m.sender for m in sink.messages if m.recipients == ["news@src.test"]} == {""}
    stats = tramd.ctl_json("stats")
    assert {k: v for k, v in stats.items() if k.startswith("returned_") and isinstance(v, int)} == {
        "returned_bounces": 1, "returned_delays": 1, "returned_complaints": 1,
        "returned_autoreplies": 1, "returned_others": 1, "returned_unmatched": 0}


def test_who_leaves_does_not_matter(make_tramd, sink):
    """A peer that goes away while its report is being read: it is read all the same, and sent again
    it is read again."""
    tramd = make_tramd(static=sink, extra=VERP + SUPPRESS)
    tramd.send(BODY, sender="news@src.test", to=["r%d@dst.test" % i for i in range(20)])
    told = sent(sink, 20)
    for to, sender in told.items():
        with tramd.client() as c:
            c.hello()
            c.command("MAIL FROM:<>", 250)
            c.command("RCPT TO:<%s>" % sender, 250)
            c.command("DATA", 354)
            c.send(report(sender, to) + b".\r\n")
    tramd.wait_log(event="bounce-received", count=20)
    wait_for(lambda: len(suppressed(tramd)) == 20, TIMEOUT, "all are suppressed")
    assert tramd.ctl_json("stats")["returned_classes"] == {"bad-mailbox": 20}


def test_over_restarts(make_tramd, sink):
    """The key and the records outlive the process, even when it is killed; what is still in the
    queue needs no record."""
    rule = sink.rule("RCPT", "450 4.2.0 later", match="wait@")
    tramd = make_tramd(static=sink, extra=VERP + SUPPRESS, queue=NEVER)
    id = tramd.send(BODY, sender="news@src.test", to=["jo@dst.test", "wait@dst.test"])
    mine = sent(sink, 1)["jo@dst.test"]
    sink.wait_rule(rule)
    tramd.wait_log(event="final", id=id, to="jo@dst.test")
    tramd.wait_log(event="delivery", id=id, to="wait@dst.test")
    waiting = [line.split("<")[1].split(">")[0]
               for line in sink.commands("MAIL") if "-1-" in line][0]
    tramd.restart(kill=True)
    come_back(tramd, report(mine, "jo@dst.test"), mine)
    line = tramd.wait_log(event="bounce-received", to="jo@dst.test")
    assert line["from"] == "news@src.test" and line["id"] == id
    come_back(tramd, report(waiting, "wait@dst.test"), waiting)
    assert tramd.wait_log(event="bounce-received", to="wait@dst.test")["from"] == "news@src.test"
    tramd.restart(kill=True)
    assert suppressed(tramd) == {"jo@dst.test": "bad-mailbox", "wait@dst.test": "bad-mailbox"}
    assert tramd.ctl_json("stats")["returns_kept"] == 1


def test_damaged_notes(make_tramd, sink):
    """Whatever became of what is kept beside the mail (the key too): it starts, and mail goes on,
    under a new key."""
    tramd = make_tramd(static=sink, extra=VERP + SUPPRESS
                       + 'shape "all" { domain = "*" messages-per-day = 1000 }\n')
    tramd.send(BODY, sender="news@src.test", to=["jo@dst.test"])
    old = sent(sink, 1)["jo@dst.test"]
    tramd.ctl("sites", "suspend", "mx:other.test", "--for", "1h")
    tramd.ctl("suppress", "add", "nobody@dst.test")
    tramd.wait_empty()
    tramd.stop()
    with open(os.path.join(tramd.queue_path, "data.mdb"), "r+b") as file:
        octets = file.read()
        places = [m.start() for m in re.finditer(rb"\x01N\x00\x00", octets)]
        assert len(places) >= 5
        for at in places:
            file.seek(at + 8)
            file.write(bytes([octets[at + 8] ^ 1]))		# the checksum is wrong now
    tramd.start()
    assert "was damaged" in tramd.wait_log(event="returns")["msg"]
    tramd.send(BODY, sender="news@src.test", to=["kim@dst.test"])
    new = sent(sink, 2)["kim@dst.test"]
    with tramd.client() as c:
        c.hello()
        c.command("MAIL FROM:<>", 250)
        assert "5.1.1" in c.command("RCPT TO:<%s>" % old, 550).text
        c.command("RCPT TO:<%s>" % new, 250)
    assert suppressed(tramd) == {}
    tramd.ctl("sites")
    tramd.ctl("sources")
    tramd.restart(kill=True)
    assert len(tramd.events(event="returns")) == 1	# the new key is whole


def test_without_records(make_tramd, sink):
    """The address alone: the recipient is known if the report names it, the sender is not; forward
    names a mailbox."""
    tramd = make_tramd(static=sink, extra=VERP + SUPPRESS
                       + 'bounces { records = 0 forward = "ops@src.test" }\n')
    id = tramd.send(BODY, sender="news@src.test", to=["jo@dst.test", "kim@dst.test"])
    told = sent(sink, 2)
    tramd.wait_empty()
    come_back(tramd, report(told["jo@dst.test"], "Jo@dst.test"), told["jo@dst.test"])
    line = tramd.wait_log(event="bounce-received")
    assert (line["id"] == id and line["to"] == "Jo@dst.test" and "from" not in line
            and line["forward"] == "ops@src.test")
    come_back(tramd, report(told["kim@dst.test"], "victim@dst.test"), told["kim@dst.test"])
    assert tramd.wait_log(event="bounce-received", count=2)["to"] == ""
    assert suppressed(tramd) == {"jo@dst.test": "bad-mailbox"}
    assert [m.recipients for m in sink.wait(4)[2:]] == [["ops@src.test"]] * 2
    assert tramd.ctl_json("stats")["returned_unmatched"] == 2


def test_servers_share_keys(make_tramd, make_sink, tmp_path):
    """What one has sent comes back to another; an older key is good until it is taken out; bad
    files change nothing."""
    def new_key():
        return subprocess.check_output([program("tramctl"), "verp-key"], text=True)
    files, servers, sink = [tmp_path / "one", tmp_path / "two"], [], make_sink()
    old, new = new_key(), new_key()
    assert old != new and len(old) == 65
    for path in files:
        path.write_text("# shared\n" + old)
        path.chmod(0o600)
        servers.append(make_tramd(static=sink, queue=NEVER, extra=VERP + SUPPRESS +
                                  "bounces { verp-keys = %s forward = \"ops@src.test\" }\n"
                                  % quoted(str(path))))
    first, second = servers
    first.send(BODY, sender="news@src.test", to=["a@dst.test", "b@dst.test"])
    told = sent(sink, 2)
    data = report(told["a@dst.test"],
                  "a@dst.test").replace(b"Reporting-MTA",
                                        b"Original-Envelope-Id: campaign+2B7\r\nReporting-MTA")
    come_back(second, data, told["a@dst.test"])
    line = second.wait_log(event="bounce-received", envid="campaign+2B7")
    assert (line["by"], line["to"], line["class"]) == ("verp", "a@dst.test",
                                                       "bad-mailbox") and "from" not in line
    assert suppressed(second) == {"a@dst.test": "bad-mailbox"}
    files[1].write_text(new + old)
    second.reload()
    second.wait_log(event="reload", level="info")
    come_back(second, report(told["b@dst.test"], "b@dst.test"), told["b@dst.test"])
    wait_for(lambda: "b@dst.test" in suppressed(second), what="the older key is good")
    files[1].write_text(new + "nonsense\n")
    second.reload()
    assert "two:2: that is no key" in second.wait_log(event="reload", level="error")["msg"]
    files[1].write_text(new)
    second.reload()
    wait_for(lambda: len(second.events(event="reload", level="info")) == 2,
             what="the second reload")
    with second.client() as c:
        c.hello()
        c.command("MAIL FROM:<>", 250)
        c.command("RCPT TO:<%s>" % told["b@dst.test"], 550)
    text = second.ctl("dns-records", DOMAIN, check=False).stdout.decode()
    assert "(verp) at " + DOMAIN in text and "SPF" in text and "IN MX 10 tram.test." in text


@pytest.mark.parametrize("unproven", [False, True])
def test_feedback_address(make_tramd, sink, unproven):
    """Complaints by smtplib to an address of their own: known by the sender they show, or by our
    line in the header."""
    extra = VERP + SUPPRESS + 'bounces { address = "fbl@src.test" forward = nobody %s }\n' % (
        "suppress-unproven = yes" if unproven else "")
    tramd = make_tramd(static=sink, extra=extra)
    tramd.send(BODY, sender="news@src.test", to=["jo@dst.test"])
    id = tramd.send(BODY, sender="bulk@other.test", to=["kim@dst.test"])
    first, second = sorted(sink.wait(2), key=lambda m: m.recipients)
    tramd.wait_empty()
    with smtplib.SMTP("127.0.0.1", tramd.port, local_hostname="far.test") as c:
        c.sendmail("feedback@far.test", ["FBL@src.test"], complaint(first.sender, "not-spam"))
        c.sendmail("feedback@far.test", ["fbl@src.test"], complaint(first.sender))
        c.sendmail("feedback@far.test", ["fbl@src.test"],
                   complaint("bulk@other.test", header=header_of(second.data)))
        c.sendmail("feedback@far.test", ["fbl@src.test"], complaint("bulk@other.test"))
    lines = [tramd.wait_log(event="complaint", count=n) for n in (1, 2, 3)]
    assert [(line["to"], line["by"]) for line in lines] == [("jo@dst.test", "verp"),
                                                            ("kim@dst.test", "id"), ("", "nothing")]
    assert (lines[1]["id"] == id and lines[1]["from"] == "bulk@other.test"
            and lines[1]["forward"] == "nobody")
    assert suppressed(tramd) == {"jo@dst.test": "complaint",
                                 **({"kim@dst.test": "complaint"} if unproven else {})}
    stats = tramd.ctl_json("stats")
    assert (stats["returned_complaints"] == 3 and stats["returned_others"] == 1
            and stats["returned_unmatched"] == 1)
    assert len(sink.messages) == 2


def test_lifetime_and_limits(make_tramd, sink, tmp_path):
    """Old addresses are nobody's; records are no more than fit; a sender of such an address is told
    nothing."""
    clock = Clock(tmp_path)
    tramd = make_tramd(static=sink, extra=VERP + SUPPRESS
                       + 'bounces { address = "fbl@src.test" lifetime = 1h records = 100KB }\n',
                       env=clock.env)
    tramd.send(BODY, sender="news@src.test", to=["r%d@dst.test" % i for i in range(900)])
    told = sent(sink, 900)
    tramd.wait_empty()
    wait_for(lambda: tramd.ctl_json("stats")["returns_octets"] <= 110000, TIMEOUT,
             "the oldest have gone")
    assert 100 < tramd.ctl_json("stats")["returns_kept"] < 900
    come_back(tramd, report(told["r899@dst.test"], "r899@dst.test"), told["r899@dst.test"])
    assert tramd.wait_log(event="bounce-received")["from"] == "news@src.test"
    clock.forward(2 * 3600)
    with tramd.client() as c:
        c.hello()
        c.command("MAIL FROM:<>", 250)
        c.command("RCPT TO:<%s>" % told["r899@dst.test"], 550)
    old = complaint(told["r898@dst.test"]).replace(b"Version: 1\r\n",
                                                   b"Version: 1\r\nOriginal-Rcpt-To: "
                                                   b"r898@dst.test\r\n")
    with smtplib.SMTP("127.0.0.1", tramd.port, local_hostname="far.test") as c:
        c.sendmail("feedback@far.test", ["fbl@src.test"], old)
    assert (tramd.wait_log(event="complaint")["by"] == "nothing"
            and "r898@dst.test" not in suppressed(tramd))
    wait_for(lambda: tramd.ctl_json("stats")["returns_kept"] == 0, TIMEOUT, "old records have gone")
