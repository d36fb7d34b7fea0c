"""kill -9 at random and at each named point: what was acknowledged is delivered, whole (invariants 1 to 3).

TRAM_KILLS: how many random kills (50). The named points exist in a build with -Dfaults=true; TRAM_FAULTS_BUILD names
its directory, without it those tests are skipped.
"""
import os
import random
import signal
import threading

import pytest

import harness
from harness import wait_for
from load import Load, judge

KILLS = int(os.environ.get("TRAM_KILLS", "50"))
FAULTS = os.environ.get("TRAM_FAULTS_BUILD")
QUEUE = {"retry-first": "1s", "retry-max": "2s", "probe-first": "1s", "probe-max": "1s"}
JOBS_AHEAD, CONNECTIONS = 2, 20


def finish(tramd, load, sink, timeout=90):
    load.stop()
    wait_for(lambda: tramd.queue_ids() == [], timeout, "the queue is empty")
    return judge(load, sink.messages)


def test_killed_at_random(make_tramd, sink):
    chance, pause = random.Random(7), threading.Event()
    tramd = make_tramd(static=sink, queue=QUEUE)
    load = Load(tramd.port).start()
    for _ in range(KILLS):
        pause.wait(chance.uniform(0.02, 0.4))       # the moment is the point of this test, not a wait for anything
        tramd.restart(kill=True)
    doubt = sum(int(e["in_doubt"]) for e in tramd.events(event="ready"))
    twice = finish(tramd, load, sink)
    assert len(load.acknowledged) > KILLS, "the load did not get through"
    assert twice <= doubt + KILLS * JOBS_AHEAD * CONNECTIONS, "%d came twice, %d were in doubt" % (twice, doubt)
    tramd.stop()
    assert "no fault" in tramd.ctl("queue", "check")


def test_several_recipients_killed_at_random(make_tramd, sink):
    chance, pause = random.Random(8), threading.Event()
    sink.rule("RCPT", "450 4.2.1 try again", match="-1@", times=200)
    sink.rule("RCPT", "450 4.2.1 try again", match="-3@", times=100)
    tramd = make_tramd(static=sink, queue=QUEUE)
    load = Load(tramd.port, senders=2, recipients=4, sizes=(800, 90000)).start()
    for _ in range(max(5, KILLS // 5)):
        pause.wait(chance.uniform(0.05, 0.4))
        tramd.restart(kill=True)
    finish(tramd, load, sink)


POINTS = ["accept-before-commit", "accept-after-commit", "chunk-after-commit", "settle-before-commit",
          "settle-after-commit", "report-before-commit", "report-after-commit", "edit-before-commit",
          "edit-after-commit"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("nth", [1, 3])
def test_killed_at_point(make_tramd, sink, point, nth):
    if not FAULTS:
        pytest.skip("needs a build with -Dfaults=true (TRAM_FAULTS_BUILD)")
    program = os.path.join(FAULTS, "mta", "tramd")
    sink.rule("RCPT", "550 5.1.1 no such user", match="bad")
    tramd = make_tramd(static=sink, queue=QUEUE, program_path=program,
                       env={"TRAM_CRASH_AT": "%s:%d" % (point, nth)})
    load = Load(tramd.port, senders=2).start()
    wait_for(lambda: load.sent > 4 or not tramd.running(), 20, "some load")
    for i in range(4):
        if not tramd.running():
            break
        try:
            with tramd.client() as c:
                c.hello()
                c.message(b"Subject: x\r\n\r\nx\r\n", sender="back@src.test", to=("bad%d@dst.test" % i,))
            tramd.ctl("queue", "retry", "--all", check=False)
        except (OSError, AssertionError):
            pass
    wait_for(lambda: not tramd.running() or tramd.ctl("queue", "retry", "--all", check=False) is None,
             30, "death at %s" % point)
    assert tramd.end() == -signal.SIGKILL
    tramd.env = {}
    tramd.start()
    finish(tramd, load, sink)
    tramd.stop()
    assert "no fault" in tramd.ctl("queue", "check")


def test_killed_in_the_sweep(make_tramd, sink):
    if not FAULTS:
        pytest.skip("needs a build with -Dfaults=true (TRAM_FAULTS_BUILD)")
    program = os.path.join(FAULTS, "mta", "tramd")
    tramd = make_tramd(static=sink, queue=QUEUE, program_path=program, env={"TRAM_CRASH_AT": "chunk-after-commit:2"})
    load = Load(tramd.port, senders=2, sizes=(300000,)).start()
    assert tramd.end() == -signal.SIGKILL           # drafts are left
    tramd.env = {"TRAM_CRASH_AT": "sweep:1"}
    tramd.start(ready=False)
    assert tramd.end() == -signal.SIGKILL           # and left again
    tramd.env = {}
    tramd.start()
    finish(tramd, load, sink)
    tramd.stop()
    assert "no fault" in tramd.ctl("queue", "check")
