"""What an operator can see and do: tramctl and the control socket, against a running tramd."""
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest

import harness
from conftest import FAST
from harness import free_port, wait_for

BODY = b"Subject: test\r\n\r\nline\r\n.dot\r\n"
NEVER = {"retry-first": "1h", "retry-max": "1h", "probe-first": "10m", "probe-max": "10m"}


def rows(tramd, *args, **how):
    """The lines of `tramctl … --json` but for the last."""
    return [json.loads(line) for line in tramd.ctl(*args, "--json", **how).splitlines()][:-1]


def last(tramd, *args):
    return json.loads(tramd.ctl(*args, "--json").splitlines()[-1])


def recipients(tramd, *filters):
    return sorted(row["recipient"] for row in rows(tramd, "queue", "list", *filters))


@pytest.fixture
def dead(make_tramd):
    """Everything goes to a port where nobody listens."""
    return make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)


def settled(tramd):
    """Until the first failures are known and nothing is on its way."""
    wait_for(lambda: last(tramd, "stats")["in_flight"] == 0 and last(tramd, "stats")["connections_out"] == 0,
             what="nothing is in flight")


# ---- looking ----------------------------------------------------------------------------------------------------

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
    wait_for(lambda: len(recipients(dead, "--error", "CONNECTION REFUSED")) == 4, what="all know why they wait")
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
    assert content.endswith(b"\r\n" + BODY) and content.startswith(b"Received: ") and id.encode() in content


def test_cat_is_the_content_octet_for_octet(dead):
    data = b"Subject: large\r\n\r\n" + b"".join(b"%07d %s\r\n" % (i, bytes(range(128, 160))) for i in range(9000))
    id = dead.send(data, "jo@src.test", ["a@one.test"])
    assert dead.run_tool("tramctl", "queue", "cat", id).stdout.partition(b"Subject: ")[2] == data[9:]


def test_ids_that_are_not_there(dead):
    gone = "0" * 12 + "1"
    for command in ("show", "cat"):
        done = dead.ctl("queue", command, gone, check=False)
        assert done.returncode == 1 and b"not in the queue" in done.stderr
    assert dead.ctl("explain", gone, check=False).returncode == 1
    id = dead.send(BODY)
    done = dead.ctl("queue", "hold", gone, id, check=False)
    assert done.returncode == 1 and gone.encode() in done.stderr and b"1 recipient on hold" in done.stdout


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
    tramd = make_tramd(routes={"one.test": {"deliver": "smtp:[127.0.0.1]:%d" % one.port, "connections": "1"},
                               "two.test": "smtp:[127.0.0.1]:%d" % two.port,
                               "*": "smtp:[127.0.0.1]:%d" % make_sink().port}, queue=FAST, limits={"deliveries": "2"})
    tramd.send(BODY, to="a@one.test")
    one.wait_rule(rules[0])
    tramd.send(BODY, to="b@one.test")			# it may be with that connection, too, as its next one
    more = tramd.send(BODY, to="c@one.test")
    wait_for(lambda: "its limit of connections, 1, is reached" in tramd.ctl("explain", more), what="a limit is named")
    tramd.send(BODY, to="d@two.test")
    two.wait_rule(rules[1])
    last_one = tramd.send(BODY, to="e@three.test")
    wait_for(lambda: "limits.deliveries: all 2 connections are in use" in tramd.ctl("explain", last_one),
             what="the limit of all is named")
    row = rows(tramd, "explain", last_one)[1]
    assert row["waits_for"] == "the way to be free" and row["state"] == "waiting"
    go.set()
    tramd.wait_empty()


def test_explain_the_look_up(make_tramd):
    """A domain that cannot be looked up: what was wrong, how often, and when it is tried again."""
    tramd = make_tramd(resolver="127.0.0.1:%d" % free_port(), queue=NEVER)
    id = tramd.send(BODY, to="a@nowhere.test")
    wait_for(lambda: "the look-up of nowhere.test failed" in tramd.ctl("explain", id), what="the look-up's failure is known")
    row = rows(tramd, "explain", id)[1]
    assert row["next_ms"] > time.time() * 1000 and row["domain"] == "nowhere.test" and row["tries"] == []
    assert recipients(tramd, "--error", row["error"]) == ["a@nowhere.test"] and row["error"]


def test_sites_sessions_stats(dead):
    dead.send(BODY)
    settled(dead)
    site = [site for site in rows(dead, "sites") if site["key"].startswith("static:")][0]
    assert site["failures"] == 1 and site["state"] == "back-off" and site["next_ms"] > time.time() * 1000
    assert "connection refused" in dead.ctl("sites")
    with dead.client() as c:
        c.hello("me.test")
        session, = rows(dead, "sessions")
        assert session["helo"] == "me.test" and session["listener"] == "smtp"
        assert "me.test" in dead.ctl("sessions")
    stats = last(dead, "stats")
    assert stats["queue_messages"] == 1 and stats["delivered"] == 0
    dead.ctl("sites", "retry", site["key"])
    wait_for(lambda: any(s.get("failures") == 2 for s in rows(dead, "sites")), what="the site was probed")
    dead.ctl("sites", "retry", "--all")
    done = dead.ctl("sites", "retry", "mx:nowhere.test", check=False)
    assert done.returncode == 1 and b"no site" in done.stderr


# ---- changing ---------------------------------------------------------------------------------------------------

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
    dead.wait_log(event="control", command="queue-remove", uid=os.getuid(), outcome=re.compile("2 recipients"))


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


@pytest.mark.parametrize("action", ["hold", "remove", "bounce", "retry"])
def test_action_in_flight_waits_for_the_delivery(make_tramd, sink, action):
    go = threading.Event()
    rule = sink.rule("DOT", "451 4.3.0 not now", hold=go, times=1)
    tramd = make_tramd(routes={"src.test": "discard", "*": "smtp:[127.0.0.1]:%d" % sink.port}, queue=NEVER)
    id = tramd.send(BODY, "jo@src.test")
    sink.wait_rule(rule)
    tool = subprocess.Popen([harness.program("tramctl"), "-c", tramd.config_path, "queue", action, id],
                            stdout=subprocess.PIPE, text=True)
    assert recipients(tramd, "--state", "in-flight") == ["b@dst.test"]
    assert tool.poll() is None
    go.set()
    text = tool.communicate(timeout=30)[0]
    assert tool.returncode == 0 and text.startswith("1 recipient"), text
    if action == "hold":
        assert recipients(tramd, "--state", "held") == ["b@dst.test"]
    elif action == "retry":
        sink.wait_until(lambda: len([m for m in sink.messages]) >= 1, 30, "it went")
        tramd.wait_empty()
    else:
        tramd.wait_empty()
    assert len(sink.messages) <= 2


def test_many(make_tramd):
    """Slices: 3,000 messages are listed, held and removed while mail goes on coming in."""
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER, limits={"messages-per-session": "10000"})
    with tramd.client() as c:
        c.hello()
        for i in range(3000):
            c.message(BODY, "jo@src.test", ["u%d@d%d.test" % (i, i % 7)])
    assert len(rows(tramd, "queue", "list")) == 3000
    assert len(rows(tramd, "queue", "list", "--domain", "d3.test")) == len(range(3, 3000, 7))
    lines = [json.loads(line) for line in tramd.ctl("queue", "hold", "--all", "--json").splitlines()]
    assert lines[-1]["changed"] == 3000 and len([line for line in lines if "progress" in line]) >= 5
    assert len(rows(tramd, "queue", "list", "--state", "held")) == 3000
    stop = threading.Event()
    slowest = []

    def submit():
        with tramd.client() as c:
            c.hello()
            while not stop.is_set():
                began = time.monotonic()
                c.message(BODY, "ann@other.test", ["x@y.test"])
                slowest.append(time.monotonic() - began)
    sender = threading.Thread(target=submit)
    sender.start()
    try:
        assert "3000 recipients removed" in tramd.ctl("queue", "remove", "--sender", "jo@src.test")
    finally:
        stop.set()
        sender.join()
    assert slowest and max(slowest) < 2
    assert set(recipients(tramd)) == {"x@y.test"}


# ---- the daemon as a whole --------------------------------------------------------------------------------------

def test_reload(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=FAST)
    good = open(tramd.config_path, encoding="utf-8").read()
    tramd.write_config(good + "\nnonsense = 5\n")
    done = tramd.ctl("reload", check=False)
    assert done.returncode == 1 and b"nonsense" in done.stderr and b"Nothing has changed" in done.stderr
    tramd.send(BODY)
    tramd.write_config(good.replace('hostname = "tram.test"', 'hostname = "other.test"'))
    assert "read again" in tramd.ctl("reload")
    with tramd.client() as c:
        assert "other.test" in c.greeting.text
    sink.wait(1)


def test_hangup_takes_all_or_nothing(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=FAST)
    good = tramd.text()
    tramd.write_config(good.replace('hostname = "tram.test"', 'hostname = "other.test"') + "nonsense = 5\n")
    tramd.reload()
    line = tramd.wait_log(event="reload", level="error")
    assert "nothing has changed" in line["msg"] and "nonsense" in line["msg"] and tramd.config_path + ":" in line["msg"]
    with tramd.client() as c:
        assert "tram.test" in c.greeting.text
    tramd.write_config(good.replace('hostname = "tram.test"', 'hostname = "other.test"'))
    tramd.reload()
    tramd.wait_log(event="reload", level="info")
    with tramd.client() as c:
        assert "other.test" in c.greeting.text


def test_reload_to_a_port_in_use(make_tramd, sink):
    """A new listener cannot be opened: the old ones stay, and so does all else."""
    tramd = make_tramd(static=sink, queue=FAST)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        tramd.write_config(tramd.text().replace('hostname = "tram.test"', 'hostname = "other.test"') +
                           'listener more { address = {"127.0.0.1:%d"} }\n' % port)
        done = tramd.ctl("reload", check=False)
        assert done.returncode == 1 and str(port).encode() in done.stderr and b"in use" in done.stderr
        with tramd.client() as c:
            assert "tram.test" in c.greeting.text
    assert "read again" in tramd.ctl("reload")		# free now
    with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
        assert b"other.test" in s.recv(100)


def test_postmaster(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=FAST, relay_from=["192.0.2.0/24"],
                       extra='postmaster = "admin@ours.test"\nrelay-to = {"ours.test"}\ncheck-sender = no')
    with tramd.client() as c:
        c.hello()
        for to in ("postmaster", "PostMaster@tram.test", "postmaster@[127.0.0.1]"):
            c.command("MAIL FROM:<a@src.test>", 250)
            c.command("RCPT TO:<%s>" % to, 250)
            c.command("DATA", 354)
            c.send(BODY.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            c.reply(250)
        c.command("MAIL FROM:<a@src.test>", 250)
        c.command("RCPT TO:<postmaster@elsewhere.test>", 550)
    assert [m.recipients for m in sink.wait(3)] == [["admin@ours.test"]] * 3


NAMESPACES = os.getuid() == 0 and subprocess.run(["unshare", "-p", "-m", "-f", "true"], stdout=subprocess.DEVNULL,
                                                 stderr=subprocess.DEVNULL).returncode == 0


@pytest.mark.skipif(not NAMESPACES, reason="needs root and namespaces")
def test_first_process_without_root_on_a_read_only_root(make_tramd, sink):
    """As in a container: process 1, an account without rights, a root that is read-only but for its own directory."""
    place = subprocess.run(["mktemp", "-d", "/tmp/tram-pid1.XXXXXX"], capture_output=True, text=True).stdout.strip()
    port = free_port()
    os.mkdir(place + "/queue")
    with open(place + "/tram.conf", "w", encoding="utf-8") as f:
        f.write('hostname = "tram.test"\ncontrol = "%s/control"\nqueue { path = "%s/queue" %s }\n'
                'relay-from = {"127.0.0.0/8"}\nlistener smtp { address = {"127.0.0.1:%d"} }\n'
                'route "*" { deliver = "smtp:[127.0.0.1]:%d" }\n' % (
                    place, place, " ".join("%s = %s" % item for item in harness.SMALL_MAP.items()), port, sink.port))
    subprocess.run(["chown", "-R", "nobody", place], check=True)
    os.chmod(place, 0o755)
    script = ('mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,bind,ro / && '
              '! touch /tram-can-write 2>/dev/null && '
              'exec setpriv --reuid nobody --regid nogroup --clear-groups --no-new-privs --bounding-set=-all -- '
              '"$2" -c "$1/tram.conf"')
    work = tempfile.mkdtemp(prefix="tram-pid1-bin.")		# the build may lie where nobody may look
    os.chmod(work, 0o755)
    shutil.copy(harness.program("tramd"), work)
    process = subprocess.Popen(["unshare", "-p", "-m", "-f", "--kill-child", "sh", "-c", script, "sh", place,
                                work + "/tramd"], stderr=subprocess.PIPE)
    try:
        def is_up():
            assert process.poll() is None, process.stderr.read().decode()
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0
        wait_for(is_up, what="it listens")
        with harness.SmtpRaw("127.0.0.1", port) as c:
            c.hello()
            c.message(BODY)
        assert sink.wait(1)[0].data.endswith(BODY)
        done = subprocess.run([harness.program("tramctl"), "-c", place + "/tram.conf", "stop"], stdout=subprocess.PIPE)
        assert done.returncode == 0
        assert process.wait(30) == 0, process.stderr.read().decode()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
        shutil.rmtree(place)
        shutil.rmtree(work)


def start_tool(tramd, *args):
    return subprocess.Popen([harness.program("tramctl"), "-c", tramd.config_path, *args], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def refused(tramd):
    with harness.SmtpRaw("127.0.0.1", tramd.port, greet=False) as c:
        return c.reply((220, 421)).code == 421


def test_drain_waits_until_all_is_delivered(make_tramd, sink):
    go = threading.Event()
    rule = sink.rule("DOT", None, hold=go)
    tramd = make_tramd(static=sink, queue=FAST)
    tramd.send(BODY)
    sink.wait_rule(rule)
    with tramd.client() as idle, tramd.client() as busy:
        idle.hello()
        busy.hello()
        busy.envelope("a@src.test", ["c@dst.test"])
        tool = start_tool(tramd, "drain")
        idle.reply(421)					# who has begun nothing is sent away …
        idle.reply(0)
        wait_for(lambda: refused(tramd), what="new sessions are refused")
        busy.command("DATA", 354)			# … who is in a transaction may end it
        busy.send(BODY.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        busy.reply(250)
        busy.reply(421)
        busy.reply(0)
    assert last(tramd, "stats")["draining"] is True
    assert tool.poll() is None
    go.set()
    out, err = tool.communicate(timeout=30)
    assert tool.returncode == 0 and "The queue is empty" in out and err == "", err
    assert len(sink.messages) == 2
    tramd.write_config(tramd.text())
    tramd.ctl("reload")
    assert refused(tramd)				# a reload leaves it as it is …
    assert "accepted again" in tramd.ctl("drain", "--off")
    tramd.send(BODY)
    sink.wait(3)
    tramd.ctl("drain", "--no-wait")
    assert refused(tramd)
    tramd.restart()					# … and a restart ends it
    assert last(tramd, "stats")["draining"] is False
    tramd.send(BODY)
    sink.wait(4)


def test_drain_says_what_is_left(make_tramd, sink):
    sink.rule("RCPT", "450 4.2.1 mailbox busy", match="<late@")
    tramd = make_tramd(static=sink, queue=NEVER)
    tramd.send(BODY, to=["late@one.test", "b@dst.test"])
    wait_for(lambda: recipients(tramd) == ["late@one.test"], what="one is left")
    tramd.send(BODY, to=["late@two.test", "late@three.test"])
    tramd.ctl("queue", "hold", "--domain", "two.test")
    done = tramd.ctl("drain", check=False)
    text = done.stdout.decode()
    assert done.returncode == 6 and text.startswith("2 messages are left.\n2 recipients wait for a later try, the next in ")
    assert "1 recipient is on hold." in text and "late@two.test" in text and "mailbox busy" in text
    done = tramd.ctl("drain", "--json", check=False)
    state, = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 6 and not state["busy"] and state["draining"]
    assert (state["messages"], state["waiting"], state["held"]) == (2, 2, 1)
    assert state["next_ms"] > time.time() * 1000
    assert json.loads(tramd.ctl("drain", "--no-wait", "--json")) == {"end": True}
    tramd.ctl("queue", "remove", "--all")
    assert "The queue is empty" in tramd.ctl("drain")


def test_drain_of_a_dead_site(dead):
    for n in range(30):
        dead.send(BODY, to=["u%d@dst.test" % n])
    done = dead.ctl("drain", check=False)
    text = done.stdout.decode()
    assert done.returncode == 6 and "30 recipients wait" in text and "and 10 more: tramctl queue list" in text


def test_drain_that_is_ended(make_tramd, sink):
    go = threading.Event()
    rule = sink.rule("DOT", None, hold=go)
    tramd = make_tramd(static=sink, queue=FAST)
    tramd.send(BODY)
    sink.wait_rule(rule)
    tool = start_tool(tramd, "drain")
    wait_for(lambda: last(tramd, "stats")["draining"], what="it drains")
    tramd.ctl("drain", "--off")
    err = tool.communicate(timeout=30)[1]
    assert tool.returncode == 1 and "ended the drain" in err
    tool = start_tool(tramd, "drain")
    wait_for(lambda: last(tramd, "stats")["draining"], what="it drains again")
    go.set()
    sink.wait(1)
    tool.communicate(timeout=30)


def test_stop(dead):
    assert "stops" in dead.ctl("stop")
    assert dead.end() == 0


def test_nothing_is_listed_twice(dead, tmp_path):
    """An id that is named twice; and a recipient that moves in the queue while it is listed (played by a script)."""
    id = dead.send(BODY, to=["a@one.test", "b@two.test"])
    assert len(rows(dead, "queue", "list", id, id.upper(), id)) == 2
    octets = dead.run_tool("tramctl", "queue", "export", "-", id, id).stdout
    assert b"".join(kind for kind, _ in records(octets)) == b"AMRRCEZ"
    dead.stop()
    octets = dead.run_tool("tramctl", "queue", "export", "-", id, id).stdout
    assert b"".join(kind for kind, _ in records(octets)) == b"AMRRCEZ"
    row = {"id": id, "number": 0, "sender": "jo@src.test", "recipient": "a@one.test", "state": "waiting"}
    lines = [row, dict(row, number=1, recipient="b@one.test"), dict(row, state="in-flight"), {"rows": 3, "end": True}]
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
        assert text.count("a@one.test") == 1 and text.count("b@one.test") == 1 and "in-flight" not in text
        assert [json.loads(line) for line in dead.ctl("queue", "list", "--json").splitlines()] == \
            lines[:2] + [{"rows": 2, "end": True}]
        thread.join()
    os.unlink(dead.control)


def test_exit_codes(dead, tmp_path):
    def code(*args, **who):
        return subprocess.run([harness.program("tramctl"), *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              timeout=30, **who)
    config = ["-c", dead.config_path]
    for words in ([], ["queue"], ["queue", "lits"], ["queue", "list", "--nope"], ["queue", "list", "--older", "5"],
                  ["queue", "list", "--state", "dead"], ["queue", "hold"], ["queue", "remove", "--all", "--domain", "x"],
                  ["queue", "show"], ["queue", "show", "12"], ["explain", "a", "b"], ["stats", "--all"],
                  ["queue", "list", "--limit"], ["queue", "list", "--limit", "0"], ["sites", "retry"], ["reload", "now"]):
        done = code(*config, *words)
        assert done.returncode == 2 and b"See: tramctl --help" in done.stderr, words
    assert code("-c", str(tmp_path / "none"), "stats").returncode == 5
    if os.getuid() == 0:
        os.chmod(tmp_path, 0o755)
        for folder in (dead.place, os.path.dirname(str(tmp_path)), os.path.dirname(os.path.dirname(str(tmp_path)))):
            os.chmod(folder, 0o755)
        done = code(*config, "stats", user="nobody", group="nogroup", extra_groups=[])
        assert done.returncode == 4 and b"you may not open" in done.stderr, done.stderr
    assert code(*config, "stats").returncode == 0
    dead.stop()
    done = code(*config, "stats")
    assert done.returncode == 3 and b"does not run" in done.stderr


def test_help_names_all():
    text = subprocess.run([harness.program("tramctl"), "--help"], capture_output=True, text=True, check=True).stdout
    listed = subprocess.run([harness.program("tramctl"), "--list-options"], capture_output=True, text=True,
                            check=True).stdout.splitlines()
    for line in listed:
        command = re.sub(r" --.*", "", line)
        assert command in text
        if " --" in line:
            one = subprocess.run([harness.program("tramctl"), *command.split(), "--help"], capture_output=True,
                                 text=True, check=True).stdout
            assert line[len(command) + 1:] in one and one.startswith("usage: tramctl")


# ---- archives and the store -------------------------------------------------------------------------------------

def test_export_import(make_tramd, sink, tmp_path):
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)
    large = b"Subject: large\r\n\r\n" + b"".join(b"%08d %s\r\n" % (i, b"x" * 60) for i in range(4000))
    tramd.send(large, "jo@src.test", ["a@one.test", "b@two.test", "c@three.test"], mail="RET=HDRS ENVID=q+2B1",
               rcpt="NOTIFY=FAILURE ORCPT=rfc822;a@one.test")
    tramd.send(BODY, "", ["d@four.test"])
    tramd.ctl("queue", "hold", "--domain", "two.test")
    tramd.ctl("queue", "remove", "--domain", "three.test")
    archive = str(tmp_path / "archive")
    assert "2 messages" in tramd.ctl("queue", "export", archive)
    assert os.stat(archive).st_mode & 0o777 == 0o600
    assert tramd.ctl("queue", "export", archive, check=False).returncode == 1
    other = make_tramd(static=sink, queue=NEVER)
    done = other.ctl("queue", "import", archive, check=False)
    assert done.returncode == 0 and b"2 messages queued" in done.stdout and b"second time" in done.stderr
    first, second = sorted(sink.wait(2), key=lambda m: len(m.data), reverse=True)
    assert first.data.endswith(large) and first.recipients == ["a@one.test"] and first.sender == "jo@src.test"
    assert "RET=HDRS" in first.mail_params and "ENVID=q+2B1" in first.mail_params
    assert "NOTIFY=FAILURE" in first.rcpt_params["a@one.test"]
    assert second.data.endswith(BODY) and second.sender == "" and second.recipients == ["d@four.test"]
    wait_for(lambda: recipients(other) == ["b@two.test"], what="the held one is left")
    assert recipients(other, "--state", "held") == ["b@two.test"]


def records(octets):
    """The records of an archive: (type, payload)."""
    assert octets[:8] == b"tramarc1"
    at, found = 8, []
    while at < len(octets):
        size = int.from_bytes(octets[at + 1:at + 5], "big")
        found.append((octets[at:at + 1], octets[at + 5:at + 5 + size]))
        at += 5 + size + 4
    return found


def archive_of(found):
    """The other way round."""
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
        table.append(n)
    octets = b"tramarc1"
    for kind, payload in found:
        record, crc = kind + len(payload).to_bytes(4, "big") + payload, 0xffffffff
        for octet in record:
            crc = crc >> 8 ^ table[(crc ^ octet) & 255]
        octets += record + (crc ^ 0xffffffff).to_bytes(4, "big")
    return octets


def changed(octets, **members):
    """An archive in which each message has these members."""
    return archive_of((kind, json.dumps(dict(json.loads(payload), **members)).encode() if kind == b"M" else payload)
                      for kind, payload in records(octets))


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_export_without_daemon(make_tramd, sink, end):
    """The store itself is read, all of it or a selection, as the daemon would have told it; and nothing changes there."""
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)
    large = b"Subject: large\r\n\r\n" + b"".join(b"%08d %s\r\n" % (i, b"x" * 60) for i in range(4000))
    one = tramd.send(large, "jo@src.test", ["a@one.test", "b@two.test", "c@three.test"], mail="RET=HDRS ENVID=q+2B1")
    two = tramd.send(BODY, "", ["d@four.test"])
    settled(tramd)
    tramd.ctl("queue", "hold", "--domain", "two.test")
    tramd.ctl("queue", "remove", "--domain", "three.test")

    def export(*selection, **how):
        return tramd.run_tool("tramctl", "queue", "export", "-", *selection, **how)
    running = export().stdout
    getattr(tramd, end)()
    done = export()
    assert records(done.stdout)[1:] == records(running)[1:] and b"read from its queue" in done.stderr
    assert len([1 for kind, _ in records(running) if kind == b"M"]) == 2

    def messages(octets):
        return [json.loads(payload)["id"] for kind, payload in records(octets) if kind == b"M"]
    assert messages(export("--domain", "FOUR.test").stdout) == [two]
    assert messages(export("--sender", "SRC.test").stdout) == [one]
    assert messages(export("--state", "held").stdout) == [one]
    assert messages(export("--state", "in-flight").stdout) == []
    done = export(two, "0" * 12 + "1", check=False)
    assert done.returncode == 1 and messages(done.stdout) == [two] and b"is not in the queue" in done.stderr
    other = make_tramd(static=sink, queue=NEVER)
    other.run_tool("tramctl", "queue", "import", "-", stdin=running)
    assert sorted(m.recipients for m in sink.wait(2)) == [["a@one.test"], ["d@four.test"]]
    tramd.start()
    assert recipients(tramd) == ["a@one.test", "b@two.test", "d@four.test"]


def test_export_finds_out_who_has_the_queue(dead, tmp_path):
    dead.send(BODY)
    config = tmp_path / "tram.conf"
    with open(dead.config_path, encoding="utf-8") as f:
        config.write_text(f.read().replace(dead.control, str(tmp_path / "nobody")))

    def export():
        return subprocess.run([harness.program("tramctl"), "-c", config, "queue", "export", tmp_path / "archive"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    done = export()
    assert done.returncode == 3 and b"nobody answers" in done.stderr and not (tmp_path / "archive").exists()
    dead.stop()
    done = export()
    assert done.returncode == 0 and b"1 message," in done.stdout
    config.write_text(config.read_text().replace(dead.queue_path, str(tmp_path)))
    os.unlink(tmp_path / "archive")
    done = export()
    assert done.returncode == 1 and b"data.mdb" in done.stderr and not (tmp_path / "data.mdb").exists()


def test_import_restores_what_was(make_tramd, sink):
    """Attempts (the first 3 and the last 10, and how many), warning, hold and due time; the id alone is new."""
    sink.rule("RCPT", "450 4.2.1 mailbox busy", match="<a@")
    sink.rule("RCPT", "451 4.7.1 greylisted", match="<b@")
    sink.rule("DOT", "451 4.3.0 not now")
    tramd = make_tramd(static=sink, routes={"src.test": "discard"}, queue=dict(FAST, **{"delay-warning": "1s", "lifetime": "200s"}))
    id = tramd.send(BODY, "jo@src.test", ["a@one.test", "b@two.test", "c@three.test"], mail="RET=HDRS ENVID=q+2B1")
    wait_for(lambda: all(r["attempts"] > 15 for r in rows(tramd, "queue", "list", id, "--state", "waiting")) and
             all(r.get("warned") for r in rows(tramd, "explain", id)[1:]), what="two were tried 15 times and warned")
    tramd.ctl("queue", "hold", "--recipient", "b@two.test")
    tramd.stop()
    first = tramd.run_tool("tramctl", "queue", "export", "-").stdout
    other = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)
    other.run_tool("tramctl", "queue", "import", "-", stdin=first)
    held = [r for r in rows(other, "queue", "list") if r["state"] == "held"]
    assert [r["recipient"] for r in held] == ["b@two.test"] and "greylisted" in held[0]["error"]
    other.stop()
    second = other.run_tool("tramctl", "queue", "export", "-").stdout
    message, again = (json.loads(records(octets)[1][1]) for octets in (first, second))
    assert message.pop("id") != again.pop("id") and again.pop("flags") == message.pop("flags") | 8
    assert again == message
    assert records(second)[2:] == records(first)[2:]
    recipient = json.loads(records(second)[2][1])
    assert recipient["attempts"] > 15 and len(recipient["tries"]) == 13 and recipient["warned"]
    assert b"no fault" in other.run_tool("tramctl", "queue", "check").stdout


def test_import_of_what_is_owed(make_tramd, sink, make_sink):
    """A report that was not made yet is made where the message is now, and says why."""
    never = sink.rule("DOT", None, hold=threading.Event())
    refuses = make_sink()
    refuses.rule("RCPT", "550 5.1.1 nobody here")
    tramd = make_tramd(static=sink, routes={"bad.test": "smtp:[127.0.0.1]:%d" % refuses.port}, queue=NEVER)
    tramd.send(BODY, "jo@src.test", ["a@bad.test", "b@dst.test"])
    sink.wait_rule(never)
    wait_for(lambda: recipients(tramd, "--state", "owed") == ["a@bad.test"], what="one is owed a report")
    tramd.kill9()
    octets = tramd.run_tool("tramctl", "queue", "export", "-").stdout
    reports = make_sink()
    other = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER,
                       routes={"src.test": "smtp:[127.0.0.1]:%d" % reports.port})
    other.run_tool("tramctl", "queue", "import", "-", stdin=octets)
    report, = reports.wait(1)
    assert report.recipients == ["jo@src.test"] and b"nobody here" in report.data and b"5.1.1" in report.data
    wait_for(lambda: recipients(other) == ["b@dst.test"], what="the other recipient is left")


def test_an_imported_message_does_not_live_longer(make_tramd, dead, sink):
    dead.send(BODY, "jo@src.test")
    now = int(time.time() * 1000)
    octets = changed(dead.run_tool("tramctl", "queue", "export", "-").stdout, arrival_ms=now - 10 * 86400 * 1000)
    tramd = make_tramd(routes={"src.test": "smtp:[127.0.0.1]:%d" % sink.port,
                               "*": "smtp:[127.0.0.1]:%d" % free_port()},
                       queue={"lifetime": "100s", "delay-warning": "0", "retry-first": "1s", "retry-max": "1s",
                              "probe-first": "1s", "probe-max": "1s"})
    tramd.run_tool("tramctl", "queue", "import", "-", stdin=octets)
    assert rows(tramd, "queue", "list")[0]["arrival_ms"] == now - 10 * 86400 * 1000
    report, = sink.wait(1)		# long before its lifetime is over, if that began now
    assert b"connection refused" in report.data.lower() or b"4.4.7" in report.data or b"5.4.7" in report.data
    tramd.wait_empty()
    tramd.run_tool("tramctl", "queue", "import", "-", stdin=changed(octets, arrival_ms=now + 10 * 86400 * 1000))
    assert now <= rows(tramd, "queue", "list")[0]["arrival_ms"] <= time.time() * 1000		# of a clock that was ahead


def test_the_same_archive_twice(dead):
    dead.send(BODY)
    octets = dead.run_tool("tramctl", "queue", "export", "-").stdout
    for _ in range(50):
        dead.run_tool("tramctl", "queue", "import", "-", stdin=octets)
    dead.restart()
    dead.run_tool("tramctl", "queue", "import", "-", stdin=octets)
    assert len(dead.queue_ids()) == 52


def test_export_to_standard_output(dead):
    dead.send(BODY)
    octets = dead.run_tool("tramctl", "queue", "export", "-", "--domain", "dst.test").stdout
    assert octets.startswith(b"tramarc1") and b"b@dst.test" in octets
    dead.ctl("queue", "remove", "--all")
    assert dead.run_tool("tramctl", "queue", "import", "-", stdin=octets).stdout == b"1 message queued\n"
    assert recipients(dead) == ["b@dst.test"]


def test_damaged_archives_change_nothing(dead, tmp_path):
    dead.send(BODY)
    whole = dead.run_tool("tramctl", "queue", "export", "-").stdout
    dead.ctl("queue", "remove", "--all")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    cases = {"cut": (whole[:-3], b"cut short"), "half": (whole[:len(whole) // 2], b"cut short"),
             "flipped": (bytes(flipped), b"damaged"), "newer": (b"tramarc2" + whole[8:], b"newer"),
             "foreign": (b"From jo\n", b"no archive"), "empty": (b"", b"no archive")}
    for name, (octets, why) in cases.items():
        path = tmp_path / name
        path.write_bytes(octets)
        done = dead.ctl("queue", "import", path, check=False)
        assert done.returncode == 1 and why in done.stderr, name
    assert recipients(dead) == []


def test_check_and_salvage(make_tramd, sink, tmp_path):
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)
    tramd.send(BODY, "jo@src.test", ["a@one.test", "b@two.test"])
    done = tramd.ctl("queue", "check", check=False)
    assert done.returncode == 1 and b"tramd runs" in done.stderr
    tramd.stop()
    assert "1 messages, no fault" in tramd.ctl("queue", "check")
    archive = str(tmp_path / "salvaged")
    assert "1 message salvaged" in tramd.ctl("queue", "salvage", tramd.queue_path, archive)
    other = make_tramd(static=sink, queue=NEVER)
    other.ctl("queue", "import", archive)
    got = sorted(r for m in sink.wait(1) for r in m.recipients)
    assert got == ["a@one.test", "b@two.test"] and sink.messages[0].data.endswith(BODY)


# ---- the socket -------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("bad", [b"\n", b"hello\n", b"\x00\xff\n", b"{\"command\":\"stats\"\n", b"[]\n",
                                 b"{\"command\":\"nothing\"}\n", b"{\"command\":\"queue-remove\"}\n",
                                 b"[" * 60000 + b"\n", b"x" * 70000,
                                 b"{\"command\":\"import-content\",\"data\":\"!\"}\n", b"GET / HTTP/1.0\r\n\r\n"],
                         ids=["empty", "words", "binary", "open", "array", "unknown", "nothing selected", "deep",
                              "endless", "bad data", "HTTP"])
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
        for request in (b'{"command":"import-commit"}\n', b'{"command":"import-content","data":"AAAA"}\n',
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
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER, limits={"messages-per-session": "10000"})
    with tramd.client() as c:
        c.hello()
        for i in range(200):
            c.message(BODY, "jo@src.test", ["%s%d@dst.test" % ("x" * 50, n) for n in range(50)])

    def anonymous():
        return int(re.search(r"RssAnon:\s+(\d+)", open("/proc/%d/status" % tramd.process.pid).read())[1])
    before = anonymous()
    with raw(tramd) as lazy:
        lazy.sendall(b'{"command":"queue-list"}\n' * 100)
        assert len(rows(tramd, "queue", "list", "--limit", "5000")) == 5000	# others are answered meanwhile
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
            assert time.monotonic() - began < 60
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
