"""The list of suppressed addresses: by hand, refused at RCPT, failed before a delivery, over a
restart, and by class."""
import time

from harness import wait_for
from steering import BODY, NEVER, rows


def suppressed(tramd):
    return {row["address"]: row for row in rows(tramd, "suppress", "list")}


def test_by_hand(make_tramd, sink, tmp_path):
    tramd = make_tramd(static=sink)
    assert "No address is suppressed." in tramd.ctl("suppress", "list")
    tramd.ctl("suppress", "add", "Jo@DST.test", "--class", "bad-mailbox", "--reason",
              "said 550 twice", "--for", "30d")
    tramd.ctl("suppress", "add", "gone.test")
    assert tramd.ctl_json("stats")["suppressed"] == 2
    with tramd.client() as c:
        c.hello()
        c.command("MAIL FROM:<a@src.test>", 250)
        assert "5.1.1" in c.command("RCPT TO:<JO@dst.test>", 550).text
        assert "bad-mailbox" in c.command("RCPT TO:<jo@dst.test>", 550).text
        c.command("RCPT TO:<any@Gone.test>", 550)
        c.command("RCPT TO:<any@sub.gone.test>", 250)
        c.command("RCPT TO:<joe@dst.test>", 250)
    tramd.restart(kill=True)
    row = suppressed(tramd)["jo@dst.test"]
    assert row["class"] == "bad-mailbox" and row["reason"] == "said 550 twice"
    assert 29 * 86400 < row["until_ms"] / 1000 - time.time() < 31 * 86400
    assert "until_ms" not in suppressed(tramd)["@gone.test"]
    text = tramd.ctl("suppress", "list")
    assert "jo@dst.test" in text and "said 550 twice" in text and "@gone.test" in text
    with tramd.client() as c:
        c.hello()
        c.command("MAIL FROM:<a@src.test>", 250)
        c.command("RCPT TO:<jo@dst.test>", 550)
    tramd.ctl("suppress", "remove", "jo@dst.test")
    assert list(suppressed(tramd)) == ["@gone.test"]
    done = tramd.ctl("suppress", "remove", "jo@dst.test", check=False)
    assert done.returncode == 1 and b"not on the list" in done.stderr
    for bad in ("not an address", "a@", "@"):
        assert tramd.ctl("suppress", "add", bad, check=False).returncode == 1
    done = tramd.ctl("suppress", "add", "a@b.test", "--class", "spam", check=False)
    assert done.returncode == 1 and b"no such class" in done.stderr
    tramd.send(BODY, to=["jo@dst.test"])
    sink.wait(1)


def test_import_and_expiry(make_tramd, sink, tmp_path):
    tramd = make_tramd(static=sink)
    file = tmp_path / "list"
    lines = ["user%d@dst.test" % i for i in range(300)] + ["# a comment", "",
                                                           "b@dst.test spam-block complained, in "
                                                           "May",
                                                          "c@dst.test,inactive-mailbox"]
    file.write_text("\n".join(lines) + "\n")
    assert "302 added" in tramd.ctl("suppress", "import", str(file), "--class", "bad-mailbox")
    there = suppressed(tramd)
    assert len(there) == 302 and there["user7@dst.test"]["class"] == "bad-mailbox"
    assert (there["b@dst.test"]["reason"] == "complained, in May"
            and there["c@dst.test"]["class"] == "inactive-mailbox")
    assert len(rows(tramd, "suppress", "list", "--limit", "5")) == 5
    file.write_text("good@dst.test\nbad\x20@@\nnever@dst.test\n")
    done = tramd.ctl("suppress", "import", str(file), check=False)
    assert (done.returncode == 1 and b"list:2: stopped here" in done.stderr
            and b"1 added" in done.stdout)
    tramd.ctl("suppress", "add", "soon@dst.test", "--for", "1s")
    wait_for(lambda: "soon@dst.test" not in suppressed(tramd), what="it has expired")
    tramd.send(BODY, to=["soon@dst.test"])
    sink.wait(1)


def test_before_delivery(make_tramd, sink):
    """What was accepted before fails without being sent; its sender is told, and the host is not
    blamed."""
    rule = sink.rule("RCPT", "450 4.2.1 later", match="late@", times=1)
    tramd = make_tramd(static=sink, queue={"retry-first": "2s", "retry-max": "2s"})
    id = tramd.send(BODY, to=["late@dst.test", "good@dst.test"])
    sink.wait_rule(rule)
    tramd.wait_log(event="delivery", id=id, to="late@dst.test", fate="deferred")
    tramd.ctl("suppress", "add", "late@dst.test", "--class", "inactive-mailbox")
    line = tramd.wait_log(event="final", id=id, to="late@dst.test")
    assert (line["outcome"] == "failed" and line["class"] == "inactive-mailbox"
            and "suppressed" in line["reply"])
    tramd.wait_empty()
    report = [m for m in sink.messages if m.sender == ""][0]
    assert b"Status: 5.1.1" in report.data and b"list of suppressed ones" in report.data
    assert b"Remote-MTA" not in report.data
    assert sum("late@dst.test" in line for line in sink.commands("RCPT")) == 1
    assert ("classes" in tramd.ctl_json("stats")
            and "inactive-mailbox" not in tramd.ctl_json("stats")["classes"])


def test_by_class(make_tramd, sink):
    """Failures for good of a class that the configuration names, and no others."""
    sink.rule("RCPT", "550 5.1.1 no such user", match="None@")
    sink.rule("RCPT", "550 5.7.1 relay access denied", match="relay@")
    sink.rule("RCPT", "450 4.1.1 no such user now", match="now@")
    tramd = make_tramd(static=sink, queue=NEVER, extra='suppress = {"bad-mailbox=30d"}\n')
    id = tramd.send(BODY, to=["None@dst.test", "relay@dst.test", "now@dst.test"])
    line = tramd.wait_log(event="suppressed", id=id)
    assert (line["to"] == "None@dst.test" and line["class"] == "bad-mailbox"
            and int(line["for"]) == 30 * 86400)
    tramd.wait_log(event="final", id=id, to="relay@dst.test")
    tramd.wait_log(event="final", id=id, to="None@dst.test")
    tramd.restart()
    there = suppressed(tramd)
    assert (list(there) == ["none@dst.test"]
            and there["none@dst.test"]["reason"] == "550 5.1.1 no such user")
    with tramd.client() as c:
        c.hello()
        c.command("MAIL FROM:<a@src.test>", 250)
        c.command("RCPT TO:<none@dst.test>", 550)
