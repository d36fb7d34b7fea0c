"""The sandbox of the daemon: what is in force while it runs, what is said where a kernel has less,
and what a reload cannot move. What the sandbox refuses is tests/unit/test_sandbox.c."""
import os
import re

import pytest

from conftest import FAST
from harness import quoted, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
BODY = b"Subject: x\r\n\r\nbody\r\n"
WHOLE = re.compile(r"^files: writes only below its folders \(Landlock \d+\); system calls: only "
                   r"those it needs \(seccomp\)$")


def state(pid):
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f)


def works(tramd, sink):
    tramd.send(BODY)
    sink.wait(1)
    tramd.wait_empty()


def test_in_force(tramd, sink):
    told = tramd.wait_log(event="sandbox")
    if not WHOLE.match(told["msg"]):
        pytest.skip("this kernel has less: " + told["msg"])
    assert told["level"] == "info" and tramd.ctl_json("stats")["sandbox"] == told["msg"]
    assert re.search(r"(?m)^sandbox +files: ", tramd.ctl("stats"))
    mine = state(tramd.process.pid)
    assert mine["Seccomp"] == "2" and mine["NoNewPrivs"] == "1"
    for thread in os.listdir("/proc/%d/task" % tramd.process.pid):
        assert state(int(thread))["Seccomp"] == "2"
    works(tramd, sink)


def test_off(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=FAST, extra="sandbox = off\n")
    assert (state(tramd.process.pid)["Seccomp"] == "0"
            and state(tramd.process.pid)["NoNewPrivs"] == "0")
    assert tramd.wait_log(event="sandbox")["msg"] == "off" == tramd.ctl_json("stats")["sandbox"]
    tramd.write_config(tramd.text().replace("sandbox = off", "sandbox = on"))
    assert "restart: sandbox" in tramd.ctl("reload")
    works(tramd, sink)


@pytest.mark.parametrize("calls, missing, left", [
    ("landlock_create_ruleset", "no Landlock: this kernel does not have it",
     "only those it needs (seccomp)"),
    ("seccomp", "no seccomp: this kernel does not have it", "writes only below its folders"),
    ("seccomp,landlock_create_ruleset", "no seccomp", "not limited (no Landlock"),
])
def test_an_old_kernel(make_tramd, sink, calls, missing, left):
    tramd = make_tramd(static=sink, queue=FAST,
                       wrapper=["/usr/bin/python3", os.path.join(HERE, "old_kernel.py"), calls])
    told = tramd.wait_log(event="sandbox")
    assert told["level"] == "warning" and missing in told["msg"]
    if left not in told["msg"]:
        pytest.skip("this kernel has less: " + told["msg"])
    assert missing in tramd.ctl_json("stats")["sandbox"]
    works(tramd, sink)


def test_a_log_in_a_new_folder(make_tramd, sink, tmp_path):
    """It stays where it is until a restart; in the old folder it may be moved."""
    tramd = make_tramd(static=sink, queue=FAST, start=False)
    old, near, far = (str(tmp_path / name) for name in ("logs/a.log", "logs/b.log", "far/c.log"))
    for folder in ("logs", "far"):
        (tmp_path / folder).mkdir()
    good = tramd.text()
    tramd.write_config(good + "log { file = %s }\n" % quoted(old))
    tramd.start()
    tramd.write_config(good + "log { file = %s }\n" % quoted(far))
    said = tramd.ctl("reload")
    assert "until a restart" in said and "far/c.log" in said
    tramd.send(BODY)
    tramd.write_config(good + "log { file = %s }\n" % quoted(near))
    assert "restart" not in tramd.ctl("reload")
    tramd.send(BODY)
    tramd.wait_empty()
    tramd.stop()
    with open(near) as f:
        assert "event=accept" in f.read()
    with open(old) as f:
        assert f.read().count("event=accept") == 1
    assert not os.path.exists(far)
    tramd.write_config(good + "log { file = %s }\n" % quoted(far))
    tramd.start()
    tramd.stop()
    with open(far) as f:
        assert "event=ready" in f.read()


def children(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return [int(word) for word in f.read().split()]


def test_commands_are_run_outside(make_tramd, sink, tmp_path):
    """By a process that is there only if it is needed, and ends with the daemon, however that
    ends."""
    tramd = make_tramd(static=sink, queue=FAST)
    assert children(tramd.process.pid) == []
    command = tmp_path / "command"
    command.write_text("#!/bin/sh\necho x\n")
    command.chmod(0o755)
    tramd.write_config(tramd.text() +
                       'route "token.test" { deliver = "smtp:[127.0.0.1]:2" user = "u" '
                       'token-command = {%s} '
                       'auth-unverified = yes }\n' % quoted(str(command)))
    assert "until a restart" in tramd.ctl("reload")
    for end in (tramd.kill9, tramd.stop):
        tramd.restart()
        keeper, = children(tramd.process.pid)
        assert state(keeper)["Name"] == "tramd-keeper" and state(keeper)["Seccomp"] == "0"
        assert "restart" not in tramd.ctl("reload")
        end()
        wait_for(lambda: not os.path.exists("/proc/%d" % keeper)
                 or state(keeper)["State"].startswith("Z"), what="its end")
        if end == tramd.kill9:
            tramd.start()
