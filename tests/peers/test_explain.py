"""`tramctl explain` and `sites KEY`: where a message is now, behind whom, and what holds its
site."""
import re
import threading

import pytest

from conftest import FAST
from harness import free_port, wait_for
from steering import BODY, NEVER, rows


def recipient(tramd, id):
    return [row for row in rows(tramd, "explain", id) if "recipient" in row][0]


@pytest.mark.quick
@pytest.mark.parametrize("threads", [1, 2])
def test_one_in_flight_and_those_behind_it(make_tramd, make_sink, threads):
    """With which host, at which stage, since when; the next on its connection; then the place in
    its lane."""
    sink = make_sink()
    go = threading.Event()
    rule = sink.rule("DOT", None, hold=go)
    tramd = make_tramd(routes={"*": {"deliver": "smtp:[127.0.0.1]:%d" % sink.port,
                                     "connections": "1"}}, queue=FAST,
                       extra="threads = %d\n" % threads)
    key = "static:smtp:[127.0.0.1]:%d" % sink.port
    # so that both are given at once: behind one that takes long none is
    tramd.ctl("sites", "suspend", key)
    first, second = (tramd.send(BODY, to="%s@one.test" % name) for name in "ab")
    tramd.ctl("sites", "resume", key)
    sink.wait_rule(rule)
    row = recipient(tramd, first)
    assert row["flight"]["address"] == "127.0.0.1:%d" % sink.port and row["flight"]["before"] == 0
    assert row["flight"]["stage"] and row["flight"]["since_ms"] > row["arrival_ms"] - 1000
    assert ("In flight: to 127.0.0.1:%d, waits for: %s; begun "
            % (sink.port, row["flight"]["stage"]) in tramd.ctl("explain", first))
    third, fourth = (tramd.send(BODY, to="%s@one.test" % name) for name in "cd")
    wait_for(lambda: recipient(tramd, second).get("flight", {}).get("before") == 1,
             what="it is next on the connection")
    row = recipient(tramd, fourth)
    assert row["held_by"][0]["kind"] == "connections" and row["held_by"][0]["connections"] == 1
    assert (row["place"]["before"] == 3 and row["place"]["head_due_ms"] <= row["due_ms"]
            and row["place"]["lanes"] == 1)
    assert recipient(tramd, third)["place"]["before"] == 2
    assert "  Place: 3 before it in its lane, the first due " in tramd.ctl("explain", fourth)
    other = tramd.send(BODY, to="e@two.test")
    wait_for(lambda: recipient(tramd, other)["place"].get("lanes") == 2,
             what="another lane is there")
    assert recipient(tramd,
                     other)["place"]["before"] == 0 and recipient(tramd,
                                                                  other)["site_state"] == "open"
    assert "  Place: 2 lanes of 1 tenants take turns there\n" in tramd.ctl("explain", other)
    go.set()
    tramd.wait_empty()


def test_a_site_that_is_not_in_memory(make_tramd):
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)
    id = tramd.send(BODY)
    wait_for(lambda: recipient(tramd, id).get("site_state") == "not in memory", what="it is asleep")
    row = recipient(tramd, id)
    hold = row["held_by"][0]
    assert hold["kind"] == "back-off" and hold["what"] == row["site"] and hold["failures"] == 1
    assert hold["since_ms"] < hold["until_ms"] == row["next_ms"]
    text = tramd.ctl("explain", id)
    assert re.search(r"Blocked by: site static:\S+ is in back-off after 1 failure: .*connection "
                     r"refused.*; since .* ago"
                     r" \(.*\); ends in \d+ min \(", text)
    assert "Site: %s (not in memory)" % row["site"] in text
    text = tramd.ctl("sites", row["site"])
    assert text.startswith("%s: back-off\n  Blocked by: "
                           % row["site"]) and "  Failures in a row: 1\n" in text
    assert [one["kind"] for one in rows(tramd, "sites", row["site"])[0]["held_by"]] == ["back-off"]
    assert rows(tramd, "sites",
                row["site"])[0]["held_by"] == rows(tramd, "sites")[0]["held_by"] == row["held_by"]
    done = tramd.ctl("sites", "static:nowhere", check=False)
    assert done.returncode == 1 and b"no site with that key" in done.stderr
