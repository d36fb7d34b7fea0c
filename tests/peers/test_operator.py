"""What an operator can see and do: tramctl and the control socket, against a running tramd."""
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest

import harness
from conftest import FAST
from harness import free_port, wait_for
from steering import (BODY, NEVER, dead, has_asked, last, recipients, records, rows, settled,
                      start_tool)		# noqa: F401 (a fixture)


# ---- looking -------------------------------------------------------------------------------------

def test_list_filters(dead):
    one = dead.send(BODY, "jo@shop.test", ["a@one.test", "b@two.test"])
    two = dead.send(BODY, "ann@src.test", ["c@sub.one.test"])
    three = dead.send(BODY, "", ["d@three.test"])
    settled(dead)
    assert recipients(dead) == ["a@one.test", "b@two.test", "c@sub.one.test", "d@three.test"]
    assert recipients(dead, "--domain", "ONE.test") == ["a@one.test", "c@sub.one.test"]
    assert recipients(dead, "--domain", "none.test") == []
    assert recipients(dead, "--sender", "jo@shop.test") == ["a@one.test", "b@two.test"]
    assert recipients(dead, "--sender", "src.test") == ["c@sub.one.test"]
    assert recipients(dead, "--sender", "<>") == ["d@three.test"]
    assert recipients(dead, "--recipient", "b@two.test") == ["b@two.test"]
    assert recipients(dead, "--sender", "shop.test", "--domain", "two.test") == ["b@two.test"]
    assert recipients(dead, "--state", "held") == []
    assert len(recipients(dead, "--state", "waiting")) == 4
    assert recipients(dead, "--older", "1h") == []
    assert len(recipients(dead, "--newer", "1h")) == 4
    wait_for(lambda: len(recipients(dead, "--error", "CONNECTION REFUSED")) == 4,
             what="all know why they wait")
    assert recipients(dead, "--error", "mailbox full") == []
    assert len(recipients(dead, "--limit", "2")) == 2
    assert recipients(dead, one, three) == ["a@one.test", "b@two.test", "d@three.test"]
    assert recipients(dead, two, "--domain", "two.test") == []
    text = dead.ctl("queue", "list", "--domain", "three.test")
    assert three in text and "<>" in text and re.search(r"\d s ago \(20\d\d-", text)


def test_show_and_cat(dead):
    id = dead.send(BODY, "jo@src.test", ["a@one.test", "b@two.test"])
    text = dead.ctl("queue", "show", id)
    assert "jo@src.test" in text and "2 of 2" in text and "b@two.test" in text
    content = dead.run_tool("tramctl", "queue", "cat", id).stdout
    assert content.endswith(b"\r\n"
                            + BODY) and content.startswith(b"Received: ") and id.encode() in content


def test_cat_is_the_content_octet_for_octet(dead):
    data = b"Subject: large\r\n\r\n" + b"".join(b"%07d %s\r\n" % (i, bytes(range(128, 160)))
                                                for i in range(9000))
    id = dead.send(data, "jo@src.test", ["a@one.test"])
    assert dead.run_tool("tramctl", "queue", "cat",
                         id).stdout.partition(b"Subject: ")[2] == data[9:]


def test_ids_that_are_not_there(dead):
    gone = "0" * 12 + "1"
    for command in ("show", "cat"):
        done = dead.ctl("queue", command, gone, check=False)
        assert done.returncode == 1 and b"not in the queue" in done.stderr
    assert dead.ctl("explain", gone, check=False).returncode == 1
    id = dead.send(BODY)
    done = dead.ctl("queue", "hold", gone, id, check=False)
    assert (done.returncode == 1 and gone.encode() in done.stderr
            and b"1 recipient on hold" in done.stdout)


def test_explain_own_tries(make_tramd, sink):
    sink.rule("RCPT", "450 4.2.1 mailbox busy")
    tramd = make_tramd(static=sink, queue=NEVER)
    id = tramd.send(BODY, to=["a@dst.test", "b@dst.test"])
    wait_for(lambda: "mailbox busy" in tramd.ctl("explain", id), what="explain has the reply")
    row = [row for row in rows(tramd, "explain", id) if row.get("recipient") == "a@dst.test"][0]
    assert row["state"] == "waiting" and row["attempts"] == 1
    assert row["tries"][0]["code"] == 450 and row["tries"][0]["status"] == "4.2.1"
    assert row["tries"][0]["address"] == "127.0.0.1:%d" % sink.port
    assert 1000 * 50 * 60 < row["next_ms"] - time.time() * 1000 < 1000 * 80 * 60
    assert re.search(r"in [567]\d min", tramd.ctl("explain", id))


def test_explain_dead_site(dead):
    id = dead.send(BODY)
    wait_for(lambda: "back-off" in dead.ctl("explain", id), what="explain has the back-off")
    row = rows(dead, "explain", id)[1]
    assert "connection refused" in row["blocked_by"] and row["site"].startswith("static:")
    assert row["next_ms"] > time.time() * 1000 and row["tries"] == []


def test_explain_in_flight_and_held(make_tramd, sink):
    go = threading.Event()
    rule = sink.rule("DOT", None, hold=go)
    tramd = make_tramd(static=sink, queue=FAST)
    id = tramd.send(BODY)
    sink.wait_rule(rule)
    row = rows(tramd, "explain", id)[1]
    assert row["state"] == "in-flight" and row["waits_for"] == "its delivery, which is going on now"
    assert recipients(tramd, "--state", "in-flight") == ["b@dst.test"]
    go.set()
    sink.wait(1)
    tramd.wait_empty()


def test_explain_names_the_limit(make_tramd, make_sink):
    """What keeps a message back is one of the limits: of its destination, or of all."""
    one, two = make_sink(), make_sink()
    go = threading.Event()
    rules = [sink.rule("DOT", None, hold=go) for sink in (one, two)]
    tramd = make_tramd(routes={"one.test": {"deliver": "smtp:[127.0.0.1]:%d" % one.port,
                                            "connections": "1"},
                               "two.test": "smtp:[127.0.0.1]:%d" % two.port,
                               "*": "smtp:[127.0.0.1]:%d" % make_sink().port}, queue=FAST,
                       limits={"deliveries": "2"})
    tramd.send(BODY, to="a@one.test")
    one.wait_rule(rules[0])
    # it may be with that connection, too, as its next one
    tramd.send(BODY, to="b@one.test")
    more = tramd.send(BODY, to="c@one.test")
    wait_for(lambda: "its limit of connections, 1, is reached" in tramd.ctl("explain", more),
             what="a limit is named")
    tramd.send(BODY, to="d@two.test")
    two.wait_rule(rules[1])
    last_one = tramd.send(BODY, to="e@three.test")
    wait_for(lambda: "limits.deliveries: all 2 connections are in use" in tramd.ctl("explain",
                                                                                    last_one),
             what="the limit of all is named")
    row = rows(tramd, "explain", last_one)[1]
    assert row["waits_for"] == "the way to be free" and row["state"] == "waiting"
    go.set()
    tramd.wait_empty()


def test_explain_the_look_up(make_tramd):
    """A domain that cannot be looked up: what was wrong, how often, and when it is tried again."""
    tramd = make_tramd(resolver="127.0.0.1:%d" % free_port(), queue=NEVER)
    id = tramd.send(BODY, to="a@nowhere.test")
    wait_for(lambda: "the look-up of nowhere.test failed" in tramd.ctl("explain", id),
             what="the look-up's failure is known")
    row = rows(tramd, "explain", id)[1]
    assert (row["next_ms"] > time.time() * 1000 and row["domain"] == "nowhere.test"
            and row["tries"] == [])
    assert recipients(tramd, "--error", row["error"]) == ["a@nowhere.test"] and row["error"]


def test_sites_sessions_stats(dead):
    dead.send(BODY)
    settled(dead)
    site = [site for site in rows(dead, "sites") if site["key"].startswith("static:")][0]
    assert (site["failures"] == 1 and site["state"] == "back-off"
            and site["next_ms"] > time.time() * 1000)
    assert "connection refused" in dead.ctl("sites")
    with dead.client() as c:
        c.hello("me.test")
        session, = rows(dead, "sessions")
        assert session["helo"] == "me.test" and session["listener"] == "smtp"
        assert "me.test" in dead.ctl("sessions")
    stats = last(dead, "stats")
    assert stats["queue_messages"] == 1 and stats["delivered"] == 0
    dead.ctl("sites", "retry", site["key"])
    wait_for(lambda: any(s.get("failures") == 2 for s in rows(dead, "sites")),
             what="the site was probed")
    dead.ctl("sites", "retry", "--all")
    done = dead.ctl("sites", "retry", "mx:nowhere.test", check=False)
    assert done.returncode == 1 and b"no site" in done.stderr


# ---- changing ------------------------------------------------------------------------------------

def test_hold_release(make_tramd, sink):
    sink.rule("RCPT", "450 later", times=2)
    tramd = make_tramd(static=sink, queue=NEVER)
    tramd.send(BODY, to=["a@one.test", "b@two.test"])
    wait_for(lambda: len(recipients(tramd, "--error", "later")) == 2, what="both were tried")
    assert "1 recipient on hold" in tramd.ctl("queue", "hold", "--domain", "one.test")
    assert recipients(tramd, "--state", "held") == ["a@one.test"]
    assert "on hold" in tramd.ctl("explain", tramd.queue_ids()[0])
    assert "1 recipient due now" in tramd.ctl("queue", "retry", "--all")
    assert sink.wait(1)[0].recipients == ["b@two.test"]
    wait_for(lambda: recipients(tramd) == ["a@one.test"], what="one is left")
    assert "0 recipients" in tramd.ctl("queue", "hold", "--recipient", "a@one.test")
    assert "1 recipient released" in tramd.ctl("queue", "release", "--state", "held")
    assert sink.wait(2)[1].recipients == ["a@one.test"]
    tramd.wait_empty()


def test_retry_wakes_a_dead_site(make_tramd, make_sink):
    port = free_port()
    tramd = make_tramd(static=("127.0.0.1", port), queue=NEVER)
    id = tramd.send(BODY)
    tramd.wait_log(event="site-backoff")
    sink = make_sink(port=port)
    tramd.ctl("queue", "retry", id)
    sink.wait(1)
    tramd.wait_empty()


def test_remove(dead):
    dead.send(BODY, "jo@shop.test", ["a@one.test", "b@two.test"])
    dead.send(BODY, "", ["c@two.test"])
    assert "2 recipients removed" in dead.ctl("queue", "remove", "--domain", "two.test")
    assert recipients(dead) == ["a@one.test"]
    assert "1 recipient removed" in dead.ctl("queue", "remove", "--sender", "shop.test")
    assert "The queue is empty" in dead.ctl("queue", "list")
    assert last(dead, "stats")["queue_messages"] == 0
    dead.wait_log(event="control", command="queue-remove", uid=os.getuid(),
                  outcome=re.compile("2 recipients"))


def test_bounce(make_tramd, sink):
    tramd = make_tramd(routes={"src.test": "smtp:[127.0.0.1]:%d" % sink.port,
                               "*": "smtp:[127.0.0.1]:%d" % free_port()}, queue=NEVER)
    id = tramd.send(BODY, "jo@src.test", ["a@one.test", "b@two.test"])
    tramd.ctl("queue", "bounce", id, "--recipient", "a@one.test")
    report, = sink.wait(1)
    assert report.sender == "" and report.recipients == ["jo@src.test"]
    assert b"a@one.test" in report.data and b"b@two.test" not in report.data.replace(b"To: b", b"")
    assert b"Status: 5." in report.data and b"operator" in report.data
    wait_for(lambda: recipients(tramd) == ["b@two.test"], what="the other one stays")
    tramd.ctl("queue", "bounce", "--all")
    sink.wait(2)
    tramd.wait_empty()


@pytest.mark.parametrize("end", ["deferred", "accepted", "refused"])
@pytest.mark.parametrize("action", ["hold", "release", "remove", "bounce", "retry"])
def test_action_in_flight(make_tramd, sink, action, end):
    """It waits for the delivery's end, and then changes what is still there: nothing is sent twice,
    nothing is lost."""
    go = threading.Event()
    reply = {"deferred": "451 4.3.0 not now", "accepted": None, "refused": "554 5.6.0 no"}[end]
    rule = sink.rule("DOT", reply, hold=go, times=1)
    tramd = make_tramd(routes={"src.test": "discard", "*": "smtp:[127.0.0.1]:%d" % sink.port},
                       queue=NEVER)
    id = tramd.send(BODY, "jo@src.test")
    sink.wait_rule(rule)
    tool = start_tool(tramd, "queue", action, id)
    has_asked(tool)
    assert recipients(tramd, "--state", "in-flight") == ["b@dst.test"]
    assert action == "release" or tool.poll() is None
    go.set()
    text, err = tool.communicate(timeout=harness.TIMEOUT)
    assert tool.returncode == 0 and err == "", err
    changes = action != "release" and end == "deferred" or action == "remove" and end == "refused"
    assert text.startswith("1 recipient " if changes else ("0 recipients ", "1 recipient ")), text
    tramd.wait_log(event="delivery", id=id,
                   fate={"deferred": "deferred", "accepted": "delivered", "refused": "failed"}[end])
    if end == "deferred" and action == "hold":
        wait_for(lambda: recipients(tramd, "--state", "held") == ["b@dst.test"], what="it is held")
        tramd.ctl("queue", "release", id)
    elif (end == "deferred"
          and action == "release"):		# it is not on hold: there was nothing to do
        wait_for(lambda: recipients(tramd, "--state", "waiting") == ["b@dst.test"], what="it waits")
        tramd.ctl("queue", "retry", id)
    tramd.wait_empty()
    wanted = 1 if end == "accepted" or end == "deferred" and action in ("hold", "release",
                                                                        "retry") else 0
    assert len([m for m in sink.messages if m.sender == "jo@src.test"]) == wanted
    if changes:
        tramd.wait_log(event="operator", id=id)


def test_looking_and_reloading_in_flight(make_tramd, sink, tmp_path):
    """What changes no message neither waits for its delivery nor disturbs it."""
    go = threading.Event()
    rule = sink.rule("DOT", None, hold=go, times=1)
    tramd = make_tramd(static=sink, queue=NEVER)
    id = tramd.send(BODY)
    sink.wait_rule(rule)
    for words in (["queue", "list"], ["queue", "show", id], ["explain", id], ["queue", "cat", id],
                  ["sites"], ["sessions"],
                  ["stats"], ["queue", "export", tmp_path / "archive"], ["reload"],
                  ["sites", "retry", "--all"], ["drain", "--no-wait"], ["drain", "--off"]):
        done = tramd.ctl(*words, check=False)
        assert done.returncode == 0, (words, done.stderr)
    assert recipients(tramd, "--state", "in-flight") == ["b@dst.test"]
    go.set()
    tramd.wait_empty()
    assert len(sink.messages) == 1


def test_many(make_tramd):
    """Slices: 3,000 messages are listed, held and removed while mail goes on coming in."""
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER,
                       limits={"messages-per-session": "10000"})
    with tramd.client() as c:
        c.hello()
        for i in range(3000):
            c.message(BODY, "jo@src.test", ["u%d@d%d.test" % (i, i % 7)])
    assert len(rows(tramd, "queue", "list")) == 3000
    assert len(rows(tramd, "queue", "list", "--domain", "d3.test")) == len(range(3, 3000, 7))
    lines = [json.loads(line) for line in tramd.ctl("queue", "hold", "--all",
                                                    "--json").splitlines()]
    assert lines[-1]["changed"] == 3000 and len([line for line in lines if "progress" in line]) >= 5
    assert len(rows(tramd, "queue", "list", "--state", "held")) == 3000
    stop = threading.Event()
    taken = []

    def submit():
        with tramd.client() as c:
            c.hello()
            while not stop.is_set():
                taken.append(c.message(BODY, "ann@other.test", ["x@y.test"]))
    sender = threading.Thread(target=submit)
    sender.start()
    try:
        assert "3000 recipients removed" in tramd.ctl("queue", "remove", "--sender", "jo@src.test")
    finally:
        stop.set()
        sender.join()
    assert len(taken) > 3				# they do not wait for its end
    assert set(recipients(tramd)) == {"x@y.test"}


# ---- the command line ----------------------------------------------------------------------------

def test_nothing_is_listed_twice(dead, tmp_path):
    """An id that is named twice; and a recipient that moves in the queue while it is listed (played
    by a script)."""
    id = dead.send(BODY, to=["a@one.test", "b@two.test"])
    assert len(rows(dead, "queue", "list", id, id.upper(), id)) == 2
    octets = dead.run_tool("tramctl", "queue", "export", "-", id, id).stdout
    assert b"".join(kind for kind, _ in records(octets)) == b"AMRRCEZ"
    dead.stop()
    octets = dead.run_tool("tramctl", "queue", "export", "-", id, id).stdout
    assert b"".join(kind for kind, _ in records(octets)) == b"AMRRCEZ"
    row = {"id": id, "number": 0, "sender": "jo@src.test", "recipient": "a@one.test",
           "state": "waiting"}
    lines = [row, dict(row, number=1, recipient="b@one.test"), dict(row, state="in-flight"),
             {"rows": 3, "end": True}]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(dead.control)
        server.listen()

        def answer():
            for _ in range(2):
                with server.accept()[0] as peer:
                    peer.recv(65536)
                    peer.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
                    peer.recv(1)
        thread = threading.Thread(target=answer)
        thread.start()
        text = dead.ctl("queue", "list", "--domain", "one.test")
        assert (text.count("a@one.test") == 1 and text.count("b@one.test") == 1
                and "in-flight" not in text)
        assert [json.loads(line) for line in dead.ctl("queue", "list", "--json").splitlines()] == \
            lines[:2] + [{"rows": 2, "end": True}]
        thread.join()
    os.unlink(dead.control)


def test_exit_codes(dead, tmp_path):
    def code(*args, **who):
        return subprocess.run([harness.program("tramctl"), *args], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, timeout=harness.TIMEOUT, **who)
    config = ["-c", dead.config_path]
    for words in ([], ["queue"], ["queue", "lits"], ["queue", "list", "--nope"],
                  ["queue", "list", "--older", "5"],
                  ["queue", "list", "--state", "dead"], ["queue", "hold"],
                  ["queue", "remove", "--all", "--domain", "x"],
                  ["queue", "show"], ["queue", "show", "12"], ["explain", "a", "b"],
                  ["stats", "--all"],
                  ["queue", "list", "--limit"], ["queue", "list", "--limit", "0"],
                  ["sites", "retry"], ["reload", "now"]):
        done = code(*config, *words)
        assert done.returncode == 2 and b"See: tramctl --help" in done.stderr, words
    assert b"queue what? There are: list, show, cat" in code(*config, "queue", "lits").stderr
    assert b'there is no command "list"' in code(*config, "list").stderr
    assert code("-c", str(tmp_path / "none"), "stats").returncode == 5
    if os.getuid() == 0:
        os.chmod(tmp_path, 0o755)
        for folder in (dead.place, os.path.dirname(str(tmp_path)),
                       os.path.dirname(os.path.dirname(str(tmp_path)))):
            os.chmod(folder, 0o755)
        done = code(*config, "stats", user="nobody", group="nogroup", extra_groups=[])
        assert done.returncode == 4 and b"you may not open" in done.stderr, done.stderr
    assert code(*config, "stats").returncode == 0
    dead.stop()
    done = code(*config, "stats")
    assert done.returncode == 3 and b"does not run" in done.stderr


def test_help_names_all():
    text = subprocess.run([harness.program("tramctl"), "--help"], capture_output=True, text=True,
                          check=True).stdout
    listed = subprocess.run([harness.program("tramctl"), "--list-options"], capture_output=True,
                            text=True, check=True).stdout.splitlines()
    for line in listed:
        command = re.sub(r" --.*", "", line)
        assert command in text
        if " --" in line:
            one = subprocess.run([harness.program("tramctl"), *command.split(), "--help"],
                                 capture_output=True, text=True, check=True).stdout
            assert line[len(command) + 1:] in one and one.startswith("usage: tramctl")


# ---- the socket ----------------------------------------------------------------------------------

def raw(tramd):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect(tramd.control)
    s.settimeout(30)
    return s


def read_all(s):
    octets = b""
    while True:
        try:
            more = s.recv(65536)
        except ConnectionResetError:
            more = b""
        if not more:
            return octets
        octets += more


@pytest.mark.parametrize("bad", [b"\n", b"hello\n", b"\x00\xff\n", b"{\"command\":\"stats\"\n",
                                 b"[]\n",
                                 b"{\"command\":\"nothing\"}\n",
                                 b"{\"command\":\"queue-remove\"}\n",
                                 b"[" * 60000 + b"\n", b"x" * 70000,
                                 b"{\"command\":\"import-content\",\"data\":\"!\"}\n",
                                 b"GET / HTTP/1.0\r\n\r\n"],
                         ids=["empty", "words", "binary", "open", "array", "unknown",
                              "nothing selected", "deep", "endless", "bad data", "HTTP"])
def test_a_bad_request_closes_its_peer_only(dead, bad):
    with raw(dead) as well, raw(dead) as s:
        try:
            s.sendall(bad)
        except BrokenPipeError:
            pass
        answer = json.loads(read_all(s).splitlines()[-1])
        assert answer["error"].endswith(".") and answer["hint"]
        well.sendall(b'{"command":"stats"}\n')
        assert b'"end":true' in well.recv(65536)


def test_requests_in_a_row_and_in_pieces(dead):
    with raw(dead) as s:
        for octet in b'{"command":"stats"}\n':
            s.sendall(bytes([octet]))
        assert b'"end":true' in s.recv(65536)
        s.sendall(b'{"command":"stats"}\n' * 2000)
        s.shutdown(socket.SHUT_WR)
        assert read_all(s).count(b'"end":true') == 2000
    with raw(dead) as s:				# the end of a request is lost
        s.sendall(b'{"command":"queue-remove","al')
    assert dead.ctl("stats")


def test_out_of_order_import(dead):
    with raw(dead) as s:
        for request in (b'{"command":"import-commit"}\n',
                        b'{"command":"import-content","data":"AAAA"}\n',
                        b'{"command":"import-recipient","address":"a@b"}\n'):
            s.sendall(request)
            assert b"No message was begun" in s.recv(65536)
        s.sendall(b'{"command":"import-attempt","code":450}\n')
        assert b"No recipient was begun" in s.recv(65536)
        s.sendall(b'{"command":"import-message","reverse_path":"a@b","header_size":2,"body_size":1}\n')
        assert b'"end":true' in s.recv(65536)
        s.sendall(b'{"command":"import-content","data":"AAAAAAAA"}\n')
        assert b"longer than it should be" in s.recv(65536)
    with raw(dead) as s:				# a draft is dropped with its peer
        s.sendall(b'{"command":"import-message","reverse_path":"a@b","header_size":2,"body_size":100000}\n')
        assert b'"end":true' in s.recv(65536)
        s.sendall(b'{"command":"import-content","data":"%s"}\n' % (b"AAAA" * 9000))
        assert b'"end":true' in s.recv(65536)
    assert recipients(dead) == []


def test_who_does_not_read_is_not_waited_for(make_tramd):
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER,
                       limits={"messages-per-session": "10000"})
    with tramd.client() as c:
        c.hello()
        for i in range(200):
            c.message(BODY, "jo@src.test", ["%s%d@dst.test" % ("x" * 50, n) for n in range(50)])

    def anonymous():
        return int(re.search(r"RssAnon:\s+(\d+)",
                             open("/proc/%d/status" % tramd.process.pid).read())[1])
    before = anonymous()
    with raw(tramd) as lazy:
        lazy.sendall(b'{"command":"queue-list"}\n' * 100)
        # others are answered meanwhile
        assert len(rows(tramd, "queue", "list", "--limit", "5000")) == 5000
        with open(tramd.program, "rb") as f:
            sanitized = re.search(rb"__[at]san_init", f.read())	# keeps what was freed
        assert sanitized or anonymous() - before < 8192
        began = time.monotonic()
        lazy.setblocking(False)
        while True:			# closed after 30 s in which it reads nothing
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(tramd.control)
            try:
                lazy.send(b"")
                lazy.sendall(b"\n")
            except BrokenPipeError:
                break
            except BlockingIOError:
                pass
            assert time.monotonic() - began < 30 + harness.TIMEOUT
            threading.Event().wait(0.5)


def test_too_many_peers(dead):
    peers = [raw(dead) for _ in range(40)]
    try:
        for s in peers[32:]:
            assert b"Too many" in read_all(s)
    finally:
        for s in peers:
            s.close()
    wait_for(lambda: dead.ctl("stats", check=False).returncode == 0, what="there is room again")


def test_socket_file(dead):
    assert os.stat(dead.control).st_mode & 0o777 == 0o660
    dead.kill9()
    assert os.path.exists(dead.control)			# left behind: the next start replaces it
    dead.start()
    assert dead.ctl("stats")
    dead.stop()
    assert not os.path.exists(dead.control)
