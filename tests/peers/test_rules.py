"""Response rules: a made-up provider that answers 421 and 4.7.x by rate, and what tram does about
it: slows down, suspends, takes the next host, makes a reply softer or harder; it is told, undone by
hand, and not forgotten."""
import re
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
    tramd = make_tramd(static=sink,
                       queue={"retry-first": "1s", "retry-max": "1s", "delay-warning": 0},
                       limits={"idle-connection": 0}, extra=rules_file(
                           tmp_path, "slow 2 for 60s, class rate-limited\tcode=4xx /\\[RATE\\]/"))
    key = "static:smtp:[127.0.0.1]:%d" % sink.port
    tramd.ctl("sites", "suspend", key)			# all at once, however slowly they come
    with tramd.client() as c:
        c.hello()
        for i in range(100):
            c.message(BODY, "a@src.test", ["b%d@dst.test" % i])
    tramd.ctl("sites", "resume", key)
    slowed = tramd.wait_log(event="slowed", factor="2")
    assert slowed["rule"].endswith("response:1") and int(slowed["per_minute"]) > 0
    assert "slowed" in held_by(tramd)
    sink.wait(100)
    assert len({m.recipients[0] for m in sink.messages}) == len(sink.messages) == 100	# each once
    first = provider.refused[0]
    late = [at for at in provider.refused if at > first + 4]
    assert len(late) <= 5, "it never settles: %r" % [at - first for at in provider.refused]
    tramd.wait_log(event="concurrency")			# the curve
    line = tramd.wait_log(event="delivery", fate="deferred")
    assert line["class"] == "rate-limited" and line["rule"].endswith("response:1")


def test_suspended_site(make_tramd, sink, tmp_path):
    """The first is told, and tried again; what comes meanwhile is not tried, not even after a kill,
    until it is ended."""
    refuse = sink.rule("MAIL", "421 4.7.0 [WALL] go away", times=1)
    tramd = make_tramd(static=sink, queue=dict(NEVER), limits={"idle-connection": 0},
                       extra=rules_file(tmp_path, "suspend site for 1h\tstatus=4.7.0 /\\[WALL\\]/"))
    first = tramd.send(BODY)
    said = tramd.wait_log(event="suspended", scope="site")
    assert (said["rule"].endswith("response:1") and said["reason"].endswith("[WALL] go away")
            and said["for"] == "3600")
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


def test_next_host_and_other_fates(make_tramd, make_sink, tmp_path):
    """next-mx: in the same attempt; who says what is told; temporary and permanent: the reply stays
    the peer's own."""
    first, second = make_sink(), make_sink()
    first.rule("RCPT", "451 4.3.0 [NEXT] ask another", match="moves@|both@|nobody@")
    first.rule("RCPT", "550 5.1.1 no such user", match="wrong@")
    first.rule("RCPT", "550 5.7.1 [FREQ] too frequent", match="soft@")
    first.rule("RCPT", "450 4.7.1 [NEVER] not you", match="hard@")
    second.rule("RCPT", "452 4.2.2 full here", match="both@")
    rules = tmp_path / "response"
    tramd = make_tramd(routes={"*": ", ".join("smtp:[127.0.0.1]:%d" % sink.port
                                              for sink in (first, second))}, queue=NEVER,
                       limits={"idle-connection": 0}, extra=rules_file(
                           tmp_path, "next-mx, class transient-failure\tstage=rcpt /\\[NEXT\\]/",
                           "temporary /\\[FREQ\\]/", "permanent /\\[NEVER\\]/"))
    id = tramd.send(BODY, to=["%s@dst.test" % name
                              for name in ("moves", "both", "wrong", "good", "soft", "hard")])
    for name, outcome in ("moves", "delivered"), ("wrong",
                                                  "failed"), ("good", "delivered"), ("hard",
                                                                                     "failed"):
        tramd.wait_log(event="final", id=id, to=name + "@dst.test", outcome=outcome)
    assert [m.recipients for m in first.wait(1)[:1]] == [["good@dst.test"]]
    assert [m.recipients for m in second.wait(1)] == [["moves@dst.test"]]
    wait_for(lambda: len(rows(tramd, "queue", "list", "--domain", "dst.test")) == 2,
             what="two wait")
    shown = {row["recipient"]: row["tries"]
             for row in rows(tramd, "explain", id) if "recipient" in row}
    assert [t["code"]
            for t in shown["both@dst.test"]] == [452] and [t["code"]
                                                           for t in shown["soft@dst.test"]] == [550]
    assert tramd.wait_log(event="delivery", to="soft@dst.test")["fate"] == "deferred"
    report = next(m for m in first.wait(2) + second.messages if b"hard@dst.test" in m.data)
    assert b"[NEVER] not you" in report.data and b"no such user" in report.data

    # then the reply of the first counts
    second.close()
    id = tramd.send(BODY, to=["nobody@dst.test"])
    line = tramd.wait_log(event="delivery", id=id, to="nobody@dst.test")
    assert line["class"] == "transient-failure"
    wait_for(lambda: [t["code"] for row in rows(tramd, "explain", id) if "tries" in row
                      for t in row["tries"]] == [451],
             what="one attempt, with the reply of the first host")
    assert "backoff" not in held_by(tramd)

    # a reload takes effect, a bad file does not
    rules.write_text("permanent\tcode=450\n")
    tramd.reload()
    tramd.wait_log(event="reload", level="info")
    rules.write_text("halt code=450\npermanent, temporary code=450\n")
    tramd.reload()
    said = tramd.wait_log(event="reload", level="error")["msg"]
    assert "response:1: \"halt\": no such action" in said and "response:2:" in said
    first.rule("RCPT", "450 4.0.0 hm", match="late@")
    id = tramd.send(BODY, to=["late@dst.test"])
    tramd.wait_log(event="final", id=id, outcome="failed")
    rules.write_text("suspend site for 1h\tprovider=big\n")
    tramd.reload()
    said = tramd.wait_log(event="reload", level="error", msg=re.compile("provider=big"))["msg"]
    assert "there is no such provider" in said


def test_what_each_host_says_counts(make_tramd, make_sink, tmp_path):
    """Of one attempt: the first host's greeting where the second takes the mail, and where that
    refuses, too."""
    first, second = make_sink(), make_sink()
    first.rule("BANNER", "421 4.7.0 [BUSY] not now")
    refuse = second.rule("BANNER", "554 5.7.1 [WALL] go away", times=0)
    tramd = make_tramd(routes={"*": ", ".join("smtp:[127.0.0.1]:%d" % sink.port
                                              for sink in (first, second))}, queue=NEVER,
                       limits={"idle-connection": 0}, extra=rules_file(
                           tmp_path, "slow 4 for 10m\tstage=greeting code=4xx /\\[BUSY\\]/",
                           "suspend site for 1h\tstage=greeting code=5xx /\\[WALL\\]/"))
    tramd.send(BODY)
    second.wait(1)
    slowed = tramd.wait_log(event="slowed", factor="4")
    assert (slowed["rule"].endswith("response:1") and "[BUSY]" in slowed["reason"]
            and held_by(tramd) == ["slowed"])
    refuse.times = None
    tramd.send(BODY)
    assert tramd.wait_log(event="suspended", scope="site")["rule"].endswith("response:2")
    kinds = {row["kind"]: row["replies"] for row in rows(tramd, "sites", "measures")}
    assert kinds == {"slow": 2, "suspend": 1}


def test_a_slow_down_divides_rates_of_shapes(make_tramd, sink, tmp_path):
    """By the hour: what is over the divided limit waits, and says so; a reset lets it go."""
    sink.rule("MAIL", "421 4.7.0 [RATE] too many", match="<first@", times=1)
    tramd = make_tramd(static=sink, queue=dict(NEVER), limits={"idle-connection": 0},
                       extra='shape "s" { site = "127.0.0.1" messages-per-hour = 8 }\n'
                       + rules_file(
                           tmp_path, "slow 4 for 1h\tstage=mail /\\[RATE\\]/"))
    tramd.send(BODY, "first@src.test")
    tramd.wait_log(event="slowed", factor="4")
    ids = [tramd.send(BODY) for _ in range(4)]
    told = wait_for(lambda: [hold for row in rows(tramd, "explain", ids[-1])[1:]
                             for hold in row.get("held_by", ())
                             if hold["kind"] == "shape"], what="one waits for the shape")
    assert "2 of 2 messages in the last hour (8, if it were not slowed down)" in told[0]["text"], told
    key, = [row["key"] for row in rows(tramd, "sites")]
    limit, = [row for row in rows(tramd, "what-if", "--to", "b@dst.test")
              if row.get("limit") == "messages-per-hour"]
    assert (limit["used"], limit["most"]) == (2, 2)
    tramd.restart(kill=True)
    assert len(sink.messages) < 4
    tramd.ctl("sites", "reset", key)
    sink.wait(4)


def test_by_hand(make_tramd, sink):
    """A site, a tenant there, a domain: suspended with a reason and a time, resumed; retry does not
    end it, reset does."""
    tramd = make_tramd(static=sink, queue=dict(NEVER), limits={"idle-connection": 0})
    key = "static:smtp:[127.0.0.1]:%d" % sink.port

    def delivered(id):
        tramd.wait_log(event="final", id=id, outcome="delivered")

    # before there is any mail
    tramd.ctl("sites", "suspend", key, "--for", "2h", "--reason", "they asked us to")
    id = tramd.send(BODY)
    wait_for(lambda: held_by(tramd) == ["suspended"], what="the site sleeps")
    text = tramd.ctl("explain", id)
    assert "by hand" in text and "they asked us to" in text
    tramd.ctl("sites", "retry", key)
    tramd.restart(kill=True)
    tramd.ctl("sites", "retry", "--all")
    assert held_by(tramd) == ["suspended"] and sink.sessions == 0
    assert tramd.ctl("sites", "resume", "mx:other.test", check=False).returncode != 0
    tramd.ctl("sites", "reset", key)
    delivered(id)
    for site, options, held, free in ((key, ("--tenant", "src.test"), ("a@src.test", "b@dst.test"),
                                       ("a@two.test", "b@dst.test")),
                                      ("@dst.test", (), ("a@src.test", "b@dst.test"),
                                       ("a@src.test", "b@other.test"))):
        tramd.ctl("sites", "suspend", site, *options, "--reason", "enough")
        id = tramd.send(BODY, sender=held[0], to=[held[1]])
        delivered(tramd.send(BODY, sender=free[0], to=[free[1]]))
        wait_for(lambda: "enough" in tramd.ctl("explain", id), what="it says why")
        [row] = rows(tramd, "sites", "measures")
        assert row["reason"] == "enough" and "until_ms" not in row and row["rule"] == "by hand"
        count = len(sink.messages)
        tramd.restart()
        delivered(tramd.send(BODY, sender=free[0], to=[free[1]]))
        assert len(sink.messages) == count + 1
        tramd.ctl("sites", "resume", site, *options)
        delivered(id)

    # it is in memory all the while: that must not come back with a restart
    hold = threading.Event()
    held = sink.rule("DOT", None, times=1, hold=hold)
    id = tramd.send(BODY)
    wait_for(lambda: held.used, what="it is with the peer")
    tramd.ctl("sites", "suspend", key)
    tramd.ctl("sites", "resume", key)
    hold.set()
    delivered(id)
    tramd.restart(kill=True)
    delivered(tramd.send(BODY))
    for bad in ("nobody", "@..", "@dst.test --tenant x"):
        assert tramd.ctl("sites", "suspend", *bad.split(), check=False).returncode != 0


def limit(tramd):
    return max([row.get("limit", 0) for row in rows(tramd, "sites")], default=0)


def test_curve_against_a_peer_that_slows_down(make_tramd, sink):
    """Connections: up to the limit while all is well, down when answers take long, up again, step
    by step."""
    tramd = make_tramd(static=sink, queue=NEVER,
                       limits={"connections-per-site": 12, "messages-per-connection": 1000},
                       extra='log {\n\tlevel = "debug"\n}\n')
    pace = {"delay": 0.02}

    def answer(session, line):
        time.sleep(pace["delay"])		# the peer's work, not the test's waiting
        return None

    sink.rule("RCPT", answer)
    stop = threading.Event()

    def feed():
        with tramd.client() as c:
            c.hello()
            while not stop.is_set():
                if tramd.ctl_json("stats")["queue_messages"] > 200:
                    stop.wait(0.1)
                    continue
                for _ in range(50):
                    c.message(BODY, "a@src.test", ["b@dst.test"])

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        wait_for(lambda: limit(tramd) == 12, what="it has grown to what the configuration allows")
        pace["delay"] = 1.5
        wait_for(lambda: 0 < limit(tramd) <= 10, what="it has shrunk")
        pace["delay"] = 0.02
        low = limit(tramd)
        wait_for(lambda: limit(tramd) > low, what="it grows again")
    finally:
        stop.set()
        feeder.join()
        pace["delay"] = 0
    curve = [(int(e["before"]), int(e["connections"])) for e in tramd.events(event="concurrency")]
    assert all(before - now <= max(1, before // 4) for before, now in curve if now < before), curve
    assert all(now == before + 1 for before, now in curve if now > before), curve
    assert not tramd.events(event="site-backoff")
    tramd.wait_empty()


def test_suspended_source(make_tramd, sink, tmp_path):
    """Only there, and only what leaves from it: the rest of its pool goes on; the reply is counted
    once for each."""
    extra = "".join('source "%s" { address = "%s" ehlo-name = "%s.src.test" }\n' % (name, address,
                                                                                    name)
                    for name, address in (("a", "127.0.0.2"), ("b", "127.0.0.3")))
    extra += 'pool "all" { sources = {"a", "b"} }\n' + rules_file(
        tmp_path, "suspend source for 1h\tcode=4xx /\\[IP\\]/")
    sink.rule("MAIL", lambda session, line: "421 4.7.0 [IP] not from you"
              if session.helo.startswith("a.") else None)
    tramd = make_tramd(routes={"*": {"deliver": "smtp:[127.0.0.1]:%d" % sink.port,
                                     "pool": quoted("all")}}, extra=extra,
                       queue=dict(NEVER, **{"retry-first": "100ms", "retry-max": "100ms"}))
    ids = [tramd.send(BODY, to=["b%d@dst.test" % i]) for i in range(20)]
    said = tramd.wait_log(event="suspended", scope="source")
    assert said["name"] == "a" and said["for"] == "3600"
    for id in ids:
        tramd.wait_log(event="final", id=id, outcome="delivered")
    assert {m.helo for m in sink.messages} == {"b.src.test"}
    assert [row["name"] for row in rows(tramd, "sites", "measures")] == ["a"]
    count = sink.sessions
    tramd.restart(kill=True)
    for i in range(10):
        tramd.wait_log(event="final", id=tramd.send(BODY, to=["c%d@dst.test" % i]),
                       outcome="delivered")
    assert not [line for number, line in sink.lines if number > count
                and line.startswith("EHLO a.")]
    tramd.ctl("sites", "resume", rows(tramd, "sites", "measures")[0]["site"], "--source", "a")
    sink.clear_rules()
    wait_for(lambda: tramd.send(BODY, to=["d%d@dst.test" % time.monotonic_ns()]) and
             any(m.helo == "a.src.test" for m in sink.messages), what="it is used again")
