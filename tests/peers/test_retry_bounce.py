"""What the next hop refuses, now or for good: retries, bounces, and what the sender asked to be
told.

Bounces are read twice: by Python's email package, and by Debian's
Mail::DeliveryStatus::BounceParser; and held against RFC 3464 and 3461 here.
"""
import email
import email.policy
import json
import re
import shutil
import subprocess
import threading

import pytest

from conftest import FAST
from harness import TIMEOUT, queue_id, split_received, wait_for
from sink import DROP, FEATURES, RESET, SILENT

DATA = (b"From: a@src.test\r\nTo: b@dst.test\r\nSubject: wanted\r\nMessage-ID: "
        b"<1@src.test>\r\n\r\nSecret body.\r\n")

PERL = r"""
use Mail::DeliveryStatus::BounceParser; local $/; my $b = Mail::DeliveryStatus::BounceParser->new(<STDIN>);
print "is_bounce ", ($b->is_bounce ? 1 : 0), "\n";
for my $r ($b->reports) { print join("\t", map { my $v = $r->get($_) // ""; $v =~ s/\s+/ /g; $v }
    qw(email std_reason reason smtp_code)), "\n"; }
"""


def without_chunking(sink):
    """So that DATA is used."""
    sink.features = [f for f in FEATURES if f != "CHUNKING"]


# ---- retries

@pytest.mark.quick
@pytest.mark.parametrize("step", ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
def test_temporary(tramd, sink, step):
    """A 4xx at any step is tried again, and arrives once."""
    if step == "DATA":
        without_chunking(sink)
    sink.rule(step, "451 4.3.0 not now", times=2)
    if step == "EHLO":
        sink.rule("HELO", "451 4.3.0 not now", times=2)
    message_id = tramd.send(DATA)
    final = tramd.wait_log(event="final", id=message_id)
    assert final["outcome"] == "delivered" and len(sink.messages) == 1
    assert len(tramd.events(event="final", id=message_id)) == 1


@pytest.mark.parametrize("how", ["drop", "reset", "421"])
@pytest.mark.parametrize("step", ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "DOT", "QUIT"])
def test_gone(tramd, sink, step, how):
    """The next hop goes away at any step: the message is tried again and arrives once (it kept
    nothing before)."""
    if how == "421" and step == "BODY":
        pytest.skip("nothing is said there")
    if step in ("DATA", "BODY"):
        without_chunking(sink)
    sink.rule(step, {"drop": DROP, "reset": RESET, "421": "421 4.3.2 going down"}[how], times=1)
    message_id = tramd.send(DATA)
    final = tramd.wait_log(event="final", id=message_id)
    assert final["outcome"] == "delivered" and len(sink.messages) == 1


@pytest.mark.parametrize("step, limit, what", [
    ("BANNER", "banner-timeout", "the greeting"), ("EHLO", "ehlo-timeout", "the reply to EHLO"),
    ("MAIL", "mail-timeout", "the reply to MAIL"), ("RCPT", "rcpt-timeout", "the reply to RCPT"),
    ("DATA", "data-init-timeout", "the reply to DATA"),
    ("DOT", "dot-timeout", "the reply to the final dot")])
def test_silent(make_tramd, make_sink, step, limit, what):
    """The next hop says nothing any more: each wait has its own limit, and the message is tried
    again."""
    sink = make_sink(features=[f for f in FEATURES if f not in ("PIPELINING", "CHUNKING")])
    sink.rule(step, SILENT, times=1)
    tramd = make_tramd(static=sink, queue=FAST, limits={limit: "300ms"})
    message_id = tramd.send(DATA)
    assert tramd.wait_log(event="final", id=message_id)["outcome"] == "delivered"
    assert len(sink.messages) == 1 and sink.sessions == 2
    assert any("timed out waiting for " + what in line for line in tramd.lines)


def test_body_is_not_read(make_tramd, make_sink):
    """It said 354, and then takes no octet."""
    sink, never = make_sink(features=[f for f in FEATURES if f != "CHUNKING"]), threading.Event()
    sink.rule("BODY", None, times=1, hold=never)
    tramd = make_tramd(static=sink, queue=FAST, limits={"block-timeout": "2s"})
    message_id = tramd.send(b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 300000)
    line = tramd.wait_log(event="delivery", id=message_id)
    assert line["fate"] == "deferred" and "timed out" in line["reply"]
    assert tramd.wait_log(event="final", id=message_id)["outcome"] == "delivered"
    never.set()


def test_lost_behind_the_dot_is_said(tramd, sink):
    """The dot was sent and no answer came: it may have arrived. It is tried again, and the doubt is
    told."""
    arrived = []
    sink.rule("DOT", lambda session, line: (arrived.append(line), DROP)[1], times=1)
    message_id = tramd.send(DATA)
    tramd.wait_log(event="final", id=message_id)
    assert len(arrived) == 1 and len(sink.messages) == 1
    assert "uncertain" in "\n".join(line for line in tramd.lines if message_id in line)


@pytest.mark.quick
def test_each_its_own(tramd, sink):
    """One transaction, four fates."""
    sink.rule("RCPT", "550 5.1.1 no such user", match="gone@")
    sink.rule("RCPT", "450 4.2.1 mailbox busy", match="busy@", times=1)
    sink.rule("RCPT", "553 5.1.3 strange name", match="odd@")
    message_id = tramd.send(DATA, to=["good@dst.test", "gone@dst.test", "busy@dst.test",
                                      "odd@dst.test"])
    tramd.wait_log(event="final", id=message_id, count=4)
    fates = {e["to"]: e["outcome"] for e in tramd.events(event="final", id=message_id)}
    assert fates["good@dst.test"] == fates["busy@dst.test"] == "delivered"
    assert fates["gone@dst.test"] == fates["odd@dst.test"] == "failed"
    sink.wait_until(lambda: "a@src.test" in sink.recipients(), 30, "the bounce")
    assert sink.recipients() == {"good@dst.test": 1, "busy@dst.test": 1, "a@src.test": 1}
    report = Bounce(next(m for m in sink.messages if m.sender == ""))
    assert sorted(r["final-recipient"] for r in report.recipients) == ["rfc822; gone@dst.test",
                                                                       "rfc822; odd@dst.test"]
    tramd.wait_empty()


def test_too_many_recipients(tramd, sink):
    """452 and 552 to RCPT beyond a number: the rest goes at once in transactions of its own."""
    for code in ("452 4.5.3", "552 5.5.3"):
        sink.clear_rules()
        counts = {}

        def limit(session, line, counts=counts, code=code):
            return code + " too many recipients" if len(session.recipients) >= 10 else None
        sink.rule("RCPT", limit)
        to = ["%s-%d@dst.test" % (code[:3], i) for i in range(35)]
        message_id = tramd.send(DATA, to=to)
        tramd.wait_log(event="final", id=message_id, count=35)
        assert {r: n for r, n in sink.recipients().items() if r in to} == {r: 1 for r in to}


# ---- bounces

class Bounce:
    """A bounce, taken apart as strictly as RFC 3464 and 6522 are written; assertions on what every
    one must have."""

    def __init__(self, message, expired=False):
        self.raw = split_received(message.data)[1]
        assert message.sender == "", "a bounce has the null reverse-path"
        assert not any(p.upper().startswith(("RET=", "ENVID=")) for p in message.mail_params)
        self.to = message.recipients
        parsed = email.message_from_bytes(self.raw, policy=email.policy.default)
        assert not parsed.defects and parsed.get_content_type() == "multipart/report"
        assert parsed.get_param("report-type") == "delivery-status"
        assert (parsed["Auto-Submitted"].startswith("auto-replied")
                or parsed["Auto-Submitted"] == "auto-generated")
        for field in ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version"):
            assert parsed[field], field
        parts = list(parsed.iter_parts())
        assert 2 <= len(parts) <= 3
        assert all(not part.defects for part in parts)
        self.parsed, self.text = parsed, parts[0].get_content()
        assert parts[0].get_content_type() == "text/plain"
        assert parts[1].get_content_type() in ("message/delivery-status",
                                               "message/global-delivery-status")
        self.returned = parts[2] if len(parts) == 3 else None
        self.read_status(expired)
        for line in self.raw.split(b"\r\n"):
            assert len(line) <= 998 and b"\n" not in line and b"\r" not in line

    def read_status(self, expired):
        """The second part once more, from its octets: groups of fields parted by empty lines (RFC
        3464 §2.1)."""
        boundary = self.parsed.get_boundary().encode()
        section = self.raw.split(b"--" + boundary)[2]
        body = section.partition(b"\r\n\r\n")[2]
        groups = []
        for group in re.split(rb"(?:\r\n){2,}", body.strip(b"\r\n")):
            fields = {}
            for line in re.sub(rb"\r\n[ \t]+", b" ", group).split(b"\r\n"):
                name, colon, value = line.partition(b":")
                assert colon and re.fullmatch(rb"[A-Za-z][A-Za-z-]*", name), line
                assert name.lower().decode() not in fields, "twice: %r" % name
                fields[name.lower().decode()] = value.strip().decode()
            groups.append(fields)
        self.message, self.recipients = groups[0], groups[1:]
        assert self.message["reporting-mta"] == "dns; tram.test"
        assert email.utils.parsedate_to_datetime(self.message["arrival-date"])
        assert self.recipients
        for r in self.recipients:
            assert re.match(r"(rfc822|utf-8); ?\S+@\S+$", r["final-recipient"])
            assert r["action"] in ("failed", "delayed", "delivered", "relayed", "expanded")
            assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", r["status"])
            assert {"failed": "5", "delayed": "4", "delivered": "2",
                    "relayed": "2"}[r["action"]] == r["status"][0] or \
                (r["action"] == "failed" and expired and r["status"][0] == "4")
            if "diagnostic-code" in r:
                assert re.match(r"(smtp|x-\w+); ?\S", r["diagnostic-code"].lower())
            for field in ("last-attempt-date", "will-retry-until"):
                assert field not in r or email.utils.parsedate_to_datetime(r[field])

    def only(self):
        assert len(self.recipients) == 1
        return self.recipients[0]


def bounce_at(sink, timeout=TIMEOUT, expired=False):
    """The first bounce that arrived. expired: its status may be that of the last reply, 4.x.x (RFC
    3463 §2)."""
    sink.wait_until(lambda: any(m.sender == "" for m in sink.messages), timeout, "a bounce")
    return Bounce(next(m for m in sink.messages if m.sender == ""), expired)


@pytest.mark.quick
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "DOT"])
def test_bounced(tramd, sink, step):
    if step == "DATA":
        without_chunking(sink)
    sink.rule(step, "550-5.1.1 no such\r\n550 5.1.1 user"
              if step == "RCPT" else "550 5.7.1 not here", times=1)
    message_id = tramd.send(DATA)
    bounce = bounce_at(sink)
    assert bounce.to == ["a@src.test"]
    fate = bounce.only()
    assert fate["action"] == "failed" and fate["final-recipient"].replace(" ",
                                                                          "") == "rfc822;b@dst.test"
    assert fate["status"] == ("5.1.1" if step == "RCPT" else "5.7.1")
    assert "550" in fate["diagnostic-code"] and "remote-mta" in fate
    assert bounce.returned.get_content_type() in ("message/rfc822", "text/rfc822-headers")
    assert "b@dst.test" in bounce.text
    assert tramd.events(event="final", id=message_id)[0]["outcome"] == "failed"
    tramd.wait_empty()


def test_second_reader(tramd, sink, tmp_path):
    """Mail::DeliveryStatus::BounceParser says the same."""
    perl = shutil.which("perl")
    if not perl or subprocess.run([perl, "-MMail::DeliveryStatus::BounceParser", "-e1"],
                                  stderr=subprocess.DEVNULL).returncode:
        pytest.skip("needs libmail-deliverystatus-bounceparser-perl")
    sink.rule("RCPT", "550 5.1.1 user unknown", match="gone@")
    sink.rule("RCPT", "552 5.2.2 mailbox full", match="full@")
    tramd.send(DATA, to=["gone@dst.test", "full@dst.test"])
    bounce = bounce_at(sink)
    done = subprocess.run([perl, "-e", PERL], input=bounce.raw.replace(b"\r\n", b"\n"),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT)
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "is_bounce 1", done.stdout + done.stderr
    rows = {row.split("\t")[0]: row.split("\t")[1] for row in lines[1:]}
    assert rows == {"gone@dst.test": "user_unknown", "full@dst.test": "over_quota"}


def test_null_sender_is_never_told(tramd, sink):
    sink.rule("RCPT", "550 5.1.1 no such user")
    message_id = tramd.send(DATA, sender="")
    assert tramd.wait_log(event="final", id=message_id)["outcome"].startswith("failed")
    tramd.wait_empty()
    assert not sink.messages
    assert len(tramd.events(event="accept")) == 1


def test_bounce_that_cannot_be_delivered(tramd, sink):
    """A bounce is never bounced."""
    sink.rule("RCPT", "550 5.1.1 no such user")
    tramd.send(DATA)
    tramd.wait_log(event="final", count=2)
    tramd.wait_empty()
    assert not sink.messages


def test_one_bounce_for_one_moment(tramd, sink):
    """Two hundred recipients refused at once: one report that names them all."""
    sink.rule("RCPT", "550 5.1.1 no such user", match="@dst")
    to = ["r%d@dst.test" % i for i in range(200)]
    tramd.send(DATA, to=to)
    bounce = bounce_at(sink)
    tramd.wait_empty()
    told = [r["final-recipient"].split(";")[1].strip() for m in sink.messages
            for r in Bounce(m).recipients]
    assert sorted(told) == sorted(to)
    assert len(sink.messages) <= 3 and len(bounce.recipients) >= 60, ("one report, or one for each "
                                                                      "transaction")


@pytest.mark.parametrize("ret", ["HDRS", "FULL", None])
def test_what_is_returned(tramd, sink, ret):
    sink.rule("RCPT", "550 5.1.1 no such user", match="@dst")
    with tramd.client() as c:
        c.hello()
        c.message(DATA, mail="RET=%s ENVID=id+2B7" % ret if ret else "",
                  rcpt="ORCPT=rfc822;Old+2BName@dst.test")
    bounce = bounce_at(sink)
    assert ("original-envelope-id" in bounce.message) == (ret is not None)
    if ret:
        assert bounce.message["original-envelope-id"] == "id+7"
    assert bounce.only()["original-recipient"].replace(" ", "") == "rfc822;Old+Name@dst.test"
    whole = bounce.returned.as_bytes()
    assert b"Message-ID: <1@src.test>" in whole
    if ret == "HDRS":
        assert (bounce.returned.get_content_type() == "text/rfc822-headers"
                and b"Secret body" not in whole)
    if ret == "FULL":
        assert bounce.returned.get_content_type() == "message/rfc822" and b"Secret body" in whole


def test_large_message_is_not_returned(tramd, sink):
    sink.rule("RCPT", "550 5.1.1 no such user", match="@dst")
    tramd.send(DATA + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 20000)
    bounce = bounce_at(sink)
    assert bounce.returned.get_content_type() == "text/rfc822-headers" and len(bounce.raw) < 20000


@pytest.mark.parametrize("notify, told",
                         [("NEVER", False), ("SUCCESS", False), ("DELAY", False), ("FAILURE", True),
                          ("SUCCESS,FAILURE,DELAY", True)])
def test_notify_of_failure(tramd, sink, notify, told):
    sink.rule("RCPT", "550 5.1.1 no such user", match="@dst")
    with tramd.client() as c:
        c.hello()
        message_id = c.message(DATA, rcpt="NOTIFY=" + notify)
    tramd.wait_log(event="final", id=message_id)
    tramd.wait_empty()
    assert len(sink.messages) == told


@pytest.mark.parametrize("dsn", [True, False])
def test_notify_of_success(make_tramd, make_sink, dsn):
    """A host with DSN takes the wish over; behind one without, ours says "relayed"."""
    sink = make_sink(features=[f for f in FEATURES if dsn or f != "DSN"])
    tramd = make_tramd(static=sink, queue=FAST)
    with tramd.client() as c:
        c.hello()
        c.envelope("a@src.test", [])
        c.command("RCPT TO:<yes@dst.test> NOTIFY=SUCCESS", 250)
        c.command("RCPT TO:<no@dst.test>", 250)
        c.command("DATA", 354)
        c.send(DATA + b".\r\n")
        c.reply(250)
    tramd.wait_empty()
    reports = [Bounce(m) for m in sink.messages if m.sender == ""]
    if dsn:
        assert not reports and "NOTIFY=SUCCESS" in sink.messages[0].rcpt_params["yes@dst.test"]
        return
    fate = reports[0].only()
    assert (len(reports) == 1 and fate["action"] == "relayed"
            and "yes@dst.test" in fate["final-recipient"])


# ---- time

LONG = TIMEOUT + 45		# ages are looked at twice a minute

def test_expired(make_tramd, sink):
    """After its lifetime a message that was only ever put off goes back with the last reply."""
    sink.rule("RCPT", "450 4.2.1 mailbox busy", match="@dst")
    tramd = make_tramd(static=sink, queue=dict(FAST, lifetime="3s", **{"delay-warning": "0s"}))
    tramd.send(DATA)
    fate = bounce_at(sink, LONG, expired=True).only()
    assert fate["action"] == "failed" and "450" in fate["diagnostic-code"]
    tramd.wait_empty()


def test_expired_at_a_dead_site(make_tramd, sink):
    """The next hop was never there: the report says so."""
    dead = 1
    tramd = make_tramd(static=("127.0.0.1", dead),
                       routes={"src.test": "smtp:[127.0.0.1]:%d" % sink.port},
                       queue=dict(FAST, lifetime="3s", **{"delay-warning": "0s"}))
    tramd.send(DATA)
    fate = bounce_at(sink, LONG, expired=True).only()
    assert fate["action"] == "failed" and fate["status"] in ("5.4.7", "5.4.1", "5.4.4")
    tramd.wait_empty()


def test_delayed(make_tramd, sink):
    """A warning to who wants it, once; delivery goes on and is not reported."""
    busy = sink.rule("RCPT", "450 4.2.1 mailbox busy", match="@dst")
    tramd = make_tramd(static=sink, queue=dict(FAST, **{"delay-warning": "2s"}))
    with tramd.client() as c:
        c.hello()
        c.command("MAIL FROM:<a@src.test>", 250)
        for rcpt in ("<b@dst.test>", "<c@dst.test> NOTIFY=DELAY", "<d@dst.test> NOTIFY=FAILURE"):
            c.command("RCPT TO:" + rcpt, 250)
        c.command("DATA", 354)
        c.send(DATA + b".\r\n")
        message_id = queue_id(c.reply(250))
    bounce = bounce_at(sink, LONG)
    assert sorted(r["final-recipient"][-10:] for r in bounce.recipients) == ["b@dst.test",
                                                                             "c@dst.test"]
    assert {r["action"]
            for r in bounce.recipients} == {"delayed"} and "will-retry-until" in bounce.recipients[0]
    sink.wait_rule(busy, busy.used + 4)
    assert sum(m.sender == "" for m in sink.messages) == 1
    sink.clear_rules()
    tramd.wait_log(event="final", id=message_id, count=3)
    tramd.wait_empty()
    assert sum(m.sender == "" for m in sink.messages) == 1


def test_explain(tramd, sink):
    """While it waits, the operator is told the last reply and when it goes next."""
    hold = threading.Event()
    busy = sink.rule("RCPT", "450 4.2.1 mailbox busy", match="@dst")
    message_id = tramd.send(DATA)
    sink.wait_rule(busy)
    wait_for(lambda: "mailbox busy" in tramd.ctl("explain", message_id),
             what="explain has the reply")
    text = tramd.ctl("explain", message_id)
    assert "b@dst.test" in text and "450" in text and "127.0.0.1" in text
    for line in tramd.ctl("queue", "list", "--json").splitlines():
        json.loads(line)
    sink.clear_rules()
    held = sink.rule("DOT", None, hold=hold)
    sink.wait_rule(held)
    assert "b@dst.test" in tramd.ctl("explain", message_id)
    hold.set()
    tramd.wait_log(event="final", id=message_id)
    wait_for(lambda: tramd.ctl("explain", message_id, check=False).returncode != 0,
             what="it is gone")
