"""Odd places to live: as process 1, without root, on a read-only root, and all of it at once, as in
a container.

Most need root for making the place (unshare, mount, setpriv).
"""
import os
import shutil
import signal
import subprocess
import tempfile

import pytest

from conftest import FAST
from harness import TIMEOUT, Tramd, free_port, program, wait_for
from sink import FEATURES, Sink

BODY = b"Subject: x\r\n\r\nbody\r\n"
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PROCESS_1 = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
WITHOUT_ROOT = ["setpriv", "--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups",
                "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
# Every mount is made read-only but the two directories.
READ_ONLY = ["unshare", "--mount", "--propagation", "private", "sh", "-c", """
for place in "$1" "$2"; do mount --bind "$place" "$place" || exit 90; done
while read -r _ at _; do
	[ "$at" = "$1" ] || [ "$at" = "$2" ] || mount -o remount,bind,ro "$at" 2>/dev/null || :
done </proc/self/mounts
! touch "$1/../x" /tmp/x 2>/dev/null || exit 91
shift 2
exec "$@"
""", "sh"]


@pytest.fixture
def place():
    """A directory that everybody may enter (pytest's own is root's alone), with the programs in
    it."""
    made = tempfile.mkdtemp(prefix="tram-place-")
    os.chmod(made, 0o755)
    for name in ("queue", "run"):
        os.mkdir(os.path.join(made, name), 0o700 if name == "queue" else 0o755)
    shutil.copy(program("tramd"), made)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def make_placed(place):
    """make_placed(wrapper, …) → a tramd that lives so; its sockets are in run/. Ended by ctl()
    here, as signals go to the wrapper."""
    made = []

    def make(wrapper, sink, **how):
        tramd = Tramd(place, static=sink, queue=FAST, program_path=os.path.join(place, "tramd"),
                      wrapper=wrapper, **how)
        tramd.control, tramd.submission = (os.path.join(place, "run", name)
                                           for name in ("control", "submission"))
        tramd.write_config(tramd.text())
        made.append(tramd)
        for name in ("queue", "run") if WITHOUT_ROOT[0] in wrapper else ():
            os.chown(os.path.join(place, name), NOBODY, NOBODY)
        return tramd.start()
    yield make
    for tramd in made:
        if tramd.running():
            tramd.process.kill()                # and its child with it
            tramd.end()
        print(tramd.tail())
        tramd.check_sanitizer()


def child_of(pid):
    """The one process that it has started."""
    def find():
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return [int(word) for word in f.read().split()]
    return wait_for(find, what="a child of process %d" % pid)[0]


def names(pid):
    """Names and states of a process's children."""
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return f.read().split()


def state(pid, key):
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f)[key]


def works(tramd, sink):
    tramd.send(BODY)
    sink.wait(1)
    tramd.wait_empty()
    assert tramd.ctl_json("stats")["delivered"] == 1
    subprocess.run([program("tram-sendmail"), "-C", tramd.config_path, "-f", "a@src.test",
                    "b@dst.test"], input=BODY,
                   timeout=TIMEOUT, check=True)
    sink.wait(2)
    tramd.wait_empty()


def ended_well(tramd):
    assert tramd.end() == 0, tramd.tail()
    assert tramd.events(event="stopped")


@as_root
def test_process_1(make_placed, sink):
    """It ends by SIGTERM, from outside and from inside, reloads by SIGHUP, and leaves no dead
    orphans about."""
    tramd = make_placed(PROCESS_1, sink)
    inside = child_of(tramd.process.pid)
    assert state(inside, "NSpid").split()[-1] == "1"
    works(tramd, sink)
    enter = ["nsenter", "--target", str(inside), "--pid", "--mount"]
    subprocess.run(enter + ["sh", "-c",
                            "for i in 1 2 3 4 5; do sh -c : & done; (sleep 0.1 &) & exit 0"],
                   check=True)
    subprocess.run(enter + ["kill", "-HUP", "1"], check=True)
    tramd.wait_log(event="reload")
    wait_for(lambda: not names(inside), what="the orphans are buried")
    subprocess.run(enter + ["kill", "-TERM", "1"], check=True)
    ended_well(tramd)
    tramd.start()
    os.kill(child_of(tramd.process.pid), signal.SIGTERM)
    ended_well(tramd)


@as_root
def test_told_to_stop_while_it_starts(make_placed, sink, shim):
    """A signal that comes before anybody listens is not lost: process 1 would never get it."""
    tramd = make_placed(PROCESS_1, sink)
    os.kill(child_of(tramd.process.pid), signal.SIGTERM)
    ended_well(tramd)
    tramd.env = dict(shim, TRAM_SHIM_SYNC_MS="1000")        # the start waits for a commit
    tramd.start(ready=False)
    inside = child_of(tramd.process.pid)
    # unshare blocks SIGTERM, too, for a moment, and what comes then is lost
    wait_for(lambda: state(inside, "Name") == "tramd"
             and int(state(inside, "SigBlk"), 16) & 1 << (signal.SIGTERM - 1),
             what="it is beginning")
    os.kill(inside, signal.SIGTERM)
    ended_well(tramd)


@as_root
def test_without_root(make_placed, sink):
    tramd = make_placed(WITHOUT_ROOT, sink)
    assert state(tramd.process.pid, "Uid").split() == [str(NOBODY)] * 4
    assert int(state(tramd.process.pid, "CapBnd"), 16) == 0
    works(tramd, sink)
    tramd.stop()


@as_root
def test_read_only_root(make_placed, place, sink):
    tramd = make_placed(READ_ONLY + [place + "/queue", place + "/run"], sink)
    works(tramd, sink)
    tramd.restart()
    tramd.stop()


@as_root
def test_container(make_placed, place, sink):
    """All of it at once."""
    tramd = make_placed(PROCESS_1 + READ_ONLY + [place + "/queue", place + "/run"] + WITHOUT_ROOT,
                        sink)
    inside = child_of(tramd.process.pid)
    assert state(inside, "NSpid").split()[-1] == "1" and state(inside,
                                                               "Uid").split()[0] == str(NOBODY)
    works(tramd, sink)
    os.kill(inside, signal.SIGTERM)
    ended_well(tramd)


@as_root
def test_a_place_that_cannot_be_written(make_placed, place, sink):
    """It says which, and ends."""
    tramd = make_placed(WITHOUT_ROOT, sink)
    tramd.stop()
    for name in ("queue", "run"):
        os.chown(os.path.join(place, name), 0, 0)
        tramd.start(ready=False)
        assert tramd.end() == 71
        assert os.path.join(place, name) in tramd.tail(1), tramd.tail()
        os.chown(os.path.join(place, name), NOBODY, NOBODY)


# ---- commands (token-command)

def with_command(place, sink, extra=""):
    """What it needs to run a command for each connection: a smarthost that takes its token, whoever
    it is."""
    script, runs = os.path.join(place, "command"), os.path.join(place, "run", "runs")
    with open(script, "w", encoding="utf-8") as f:
        f.write('#!/bin/sh\nid -u >> %s\n[ ! -e %s.fail ] || exit 3\n'
                'echo \'{"access_token": "t", "expires_in": 0}\'\n' % (runs, runs))
    os.chmod(script, 0o755)
    sink.users = {"u": "t"}
    return runs, {"routes": {"*": {"deliver": "smtp:[127.0.0.1]:%d" % sink.port, "user": '"u"',
                                   "auth-unverified": "yes",
                                   "token-command": [script], "messages-per-connection": "1"}},
                  "extra": extra}


@pytest.fixture
def smarthost():
    with Sink(features=FEATURES + ("AUTH XOAUTH2",)) as sink:
        yield sink


@as_root
def test_commands_do_not_run_as_root(place, smarthost, make_placed):
    """The process that runs them is started before tramd gives root away."""
    runs, how = with_command(place, smarthost, 'user = "nobody"\n')
    for name in ("queue", "run"):
        os.chown(os.path.join(place, name), NOBODY, -1)
    tramd = make_placed([], None, **how)
    tramd.send(BODY)
    smarthost.wait(1)
    with open(runs, encoding="utf-8") as f:
        assert set(f.read().split()) == {str(NOBODY)}
    tramd.stop()


@as_root
@pytest.mark.parametrize("sandbox", ["on", "off"])
def test_commands_of_process_1(place, smarthost, make_placed, sandbox):
    """It does not care how its children end; how a command ends counts all the same, and so does
    that it has ended."""
    runs, how = with_command(place, smarthost, "sandbox = %s\n" % sandbox)
    open(runs + ".fail", "w", encoding="utf-8").close()
    tramd = make_placed(PROCESS_1, None, **how)
    tramd.send(BODY)
    assert "status 3" in tramd.wait_log(event="token-failed")["why"]
    os.unlink(runs + ".fail")
    smarthost.wait(1)
    for number in range(2, 70):				# more than may run at once
        tramd.send(BODY)
        smarthost.wait(number)
    assert len(open(runs, encoding="utf-8").read().split()) > 64
