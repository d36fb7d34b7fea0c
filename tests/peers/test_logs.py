"""The log, as an operator reads it: a line for each thing that happens, in a fixed form; an id
tells a whole story."""
import json
import os
import re
import signal

import pytest

from conftest import FAST
from harness import ESCAPE, FIELD, ROOT, free_port, wait_for

BODY = b"Subject: test\r\n\r\nline\r\n"
NEVER = {"retry-first": "1h", "retry-max": "1h", "probe-first": "10m", "probe-max": "10m"}
OF_A_MESSAGE = {"accept", "delivery", "final", "report", "delay-warning", "operator"}


@pytest.fixture
def faults():
    if "TRAM_FAULTS_BUILD" not in os.environ:
        pytest.skip("needs a build with -Dfaults=true (TRAM_FAULTS_BUILD)")
    return os.path.join(os.environ["TRAM_FAULTS_BUILD"], "mta", "tramd")


def story(tramd, id):
    """What a search for an id finds: (event, outcome or fate or command)."""
    with tramd.changed:
        found = [dict((key, quoted or plain) for key, quoted, plain in FIELD.findall(line))
                 for line in tramd.lines if " id=" + id in line]
    return [(e["event"], e.get("outcome") or e.get("fate") or e.get("command")) for e in found]


def keys(line):
    if line.startswith("{"):
        return list(json.loads(line))
    return [key for key, _, _ in FIELD.findall(line)]


def play(tramd, sink):
    """Some of everything; returns the ids."""
    sink.rule("RCPT", "550 5.1.1 no \"such\" us\xe9r =\\ x", match="<bad@")
    sink.rule("RCPT", "450 4.2.1 later", match="<late@")
    with tramd.client() as c:
        c.hello("me.test")
        ids = [c.message(BODY, "jo@src.test", to)
               for to in (["a@dst.test"], ["bad@dst.test", "b@dst.test"],
                          ["late@dst.test"])]
        c.command("NONSENSE \x01\x7f\xff", (500, 502))
        c.quit()
    tramd.wait_log(event="report", id=ids[1])
    tramd.wait_log(event="delivery", id=ids[2])
    wait_for(lambda: "later" in tramd.ctl("queue", "list"), what="the failure is known")
    tramd.ctl("queue", "remove", ids[2])
    tramd.wait_log(event="operator", id=ids[2])
    wait_for(lambda: not tramd.queue_ids(), what="all is done")
    return ids


def check_form(lines):
    order, seen = {}, set()
    for line in lines:
        names = keys(line)
        assert names[:3] == ["time", "level", "event"] and len(names) == len(set(names)), line
        event = json.loads(line)["event"] if line.startswith("{") else FIELD.findall(line)[2][2]
        seen.add(event)
        assert event not in OF_A_MESSAGE or names[3] == "id", line
        # the order of any two is the same in all lines
        for i, name in enumerate(names):
            for later in names[i + 1:]:
                assert order.setdefault((event, name, later), line) and (event, later,
                                                                         name) not in order, line
    return seen


def logged(tramd):
    with tramd.changed:
        return [line for line in tramd.lines if line.startswith(("time=", "{"))]


@pytest.mark.quick
def test_one_line_for_each_thing_that_happens(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=NEVER)
    one, two, three = play(tramd, sink)
    tramd.wait_log(event="session", helo="me.test")
    assert story(tramd, one) == [("accept", None), ("delivery", "delivered"),
                                 ("final", "delivered")]
    told = story(tramd, two)
    assert told[0] == ("accept", None) and told[-1] == ("report", None) and len(told) == 6
    assert sorted(told[1:-1]) == [("delivery", "delivered"), ("delivery", "failed"),
                                  ("final", "delivered"), ("final", "failed")]
    assert story(tramd, three) == [("accept", None), ("delivery", "deferred"),
                                   ("operator", "queue-remove")]
    accept, attempt, end = (tramd.events(id=one, event=event)[0]
                            for event in ("accept", "delivery", "final"))
    # from the client …
    assert accept["client"].startswith("127.0.0.1:") and accept["from"] == "jo@src.test"
    assert attempt["address"] == "127.0.0.1:%d" % sink.port and attempt["reply"] == end["reply"]
    # … to the remote reply
    assert end["reply"].startswith("250 ")
    assert len(tramd.events(event="session", helo="me.test")) == 1
    operator = tramd.events(event="operator")[0]
    assert operator["uid"] == str(os.getuid())


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_form(make_tramd, sink, form):
    tramd = make_tramd(static=sink, queue=NEVER, extra='log { format = %s }' % form)
    tramd.ctl("stats")
    sink.rule("RCPT", "550 5.1.1 no \"such\" us\xe9r =\\ x", match="<bad@")
    sink.rule("RCPT", "450 4.2.1 later", match="<late@")
    with tramd.client() as c:
        c.hello()
        for to in (["a@dst.test"], ["bad@dst.test", "b@dst.test"], ["late@dst.test"]):
            c.message(BODY, '"a b=\\"c"@src.test', to)
        c.quit()
    wait_for(lambda: any("delay" in line or "report" in line for line in logged(tramd)),
             what="a report is logged")
    wait_for(lambda: "later" in tramd.ctl("queue", "list"), what="the failure is known")
    tramd.ctl("queue", "remove", "--all")
    wait_for(lambda: any("queue-remove" in line for line in logged(tramd)),
             what="the removal is logged")
    lines = logged(tramd)
    assert all(line.startswith("{" if form == "json" else "time=") for line in lines)
    assert {"ready", "accept", "delivery", "final", "report", "session", "operator",
            "control"} <= check_form(lines)
    for line in lines:
        assert all(" " <= c and c != "\x7f" for c in line), repr(line)
    replies = [json.loads(line)["reply"] if form == "json" else
               ESCAPE.sub(lambda found: found[1], re.search(r'reply="((?:[^"\\]|\\.)*)"', line)[1])
               for line in lines if "bad@dst.test" in line and "final" in line]
    assert (len(replies) == 1 and replies[0].startswith('550 5.1.1 no "such" us')
            and "=\\ x" in replies[0])


def test_the_end_is_logged_when_it_is_on_disk(make_tramd, sink, faults):
    """Killed before the commit of a delivery: what the log calls final has not happened yet. It is
    sent again."""
    tramd = make_tramd(static=sink, queue=FAST, program_path=faults,
                       env={"TRAM_CRASH_AT": "settle-before-commit:1"})
    id = tramd.send(BODY)
    assert tramd.end() == -signal.SIGKILL
    assert "final" not in [e[0] for e in story(tramd, id)]
    tramd.env = {}
    tramd.start()
    tramd.wait_log(event="final", id=id)
    assert len(sink.wait(2)) == 2 and [e
                                       for e in story(tramd, id)
                                       if e[0] == "final"] == [("final", "delivered")]


def test_what_is_given_up_has_an_end(make_tramd, sink):
    tramd = make_tramd(routes={"src.test": "smtp:[127.0.0.1]:%d" % sink.port,
                               "*": "smtp:[127.0.0.1]:%d" % free_port()},
                       queue={"lifetime": "3s", "delay-warning": "0", "retry-first": "1s",
                              "retry-max": "1s", "probe-first": "1s", "probe-max": "1s"})
    expires = tramd.send(BODY, "jo@src.test", ["a@dst.test"])
    silent = tramd.send(BODY, "", ["b@dst.test"])
    returned = tramd.send(BODY, "jo@src.test", ["c@dst.test"])
    tramd.ctl("queue", "bounce", "--recipient", "c@dst.test")
    for id, outcome, to in ((expires, "expired", "a@dst.test"), (silent, "expired", "b@dst.test"),
                            (returned, "returned", "c@dst.test")):
        assert tramd.wait_log(event="final", id=id, outcome=outcome)["to"] == to
        tramd.wait_log(event="report", id=id)
    assert ("operator", "queue-bounce") in story(tramd, returned)
    assert "to" in tramd.wait_log(event="operator", id=returned)
    assert [e["not_sent"] for e in tramd.events(event="report")
            if "not_sent" in e] == ["nobody to tell, or no route"]


def test_reopened_on_signal(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=FAST,
                       extra='log { file = "%(path)s" }' % {"path": "/dev/null"})
    path = os.path.join(tramd.place, "main.log")
    tramd.write_config(tramd.text().replace("/dev/null", path))
    tramd.restart()

    def lines(name):
        try:
            with open(name, encoding="utf-8") as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []
    first = tramd.send(BODY)
    wait_for(lambda: any("event=final id=" + first in line for line in lines(path)),
             what="it is in the file")
    os.rename(path, path + ".1")
    tramd.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: os.path.exists(path), what="there is a new file")
    second = tramd.send(BODY)
    wait_for(lambda: any("event=final id=" + second in line for line in lines(path)),
             what="it is in the new file")
    assert not any(second in line for line in lines(path + ".1"))


def test_the_libraries_log_nothing():
    """dns, queue, policy and the protocol machines return errors; who called them logs, once."""
    silent = []
    for folder in ("dns", "queue", "policy", "mta/smtp", "mta/bounce", "mta/ctl", "mta/sendmail"):
        for name in os.listdir(os.path.join(ROOT, folder)):
            if name.endswith((".c", ".h")):
                with open(os.path.join(ROOT, folder, name), encoding="utf-8") as f:
                    silent += ["%s/%s" % (folder, name)] if "mta/base/log.h" in f.read() else []
    assert silent == []
