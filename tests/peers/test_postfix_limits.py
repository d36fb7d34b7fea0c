"""A real Postfix that has limits of its own (anvil's, and smtpd's): all mail gets through, each
recipient once, without a storm of connections, whether tram is told of the limits by a shape or
finds out; and it tells what it does."""
import re

import pytest

from harness import TIMEOUT, wait_for
from steering import BODY, rows

QUEUE = {"retry-first": "1s", "retry-max": "2s", "probe-first": "1s", "probe-max": "2s",
         "delay-warning": "0"}
UNIT = 3			# seconds that anvil counts by
LONG = 4 * TIMEOUT		# for Postfix counts by the clock


@pytest.fixture
def make_strict(make_postfix, sink):
    """A Postfix that makes no exception for its own networks; what it takes goes to the sink."""
    def make(**limits):
        return make_postfix("[127.0.0.1]:%d" % sink.port, smtpd_client_event_limit_exceptions="",
                            anvil_rate_time_unit="%ds" % UNIT, smtpd_error_sleep_time="0", **limits)
    return make


def send(tramd, count):
    """A message to each of so many recipients, which all may go at the same moment."""
    site = "static:" + tramd.settings["routes"]["*"]
    tramd.ctl("sites", "suspend", site)
    with tramd.client() as c:
        c.hello()
        for i in range(count):
            c.message(BODY, to=["r%d@dst.test" % i])
    tramd.ctl("sites", "resume", site)
    return {"r%d@dst.test" % i: 1 for i in range(count)}


def all_arrive(tramd, sink, wanted):
    """Each of them once, and nothing else: no report, no second copy."""
    sink.wait_until(lambda: len(sink.recipients()) >= len(wanted), LONG, "all have got it")
    tramd.wait_empty(LONG)
    assert sink.recipients() == wanted


def logged(postfix, what):
    return len(re.findall(what, postfix.log()))


def connections(postfix):
    return logged(postfix, r"smtpd\[\d+\]: connect from")


# Postfix's limits, how much mail, what it logs of more, and what it says to it
LIMITS = {
    "connections": ({"smtpd_client_connection_count_limit": 3}, 40, {"Connection concurrency"},
                    "too many connections from"),
    "connection-rate": ({"smtpd_client_connection_rate_limit": 5}, 10, {"Connection rate"},
                        "too many connections from"),
    "rates": ({"smtpd_client_message_rate_limit": 5, "smtpd_client_recipient_rate_limit": 4}, 10,
              {"Message delivery request rate", "Recipient address rate"},
              "too (much mail|many recipients) from"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_it_finds_out(make_tramd, make_strict, sink, name):
    """By the usual rules and fewer connections."""
    limits, count, names, said = LIMITS[name]
    postfix = make_strict(**limits)
    tramd = make_tramd(static=("127.0.0.1", postfix.port), queue=QUEUE,
                       limits={"messages-per-connection": 1} if name == "connection-rate" else {})
    all_arrive(tramd, sink, send(tramd, count))
    refused = logged(postfix, "limit exceeded: ")
    print("%s: %d messages, %d connections, %d refused" % (name, count, connections(postfix),
                                                           refused))
    over = set(re.findall("warning: (.*) limit exceeded: ", postfix.log()))
    assert over and over <= names
    assert connections(postfix) <= 3 * count
    site, = rows(tramd, "sites")
    slowed, = [hold for hold in site["held_by"] if hold["kind"] == "slowed"]
    assert re.search(said,
                     slowed["text"]) and 0 < slowed["replies"] <= refused and slowed["per_minute"] > 0, slowed
    assert tramd.wait_log(event="concurrency", reply=re.compile(said))


def test_it_is_told(make_tramd, make_strict, sink):
    """With a shape that fits Postfix has nothing to refuse; what waits says for what."""
    postfix = make_strict(smtpd_client_connection_count_limit=3,
                          smtpd_client_connection_rate_limit=10,
                          smtpd_client_message_rate_limit=20, smtpd_client_recipient_rate_limit=20)
    tramd = make_tramd(static=("127.0.0.1", postfix.port), queue=QUEUE, extra="""
        shape "fits" {
            host = "127.0.0.1"
            connections = 2
            connections-per-minute = 60
            messages-per-second = 4
            messages-per-hour = 20
        }
        """)
    wanted = send(tramd, 24)
    wait_for(lambda: len(tramd.queue_ids()) == 4, LONG, "four wait")
    text = 'shape "fits", for host 127.0.0.1: 20 of 20 messages in the last hour'
    assert wait_for(lambda: text in tramd.ctl("explain", tramd.queue_ids()[0]),
                    what="explain tells it")
    site, = rows(tramd, "sites")
    assert site["held_by"][0]["kind"] == "shape" and text in site["held_by"][0]["text"], site
    tramd.write_config(tramd.text().replace("messages-per-hour = 20", "messages-per-hour = 1000"))
    tramd.reload()
    all_arrive(tramd, sink, wanted)
    assert logged(postfix, "limit exceeded: ") == 0, postfix.log()
    assert connections(postfix) <= 10
    assert not tramd.events(event="site-backoff") and not tramd.events(event="delivery",
                                                                       fate="deferred")


def test_recipients_and_errors(make_tramd, make_strict, sink):
    """Few recipients for a message, and a session ends after few errors: the good get it once, the
    others come back."""
    postfix = make_strict(smtpd_recipient_limit=5, smtpd_hard_error_limit=3,
                          smtpd_recipient_restrictions="check_recipient_access regexp:{{/^bad/ 550 "
                                                       "5.1.1 nobody}}")
    tramd = make_tramd(static=("127.0.0.1", postfix.port), queue=QUEUE,
                       routes={"src.test": "smtp:[127.0.0.1]:%d" % sink.port})
    good, bad = ["good%d@dst.test" % i for i in range(24)], ["bad%d@dst.test" % i for i in range(8)]
    tramd.send(BODY, to=[address for i in range(8)
                         for address in good[3 * i:3 * i + 3] + bad[i:i + 1]])
    sink.wait_until(lambda: set(good) <= set(sink.recipients()), LONG, "the good have got it")
    tramd.wait_empty(LONG)
    reports = [m.data for m in sink.messages if m.sender == ""]
    assert {address: n for address, n in sink.recipients().items()
            if address != "a@src.test"} == dict.fromkeys(good, 1)
    for address in bad:
        assert sum(b"Final-Recipient: rfc822; %s\r\n" % address.encode() in data
                   for data in reports) == 1
    assert logged(postfix, "too many errors") > 0 and connections(postfix) < len(good)
