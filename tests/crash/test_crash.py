"""kill -9 at random and at each named point: what was acknowledged is delivered, whole (invariants
1 to 3).

TRAM_KILLS: how many random kills (50). The named points exist in a build with -Dfaults=true;
TRAM_FAULTS_BUILD names its directory, without it those tests are skipped.
"""
import os
import random
import signal
import threading
import time

import pytest

from harness import TIMEOUT, wait_for
from load import Load, judge, weigh

KILLS = int(os.environ.get("TRAM_KILLS", "50"))
FAULTS = os.environ.get("TRAM_FAULTS_BUILD")
QUEUE = {"retry-first": "1s", "retry-max": "2s", "probe-first": "1s", "probe-max": "1s"}
IN_HAND = 20 * 2            # connections to a site, and what each may have in hand


def finish(tramd, load, sink, timeout=4 * TIMEOUT):
    """The end of each of these tests: all is delivered, the store is sound. Returns how many came
    twice."""
    load.stop()
    wait_for(lambda: tramd.queue_ids() == [], timeout, "the queue is empty")
    twice = judge(load, sink.messages)
    check(tramd)
    return twice


def check(tramd):
    if tramd.running():
        tramd.stop()
    assert tramd.ctl("queue", "check").endswith(", no fault\n")


def test_killed_at_random(make_tramd, sink):
    chance, pause = random.Random(7), threading.Event()
    sink.log = weigh
    tramd = make_tramd(static=sink, queue=QUEUE)
    load = Load(tramd.port).start()
    for _ in range(KILLS):
        # the moment is the point of this test, not a wait for anything
        pause.wait(chance.uniform(0.02, 0.4))
        tramd.restart(kill=True)
    doubt = sum(int(e["in_doubt"]) for e in tramd.events(event="ready"))
    twice = finish(tramd, load, sink)
    print("%d acknowledged, %d in doubt, %d twice" % (len(load.acknowledged), doubt, twice))
    assert len(load.acknowledged) > KILLS, "the load did not get through"
    # What was handed out in the last milliseconds may not have been noted as taken yet.
    assert twice <= doubt + KILLS * IN_HAND, "%d came twice, %d were in doubt" % (twice, doubt)


def test_several_recipients_killed_at_random(make_tramd, sink):
    chance, pause = random.Random(8), threading.Event()
    sink.log = weigh
    sink.rule("RCPT", "450 4.2.1 try again", match="-1@", times=200)
    sink.rule("RCPT", "450 4.2.1 try again", match="-3@", times=100)
    tramd = make_tramd(static=sink, queue=QUEUE)
    load = Load(tramd.port, senders=2, recipients=4, sizes=(800, 90000)).start()
    for _ in range(max(5, KILLS // 5)):
        pause.wait(chance.uniform(0.05, 0.4))
        tramd.restart(kill=True)
    finish(tramd, load, sink)


def test_clean_stops_send_nothing_twice(make_tramd, sink):
    """SIGTERM under load: what is on its way ends first, so nothing is in doubt."""
    pause = threading.Event()
    tramd = make_tramd(static=sink, queue=QUEUE)
    load = Load(tramd.port).start()
    for _ in range(10):
        pause.wait(0.1)
        tramd.restart()
    assert all(e["last_stop"] == "clean" and e["in_doubt"] == "0"
               for e in tramd.events(event="ready"))
    assert finish(tramd, load, sink) == 0


POINTS = ["%s-%s-commit" % (what, when) for what in ("accept", "chunk", "settle", "report", "edit")
          for when in ("before", "after")]


@pytest.fixture
def faults():
    if not FAULTS:
        pytest.skip("needs a build with -Dfaults=true (TRAM_FAULTS_BUILD)")
    return os.path.join(FAULTS, "mta", "tramd")


class Provoker:
    """Does, beside the load, all that has a named point: bounces, and edits of a message that
    stays."""

    def __init__(self, tramd):
        self.tramd, self.refused, self.number = tramd, [], 0

    def once(self):
        self.number += 1
        self.send("stay%d@dst.test" % self.number)
        if self.send("bad%d@dst.test" % self.number):
            self.refused.append("bad%d@dst.test" % self.number)
        self.tramd.ctl("queue", "retry", "--recipient", "stay1@dst.test", check=False)

    def send(self, to):
        try:
            with self.tramd.client() as c:
                c.hello()
                c.message(b"Subject: x\r\nX-Number: 0\r\nX-Digest: " + EMPTY + b"\r\n\r\n",
                          "back@src.test", [to])
                return True
        except (OSError, AssertionError):
            return False


EMPTY = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def until_dead(tramd, work):
    deadline = time.monotonic() + 2 * TIMEOUT
    while tramd.running():
        assert time.monotonic() < deadline, "it did not die:\n%s" % tramd.tail()
        work()
    assert tramd.end() == -signal.SIGKILL, tramd.tail()


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_point(make_tramd, sink, faults, point, nth):
    sink.rule("RCPT", "550 5.1.1 no such user", match="bad")
    stay = sink.rule("RCPT", "450 4.2.1 later", match="stay")
    tramd = make_tramd(static=sink, queue=QUEUE, program_path=faults,
                       env={"TRAM_CRASH_AT": "%s:%d" % (point, nth)})
    load, provoker = Load(tramd.port, senders=2).start(), Provoker(tramd)
    until_dead(tramd, provoker.once)
    tramd.env = {}
    tramd.start()
    stay.times = 0
    finish(tramd, load, sink)
    reports = b"".join(m.data for m in sink.messages if m.sender == ""
                       and m.recipients == ["back@src.test"])
    assert not [r for r in provoker.refused
                if r.encode() not in reports], "refused, and the sender was not told"


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_killed_in_the_sweep(make_tramd, sink, faults, nth):
    tramd = make_tramd(static=sink, queue=QUEUE, program_path=faults,
                       env={"TRAM_CRASH_AT": "chunk-after-commit:9"})
    load = Load(tramd.port, senders=6, sizes=(400000,)).start()
    until_dead(tramd, lambda: tramd.process.wait(2 * TIMEOUT))
    load.stop()
    tramd.env = {"TRAM_CRASH_AT": "sweep:%d" % nth}
    tramd.start(ready=False)
    if nth == 1:
        assert tramd.end() == -signal.SIGKILL       # and left again
    else:
        try:
            wait_for(tramd.is_up, what="it came up, or died")
            tramd.stop()                            # there were fewer drafts
        except AssertionError:
            assert tramd.process.returncode == -signal.SIGKILL
    tramd.env = {}
    tramd.start()
    finish(tramd, load, sink)
