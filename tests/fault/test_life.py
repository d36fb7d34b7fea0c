"""Five days in the life of a queue, in less than a minute: the clocks of an unmodified tramd run fast (libfaketime).

Waits for peers run fast with them, so those are set as long as they may be; and what depends on how quick this machine
is (how many tries, when exactly) is judged by wide bounds. By hand only (TRAM_LONG=1): the log's two seconds at the stop
pass in no time here, and lines that the test counts may be lost.
"""
import datetime
import email
import email.policy
import os

import pytest

from harness import free_port, wait_for
from test_fault import faketime

pytestmark = pytest.mark.skipif(not os.environ.get("TRAM_LONG"), reason="a long run: set TRAM_LONG=1")

SPEED = 10000
DAY = 86400.0 / SPEED
HOURS = {name + "-timeout": "1h" for name in
         ("connect", "banner", "ehlo", "mail", "rcpt", "data-init", "block", "dot", "quit")}
SLOW = dict(HOURS, **{"command-timeout": "1d", "data-timeout": "1d", "data-rate": "0"})


@pytest.fixture
def fast(tmp_path):
    env = faketime("+0 x%d" % SPEED)
    for name in ("DONT_FAKE_MONOTONIC", "FAKETIME_DONT_FAKE_MONOTONIC"):
        del env[name]
    return env


def moment(event):
    return datetime.datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%S.%fZ").timestamp()


def report(message):
    """(what is said of each recipient, the whole) of a DSN."""
    parsed = email.message_from_bytes(message.data, policy=email.policy.default)
    assert parsed.get_content_type() == "multipart/report" and message.sender == ""
    status = [part for part in parsed.walk() if part.get_content_type() == "message/delivery-status"]
    assert len(status) == 1
    return [block for block in status[0].get_payload() if "Final-Recipient" in block], parsed


def reports(sink, action):
    return [m for m in list(sink.messages) if m.sender == "" and report(m)[0][0]["Action"] == action]


def test_five_days(make_tramd, make_sink, fast):
    """One recipient is put off again and again, one has a host that is not there: both are tried for five days, their
    sender is warned after four hours, and told in the end."""
    home, busy = make_sink(), make_sink()
    tries = busy.rule("RCPT", "450 4.2.2 mailbox full")
    tramd = make_tramd(routes={"src.test": "smtp:[127.0.0.1]:%d" % home.port,
                               "busy.test": "smtp:[127.0.0.1]:%d" % busy.port,
                               "dead.test": "smtp:[127.0.0.1]:%d" % free_port()},
                       env=fast, limits=SLOW, extra="stop-timeout = 1h\n")
    ids = [tramd.send(b"Subject: patience\r\n\r\nx\r\n", "jo@src.test", ["m@%s.test" % where])
           for where in ("busy", "dead")]
    wait_for(lambda: len(reports(home, "failed")) >= 2, 8 * DAY + 60, "both came back")
    tramd.wait_empty()
    tramd.stop()                    # and with it the log is whole: its thread waits by a clock that is not sped up
    began = {e["id"]: moment(e) for e in tramd.events(event="accept")}

    # The tries: soon at first, then rarely; never closer than the first wait, never further apart than the longest.
    own = [moment(e) for e in tramd.events(event="delivery", id=ids[0], fate="deferred")]
    waits = [b - a for a, b in zip(own, own[1:])]
    assert 20 <= len(own) <= 45 and tries.used >= len(own)
    assert 200 <= waits[0] <= 1500 and waits[0] < waits[2] < waits[4]
    assert min(waits) >= 250 and max(waits) <= 4 * 3600 * 1.1 + 3600
    assert own[-1] - own[0] > 4 * 86400
    probes = tramd.events(event="site-backoff")
    assert len(probes) > 100, "a dead host is tried every quarter of an hour"

    # The warning, once for each message, after four hours.
    warnings = reports(home, "delayed")
    assert sorted(report(m)[0][0]["Final-Recipient"] for m in warnings) == [
        "rfc822; m@busy.test", "rfc822; m@dead.test"]
    for said in tramd.events(event="delay-warning"):
        assert 3 * 3600 <= moment(said) - began[said["id"]] <= 12 * 3600

    # The end, after five days: 4.4.7, "delivery time expired" (RFC 3463), with the last reply that there was.
    failed = {report(m)[0][0]["Final-Recipient"]: report(m) for m in reports(home, "failed")}
    assert sorted(failed) == ["rfc822; m@busy.test", "rfc822; m@dead.test"]
    for recipients, parsed in failed.values():
        assert recipients[0]["Status"].endswith(".4.7") and recipients[0]["Action"] == "failed"
        assert "patience" in parsed.as_string()
    assert "mailbox full" in failed["rfc822; m@busy.test"][0][0]["Diagnostic-Code"]
    for said in tramd.events(event="report"):
        assert 4.9 * 86400 <= moment(said) - began[said["id"]] <= 5.6 * 86400
    assert [m.recipients for m in home.messages] == [["jo@src.test"]] * 4


def test_a_host_that_comes_back_on_the_third_day(make_tramd, make_sink, fast):
    """All that waited for it goes out then, once, and nobody is told that it failed."""
    home, away = make_sink(), make_sink()
    down = away.rule("BANNER", "421 4.3.2 closed for the holidays")
    tramd = make_tramd(routes={"src.test": "smtp:[127.0.0.1]:%d" % home.port,
                               "*": "smtp:[127.0.0.1]:%d" % away.port},
                       env=fast, limits=SLOW, queue={"delay-warning": "0"}, extra="stop-timeout = 1h\n")
    ids = {tramd.send(b"Subject: x\r\n\r\nx\r\n", "jo@src.test", ["m%d@dst.test" % i]) for i in range(20)}
    away.wait_rule(down, 200, timeout=4 * DAY + 60)         # a probe every quarter of an hour: two days
    down.times = 0
    away.wait(20, timeout=2 * DAY + 60)
    tramd.wait_empty()
    tramd.stop()
    assert len(away.messages) == 20 and not home.messages
    assert {e["id"] for e in tramd.events(event="final", outcome="delivered")} == ids
