"""Response rules: a made-up provider that answers 421 and 4.7.x by rate, and what tram does about it: slows down, suspends,
takes the next host, makes a reply softer or harder; it is told, undone by hand, and not forgotten."""
import threading
import time

from harness import quoted, wait_for
from steering import BODY, NEVER, rows


def rules_file(tmp_path, *lines):
    path = tmp_path / "response"
    path.write_text("".join(line + "\n" for line in lines))
    return "response-rules = %s\nresponse-rules-builtin = no\n" % quoted(str(path))


def held_by(tramd):
    return [hold["kind"] for row in rows(tramd, "sites") for hold in row.get("held_by", [])]


class Provider:
    """Takes so many messages a second, and says so to the rest."""

    def __init__(self, sink, per_second):
        self.per_second, self.taken, self.refused = per_second, [], []
        sink.rule("MAIL", self.answer)

    def answer(self, session, line):
        now = time.monotonic()
        if sum(now - at < 1 for at in self.taken) >= self.per_second:
            self.refused.append(now)
            return "421 4.7.0 [RATE] more than %d a second" % self.per_second
        self.taken.append(now)
        return None


def test_settles_below_a_providers_limit(make_tramd, sink, tmp_path):
    provider = Provider(sink, 20)
    tramd = make_tramd(static=sink, queue={"retry-first": "1s", "retry-max": "1s", "delay-warning": 0},
                       limits={"idle-connection": 0}, extra=rules_file(
                           tmp_path, "slow 2 for 60s, class rate-limited\tcode=4xx /\\[RATE\\]/"))
    with tramd.client() as c:
        c.hello()
        for i in range(150):
            c.message(BODY, "a@src.test", ["b%d@dst.test" % i])
    slowed = tramd.wait_log(event="slowed", factor="2")
    assert slowed["rule"].endswith("response:1") and int(slowed["per_minute"]) > 0
    assert "slowed" in held_by(tramd)
    sink.wait(150)
    assert len({m.recipients[0] for m in sink.messages}) == len(sink.messages) == 150	# each once
    first = provider.refused[0]
    late = [at for at in provider.refused if at > first + 4]
    assert len(late) <= 5, "it never settles: %r" % [at - first for at in provider.refused]
    tramd.wait_log(event="concurrency")			# the curve
    line = tramd.wait_log(event="delivery", fate="deferred")
    assert line["class"] == "rate-limited" and line["rule"].endswith("response:1")


def test_suspended_site(make_tramd, sink, tmp_path):
    """The first is told, and tried again; what comes meanwhile is not tried, not even after a kill, until it is ended."""
    refuse = sink.rule("MAIL", "421 4.7.0 [WALL] go away", times=1)
    tramd = make_tramd(static=sink, queue=dict(NEVER), limits={"idle-connection": 0},
                       extra=rules_file(tmp_path, "suspend site for 1h\tstatus=4.7.0 /\\[WALL\\]/"))
    first = tramd.send(BODY)
    said = tramd.wait_log(event="suspended", scope="site")
    assert said["rule"].endswith("response:1") and said["reason"].endswith("[WALL] go away") and said["for"] == "3600"
    ids = [tramd.send(BODY) for _ in range(3)]
    for kill in (False, True):
        assert held_by(tramd) == ["suspended"]
        text = tramd.ctl("explain", ids[0])
        assert "site is suspended" in text and "response:1" in text, text
        tramd.restart(kill=kill)
    assert refuse.used == 1 and sink.sessions == 1 and not sink.messages
    [row] = rows(tramd, "sites", "measures")
    assert row["kind"] == "suspend" and row["scope"] == "site" and row["replies"] == 1
    assert "[WALL]" in tramd.ctl("sites", "measures")
    tramd.ctl("sites", "resume", row["site"])
    tramd.wait_log(event="suspended", over="by hand")
    sink.wait(3)
    for id in ids:						# one try each, and that was good
        tramd.wait_log(event="final", id=id, outcome="delivered")
    tramd.ctl("queue", "retry", first)
    sink.wait(4)
    assert not held_by(tramd) and not rows(tramd, "sites", "measures")
