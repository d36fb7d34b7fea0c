"""Five days in the life of a queue, in seconds: tramd sees a clock that the test sets (clock.c),
wall and monotonic alike, and the test steps from one event to the next.

A step is made when nothing goes on and nothing is due; it goes to the moment of what is due next,
as tramctl tells it, and a quarter of an hour at most. Between two steps time passes as it does for
everybody, so it does not matter how quick the machine is. What came of it is read from the far
ends, which note when things happen, from the reports, and from the queue. What counts in a schedule
is as it is by default.
"""
import email
import email.policy
import json
import os
import socket
import subprocess
import threading
import time

import pytest

from clock import Clock
from harness import TIMEOUT, free_port

HERE = os.path.dirname(os.path.abspath(__file__))
MINUTE, HOUR, DAY = 60, 3600, 86400
STEP = 15 * MINUTE
BODY = b"Subject: patience\r\n\r\nx\r\n"
# What goes on while the clock steps must not be taken for late.
PATIENT = dict({name + "-timeout": "1h"
                for name in ("connect", "banner", "ehlo", "mail", "rcpt", "data-init", "block",
                             "dot", "quit", "command", "data")}, **{"data-rate": "0"})


def ctl(tramd, command):
    """The rows of what tramd answers its operator; by the socket itself, for this is asked some
    thousand times."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(TIMEOUT)
        s.connect(tramd.control)
        s.sendall(json.dumps({"command": command}).encode() + b"\n")
        answer = b""
        while b'"end":true' not in answer:
            got = s.recv(1 << 16)
            assert got, answer
            answer += got
    return [row for row in map(json.loads, answer.splitlines()) if "end" not in row]


def rows(tramd):
    return ctl(tramd, "queue-list")


def still(tramd, clock):
    """Waits until nothing goes on and nothing is due; returns what waits. To be asked also wakes
    tramd, which knows of no step until then."""
    deadline, pause, seen = time.monotonic() + 2 * TIMEOUT, threading.Event(), 0
    while True:
        found, now = rows(tramd), clock.now() * 1000
        busy = [row for row in found if row["state"] != "waiting" or row["next_ms"] <= now]
        seen = 0 if busy else seen + 1
        if seen == 2:                   # the first answer may be from before the timers ran
            return found
        assert time.monotonic() < deadline, "day %g does not end: %r" % (clock.age() / DAY,
                                                                         busy[:2])
        pause.wait(0.005)


def live(tramd, clock, until):
    """From event to event, to that age."""
    while True:
        now = clock.now()
        due = [row["next_ms"] / 1000 - now for row in still(tramd, clock)]
        left = until - clock.age()
        if left <= 0:
            return
        clock.forward(min([STEP, left] + [max(seconds, 0) + 0.01 for seconds in due]))


def report(message):
    """(the fields of its one recipient, the whole) of a DSN."""
    parsed = email.message_from_bytes(message.data, policy=email.policy.default)
    assert parsed.get_content_type() == "multipart/report" and message.sender == ""
    status = [part for part in parsed.walk()
              if part.get_content_type() == "message/delivery-status"]
    assert len(status) == 1
    recipients = [block for block in status[0].get_payload() if "Final-Recipient" in block]
    assert len(recipients) == 1
    return recipients[0], parsed


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path)


@pytest.fixture
def far(make_sink, clock):
    """far(step, reply) → (a sink, {command line: the ages at which it came} at this step). reply:
    as Sink.rule's, or a function of these ages."""
    def make(step, reply=None):
        made, came = make_sink(), {}

        def note(session, line):
            ages = came.setdefault(line, [])
            ages.append(clock.age())
            return reply(ages) if callable(reply) else reply
        made.rule(step, note)
        return made, came
    return make


def start(make_tramd, clock, routes):
    return make_tramd(routes={domain: "smtp:[127.0.0.1]:%d" % getattr(to, "port", to)
                              for domain, to in routes.items()},
                      env=clock.env, limits=PATIENT, extra="threads = 1\nstop-timeout = 1h\n")


def gaps(ages):
    return [b - a for a, b in zip(ages, ages[1:])]


def check_tries(ages):
    """Soon at first, then twice as long each time, every four hours in the end, and never quite
    so."""
    waits = gaps(ages)
    assert 5 * MINUTE <= waits[0] <= 15 * MINUTE
    for wait, nominal in zip(waits, [300, 600, 1200, 2400, 4800, 9600] + [4 * HOUR] * 100):
        assert 0.89 * nominal <= wait <= 1.21 * nominal, waits
    assert 30 <= len(ages) <= 40 and ages[-1] > 4.8 * DAY
    assert max(waits) - min(waits[6:]) > 10 * MINUTE, "no chance in %r" % waits


def check_end(fields, parsed, last_words):
    # delivery time expired (RFC 3463)
    assert fields["Action"] == "failed" and fields["Status"].endswith(".4.7")
    assert last_words in fields["Diagnostic-Code"]
    text = parsed.get_body(("plain",)).get_content()
    assert "could not be delivered" in text and last_words in text and "5 days" in text, text
    assert "patience" in parsed.as_string()


def test_five_days(make_tramd, far, clock):
    """One mailbox is full, one host is not there: both are tried for five days, the sender is
    warned after four hours and told in the end. A greylist lets the second try pass, and other mail
    goes on every day."""
    home, _ = far("RCPT")
    busy, tries = far("RCPT", "452 4.2.2 mailbox full")
    grey, visits = far("RCPT", lambda ages: None
                       if ages[-1] - ages[0] >= 5 * MINUTE else "451 4.7.1 come back later")
    moments = []
    home.rule("DOT", lambda session, line: moments.append(clock.age()))
    tramd = start(make_tramd, clock, {"src.test": home, "busy.test": busy, "grey.test": grey,
                                      "dead.test": free_port()})
    for where in ("busy", "dead", "grey"):
        tramd.send(BODY, "jo@src.test", "m@%s.test" % where)
    tramd.send(BODY, "", "nobody@busy.test")            # of whom nobody is told
    for day in range(1, 6):
        live(tramd, clock, day * DAY - HOUR)
        tramd.send(BODY, "jo@src.test", "day%d@src.test" % day)
        still(tramd, clock)
        assert home.recipients()["day%d@src.test" % day] == 1
        if day == 2:
            tramd.restart(kill=True)
    live(tramd, clock, 5 * DAY + 2 * HOUR)
    assert not rows(tramd)

    assert grey.recipients() == {"m@grey.test": 1} and len(visits["RCPT TO:<m@grey.test>"]) == 2
    for who in ("m", "nobody"):
        check_tries(tries["RCPT TO:<%s@busy.test>" % who])
    assert len(home.messages) == 5 + 4 == len(moments)
    told = {"delayed": {}, "failed": {}}
    for message, age in zip(home.messages, moments):
        if message.sender == "":
            assert message.recipients == ["jo@src.test"]
            fields, parsed = report(message)
            told[fields["Action"]][fields["Final-Recipient"]] = (age, fields, parsed)
    both = ["rfc822; m@busy.test", "rfc822; m@dead.test"]
    assert sorted(told["delayed"]) == sorted(told["failed"]) == both
    for age, fields, parsed in told["delayed"].values():
        assert 4 * HOUR <= age <= 4 * HOUR + 2 * STEP
        assert "has not yet been delivered" in parsed.get_body(("plain",)).get_content()
    for (age, fields, parsed), words in zip([told["failed"][who] for who in both],
                                            ["mailbox full", "refused"]):
        assert 5 * DAY <= age <= 5 * DAY + 2 * STEP
        check_end(fields, parsed, words)
    tramd.stop()
    assert tramd.ctl("queue", "check").endswith(", no fault\n")


def check_probes(ages):
    """One at a time, after a minute at first, twice as long each time, a quarter of an hour in the
    end. (Several connections may have begun before the first of them failed.)"""
    waits = gaps(ages[:1] + [age for age in ages if age > 20])
    for wait, nominal in zip(waits, [60, 120, 240, 480] + [15 * MINUTE] * 1000):
        assert 0.89 * nominal <= wait <= 1.11 * nominal + 5, waits
    assert len(ages) > 200


def test_a_host_that_comes_back_on_the_third_day(make_tramd, far, clock):
    """Until then it is tried by one connection at a time, ever more rarely; when one gets through,
    all that waited goes, once, and nobody is told that anything failed."""
    home, _ = far("RCPT")
    away, probes = far("BANNER", lambda ages: "421 4.3.2 closed for the holidays"
                       if ages[-1] < 2.5 * DAY else None)
    go = threading.Event()
    first = away.rule("DOT", None, hold=go, times=1)
    tramd = start(make_tramd, clock, {"src.test": home, "*": away})
    to = {"m%d@dst%d.test" % (i, i % 4): 1 for i in range(20)}
    for one in to:
        tramd.send(BODY, "jo@src.test", one)
    live(tramd, clock, 2.5 * DAY)
    assert not away.messages and len(rows(tramd)) == 20
    check_probes(probes[""])

    # The one that gets through is alone until it is sure.
    clock.forward(STEP * 1.2)
    rows(tramd)
    away.wait_rule(first)
    assert sorted(row["state"] for row in rows(tramd)) == ["in-flight"] + 19 * ["waiting"]
    assert [site["state"] for site in ctl(tramd, "sites")
            if site["lanes"]] == ["probing"] and len(away.open) == 1
    go.set()
    away.wait(20, timeout=2 * TIMEOUT)
    assert not still(tramd, clock) and away.recipients() == to
    assert clock.age() < 2.5 * DAY + 2 * STEP
    assert {report(m)[0]["Action"]
            for m in home.messages} == {"delayed"} and len(home.messages) == 20
    tramd.stop()
    assert tramd.ctl("queue", "check").endswith(", no fault\n")
