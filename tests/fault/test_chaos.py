"""Everything at once: hundreds of destinations that misbehave in every way, a tramd with little
room, and an operator who reloads, stops, kills and meddles. Then the world is well again, and each
accepted recipient must have come to the one end that the records tell of: delivered, returned to
the sender, or removed. None is lost, none stuck, and a second copy is seen only of what was in
doubt.

TRAM_CHAOS_SEED (1) and TRAM_CHAOS_ROUNDS (14) make it another run, or a longer one.
"""
import json
import os
import random
import re
import subprocess
import threading
import time

from dns_server import BrokenDns
from harness import SmtpRaw, TIMEOUT, queue_id
from load import NUMBER, build, intact
from sink import DROP, Ended, RESET, Sink

SEED = int(os.environ.get("TRAM_CHAOS_SEED", "1"))
ROUNDS = int(os.environ.get("TRAM_CHAOS_ROUNDS", "14"))
DOMAINS = 300
DELIVERIES = 24
# All waits are short, so that a peer that hangs costs a second.
LIMITS = {
    "window-sites": "20", "window-entries": "150", "deliveries": str(DELIVERIES),
    "connections-per-site": "4",
    "messages-per-connection": "5", "recipients-per-delivery": "3", "lookups": "10",
    "addresses-per-attempt": "3",
    "idle-connection": "300ms", "connect-timeout": "1s", "banner-timeout": "1s",
    "ehlo-timeout": "1s",
    "mail-timeout": "1s", "rcpt-timeout": "1s", "data-init-timeout": "1s", "block-timeout": "1s",
    "dot-timeout": "1s",
    "quit-timeout": "500ms", "connections-per-client": "1000", "messages-per-session": "100000",
}
QUEUE = {"retry-first": "500ms", "retry-max": "4s", "probe-first": "300ms", "probe-max": "2s"}
SENDER = "s%d@back.test"


# ---- the other side ------------------------------------------------------------------------------

def silence(session, _):
    """For good: a later reply would be taken for the one that is missing."""
    while True:
        session.fill()


def endless(session, _):
    """Lines without end, until it is cut off."""
    session.flush()
    while not session.sink.stopping.is_set():
        session.conn.sendall(b"250-and more\r\n" * 100)
    raise Ended


def trickle(session, _):
    """An octet at a time, never a whole line."""
    session.flush()
    while not session.sink.stopping.wait(0.2):
        session.conn.sendall(b"2")
    raise Ended


def in_pieces(session, _):
    """A good reply, slowly."""
    session.flush()
    for octet in b"250 2.0.0 all right, ":
        session.conn.sendall(bytes([octet]))
        session.sink.stopping.wait(0.02)
    return b"2 of them\r\n"                            # the sink takes this for a good reply, too


def half(session, _):
    session.out.append(b"25")
    session.flush()
    raise Ended


MILD = ["450 4.2.1 not now", "451 4.3.0 trouble here", "421 4.3.2 going down", "452 4.5.3 too many",
        DROP, RESET, half]
SLOW = [silence, trickle, endless, in_pieces]
ODD = [b"250-no end to it\r\n250 \r\n", b"not a reply\r\n", b"\0\xff\r\n", b"199 what?\r\n",
       "354 eh?"]
HARSH = ["550 5.1.1 no such user", "554 5.7.1 go away", "552 5.2.2 full"]
STEPS = ("BANNER", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "DOT", "QUIT")


class Moods:
    """What each step of each session gets. Reports are never refused for good: they are the
    sender's only news."""

    def __init__(self, seed):
        self.chance, self.lock, self.calm = random.Random(seed), threading.Lock(), False

    def at(self, step):
        def behave(session, line):
            what = self.choose(step, "back.test" in line or not session.sender)
            if what is None and step == "EHLO":
                what = self.chance.choice([None, None, "250-plain\r\n250 SIZE",
                                           "250-dots\r\n250 PIPELINING"])
            return what(session, line) if callable(what) else what
        return behave

    def choose(self, step, gently):
        with self.lock:
            dice = self.chance.random()
            if self.calm or dice > 0.17:
                return None
            if dice > 0.165:
                return self.chance.choice(SLOW)
            if dice > 0.155:
                return self.chance.choice(ODD)
            if dice > 0.14 and step in ("MAIL", "RCPT", "DATA", "DOT") and not gently:
                return self.chance.choice(HARSH)
            return self.chance.choice(MILD) if dice > 0.1 else None


def world(port):
    """Domains by number: most have a host of their own; some share one, or have several, one of
    them dead."""
    lines = ["back.test MX 10 mx.back.test", "mx.back.test A 127.2.0.1"]
    for n in range(DOMAINS):
        lines.append("mx%d.test A 127.1.%d.%d" % (n, n // 200, n % 200 + 1))
        if n % 10 == 7:
            lines += ["d%d.test MX 10 mx.shared%d.test" % (n, n % 3),
                      "mx.shared%d.test A 127.3.0.%d" % (n % 3, n % 200 + 1)]
        elif n % 10 == 8:
            lines += ["d%d.test MX 10 dead.test" % n, "d%d.test MX 20 mx%d.test" % (n, n)]
        else:
            lines.append("d%d.test MX 10 mx%d.test" % (n, n))
    return "\n".join(lines + ["dead.test AAAA ::1"]) + "\n"


def dns_rules(chance):
    rules = {}
    for n in range(DOMAINS):
        dice = chance.random()
        if dice < 0.15:
            rules["d%d.test" % n] = chance.choice([["servfail", None],
                                                   ["silence", "servfail", None], "slow:0.4",
                                                   "truncate", "formerr", ["garbage", None],
                                                   ["refused", None]])
    return rules


# ---- the senders ---------------------------------------------------------------------------------

class Letters:
    """Senders that go on through all; what was acknowledged: number → (id, recipients)."""

    def __init__(self, port, seed, senders=3):
        self.port, self.lock, self.count, self.going = port, threading.Lock(), 0, True
        self.known = {}
        self.threads = [threading.Thread(target=self.run, args=(random.Random(seed + i),),
                                         daemon=True)
                        for i in range(senders)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join(TIMEOUT)

    def run(self, chance):
        pause = threading.Event()
        while self.going:
            try:
                with SmtpRaw("127.0.0.1", self.port, timeout=10) as c:
                    c.hello()
                    while self.going:
                        self.one(c, chance)
                        pause.wait(0.03)
            except (OSError, AssertionError):
                pause.wait(0.02)

    def one(self, c, chance):
        with self.lock:
            self.count += 1
            number = self.count
        to = ["r%d-%d@d%d.test" % (number, i, chance.randrange(DOMAINS))
              for i in range(chance.choice((1, 1, 1, 2, 3, 8)))]
        c.envelope(SENDER % number, to)
        c.command("DATA", 354)
        c.send(build(number, chance.choice((300, 300, 4000, 100000))) + b".\r\n")
        id = queue_id(c.reply(250))
        with self.lock:
            self.known[number] = (id, to)

    def some_ids(self, chance, most):
        with self.lock:
            return [id for id, _ in chance.sample(list(self.known.values()),
                                                  min(most, len(self.known)))]


# ---- the operator --------------------------------------------------------------------------------

class Operator:
    def __init__(self, tramd, letters, moods, seed):
        self.tramd, self.letters, self.moods, self.chance = (tramd, letters, moods,
                                                             random.Random(seed))
        self.removed, self.doubted = set(), set()       # ids
        self.kills = self.reloads = 0
        self.base = tramd.text()

    def act(self):
        """Something to some messages; whether it got through is not known if the server goes
        meanwhile."""
        what = self.chance.choice(["hold", "release", "retry", "retry", "remove", "bounce"])
        ids = self.letters.some_ids(self.chance, self.chance.choice((1, 1, 3, 20)))
        if what == "remove":
            self.removed.update(ids)
        if ids:
            self.tool("queue", what, *ids)

    def tool(self, *args):
        try:
            return self.tramd.ctl(*args, check=False, timeout=2 * TIMEOUT)
        except subprocess.TimeoutExpired:
            raise AssertionError("%r does not come back:\n%s" % (args, self.tramd.tail())) from None

    def reload(self):
        """Other limits, another name for the way to some domains; now and then with a mistake in
        it."""
        self.reloads += 1
        text = self.base.replace("connections-per-site = 4",
                                 "connections-per-site = %d" % self.chance.randint(1, 6))
        text = text.replace("recipients-per-delivery = 3",
                            "recipients-per-delivery = %d" % self.chance.randint(1, 5))
        text = text.replace("deliveries = %d" % DELIVERIES,
                            "deliveries = %d" % self.chance.randint(3, DELIVERIES))
        for n in range(0, DOMAINS, 5):
            if self.chance.random() < 0.3:
                text += 'route "d%d.test" { deliver = "mx:%d" }\n' % (n, self.port)
        if self.chance.random() < 0.2:
            text += "nonsense = 1\n"
        self.tramd.write_config(text)
        self.tramd.reload()

    def well(self):
        """The first configuration again: one that can be started with."""
        self.tramd.write_config(self.base)

    def restart(self):
        self.well()
        self.tramd.stop()
        self.tramd.start()

    def kill(self):
        self.well()
        self.tramd.kill9()
        self.kills += 1
        checked = self.tramd.ctl("queue", "check", check=False)
        assert checked.stdout.decode().endswith(", no fault\n"), (checked.stdout.decode()
                                                                  + checked.stderr.decode())
        self.tramd.start()
        self.note_doubts()

    def note_doubts(self):
        rows = self.tramd.ctl("queue", "list", "--json", timeout=2 * TIMEOUT).splitlines()
        self.doubted.update(row["id"] for row in map(json.loads, rows) if row.get("uncertain"))

    def round(self, number):
        pause = threading.Event()
        for _ in range(3):
            self.chance.choice([self.act, self.act, self.reload])()
            # the moment is what the seed decides, nothing is awaited
            pause.wait(self.chance.uniform(0, 0.25))
        if number % 4 == 1:
            self.kill()
        elif number % 4 == 3:
            self.restart()


# ---- the judge -----------------------------------------------------------------------------------

def deliveries_of(sink):
    """(number, recipient) → how often it was kept; and the recipients that reports speak of."""
    copies, reported = {}, set()
    for message in sink.messages:
        if message.sender == "":
            reported.update(re.findall(r"(?m)^Final-Recipient: *rfc822; *(\S+)\r$",
                                       message.data.decode("latin-1")))
            continue
        assert intact(message.data), "a message arrived damaged: %r" % message.data[:300]
        number = int(NUMBER.search(message.headers)[1])
        for recipient in message.recipients:
            copies[(number, recipient)] = copies.get((number, recipient), 0) + 1
    return copies, reported


def judge(letters, operator, sink):
    copies, reported = deliveries_of(sink)
    doubted = operator.doubted | {e["id"]
                                  for e in operator.tramd.events(event="delivery",
                                                                 fate="uncertain")}
    lost, both, twice, ends = [], [], [], {"delivered": 0, "returned": 0, "removed": 0}
    for number, (id, recipients) in letters.known.items():
        for recipient in recipients:
            came, told = copies.get((number, recipient), 0), recipient in reported
            ends["delivered" if came else "returned" if told else "removed"] += 1
            if not came and not told and id not in operator.removed:
                lost.append((id, recipient))
            if came and told and id not in doubted:
                both.append((id, recipient))
            if came > 1 and id not in doubted:
                twice.append((id, recipient))
    print("%d messages, %r, %d in doubt, %d reloads, %d kills; twice and not in doubt: %r; both: %r" % (
        len(letters.known), ends, len(doubted), operator.reloads, operator.kills, twice, both))
    assert not lost, "acknowledged and lost: %r" % lost[:10]
    # What was handed out in the last milliseconds before a kill may not have been noted yet.
    assert len(twice) + len(both) <= operator.kills * 2 * DELIVERIES, "twice, and not in doubt: %r" % (twice + both)
    if operator.kills == 0:
        assert not twice and not both


def watch_limits(tramd, stop, seen):
    """Asks now and then; a tramd that is gone does not answer."""
    while not stop.wait(0.5):
        try:
            stats = tramd.ctl_json("stats", timeout=TIMEOUT)
        except (AssertionError, OSError, ValueError, subprocess.TimeoutExpired):
            continue
        for key in ("connections_out", "window_entries", "window_sites", "window_lanes", "lookups"):
            seen[key] = max(seen.get(key, 0), stats[key])


def run(make_tramd, kills):
    chance, moods = random.Random(SEED), Moods(SEED)
    with Sink(host="0.0.0.0") as sink, BrokenDns(world(sink.port),
                                                 rules=dns_rules(chance)).start() as dns:
        rules = [sink.rule(step, moods.at(step)) for step in STEPS]
        tramd = make_tramd(routes={"*": "mx:%d" % sink.port}, resolver=dns.address, queue=QUEUE,
                           limits=LIMITS,
                           extra="allow-private = yes\nthreads = 2\nresolver-timeout = "
                                 "500ms\nresolver-tries = 2\n"
                                 "stop-timeout = 3s\n")
        letters = Letters(tramd.port, SEED)
        operator = Operator(tramd, letters, moods, SEED)
        operator.port = sink.port
        stop, seen = threading.Event(), {}
        watcher = threading.Thread(target=watch_limits, args=(tramd, stop, seen))
        watcher.start()
        try:
            for number in range(ROUNDS):
                if kills or number % 4 != 1:
                    operator.round(number)
        finally:
            stop.set()
            watcher.join()
            letters.stop()
        moods.calm = True
        dns.rules.clear()
        operator.well()
        tramd.reload()
        operator.tool("queue", "release", "--all")
        operator.note_doubts()
        began = time.monotonic()
        tramd.wait_empty(4 * TIMEOUT)
        print("quiet after %.1f s; most at a time: %r" % (time.monotonic() - began, seen))
        assert sum(rule.used for rule in rules) > ROUNDS
        judge(letters, operator, sink)
        for key, limit in (("connections_out", "deliveries"), ("window_sites", "window-sites"),
                           ("lookups", "lookups")):
            assert seen.get(key, 0) <= int(LIMITS[limit]), key
        tramd.stop()
        assert tramd.ctl("queue", "check").endswith(", no fault\n")


def test_chaos(make_tramd):
    run(make_tramd, kills=True)


def test_chaos_without_kills(make_tramd):
    """Nothing but reloads and clean stops: then nothing may come twice that the log does not call
    uncertain."""
    run(make_tramd, kills=False)
