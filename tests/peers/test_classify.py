"""Replies and their classes: in the log, in explain, in stats; rules of the operator's own, which a
reload takes."""
import subprocess

from harness import program, quoted, wait_for
from steering import BODY, NEVER, rows


def test_class_of_replies(make_tramd, sink, tmp_path):
    rules = tmp_path / "classify"
    rules.write_text("# ours\nvirus-related stage=rcpt /teapot/\n")
    sink.rule("RCPT", "550 5.7.1 I am a TEAPOT", match="tea@")
    sink.rule("RCPT", "452 4.2.2 mailbox full", match="full@")
    sink.rule("RCPT", "550 no", match="none@")
    tramd = make_tramd(static=sink, queue=NEVER, limits={"idle-connection": 0},
                       extra="classify-rules = %s\n" % quoted(str(rules)))
    id = tramd.send(BODY, to=["%s@dst.test" % name for name in ("tea", "full", "none", "good")])
    tramd.wait_log(event="final", id=id, to="tea@dst.test", outcome="failed")
    line = {to: tramd.wait_log(event="delivery", id=id, to=to + "@dst.test")
            for to in ("tea", "full", "none", "good")}
    assert [line[to].get("class") for to in line] == ["virus-related", "quota-issues",
                                                      "bad-mailbox", None]
    assert tramd.wait_log(event="final", to="tea@dst.test")["class"] == "virus-related"
    assert "class" not in tramd.wait_log(event="final", to="good@dst.test")
    wait_for(lambda: "Class: quota-issues" in tramd.ctl("explain", id),
             what="explain has the class")
    assert [row["tries"][0]["class"] for row in rows(tramd, "explain", id)
            if row.get("recipient") == "full@dst.test"] == [
                "quota-issues"]
    assert tramd.ctl_json("stats")["classes"] == {"bad-mailbox": 1, "quota-issues": 1,
                                                  "virus-related": 1}
    assert "class bad-mailbox" in tramd.ctl("stats")
    assert rows(tramd, "sites")[0]["classes"]["quota-issues"] == 1

    rules.write_text("spam-content /a teapot/\n")
    tramd.reload()
    tramd.wait_log(event="reload", level="info")
    id = tramd.send(BODY, to=["tea@dst.test"])
    assert tramd.wait_log(event="delivery", id=id)["class"] == "spam-content"

    # a bad file changes nothing
    rules.write_text("spam-content /a teapot/\n\nspam /x/\nother /(/\n")
    tramd.reload()
    assert "classify:3:" in tramd.wait_log(event="reload", level="error")["msg"]
    id = tramd.send(BODY, to=["tea@dst.test"])
    assert tramd.wait_log(event="delivery", id=id)["class"] == "spam-content"
    done = subprocess.run([program("tramd"), "-n", "-c", tramd.config_path],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode != 0
    assert 'classify:3: "spam": no such class' in done.stderr
    assert 'classify:4: "/(/": missing closing parenthesis' in done.stderr
