"""kill -9 in the midst of all that limits mail: a made-up provider that answers 421 and 4.7.x by
rate, shapes, response rules that slow down and suspend, a source that warms up, tenants with
weights, a host that is dead. At the end each recipient has come to its one end, no ceiling was
exceeded by more than a crash may forget, and what was suspended, slowed or in back-off has stayed
so. Named points need TRAM_FAULTS_BUILD; without it all kills are at random."""
import os
import random
import re
import threading
import time

from harness import TIMEOUT, free_port, quoted, wait_for
from steering import rows
from test_sources import day, not_at_midnight, pool, source

# messages: to the provider; of them from the new source; of the tenant news
HOUR, WARM, DAY = 60, 20, 12
COUNT = 240
NEW, OLD = "127.0.0.2", "127.0.0.3"
LIVES = ["kept", "note-before-commit:2", "settle-after-commit:9", "random", "note-after-commit:3",
         "settle-before-commit:6", "kept", "random", "kept"]
FAULTS = os.environ.get("TRAM_FAULTS_BUILD")
BODY = b"Subject: x\r\n\r\nline\r\n"


class Provider:
    """Takes twenty a second, and says no now and then. Keeps its own books: (source, tenant) of
    each MAIL."""

    def __init__(self, sink):
        self.lock, self.times, self.books, self.calm = threading.Lock(), [], [], False
        sink.rule("MAIL", self.mail)
        sink.rule("RCPT", "550 5.1.1 no such user", match="bad")

    def mail(self, session, line):
        with self.lock:
            now = time.monotonic()
            self.books.append((session.conn.getpeername()[0], re.search("@([a-z.]+)>", line)[1]))
            self.times = [at for at in self.times if now - at < 1] + [now]
            number = len(self.books)
            if self.calm:
                return None
            if len(self.times) > 20 or number % 10 == 6:
                return "421 4.7.0 [RATE] too fast"
            return "450 4.7.1 [RATE] later" if number % 10 == 9 else None


class Senders:
    """Of three tenants; they go on through any number of deaths. taken: the recipients that had
    their 250."""

    def __init__(self, tramd):
        self.tramd, self.taken = tramd, []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        for n in range(COUNT):
            domain = {3: "wall.test", 8: "dead.test"}.get(n % 16, "big.test")
            sender = "a@" + ("news.test", "gold.test", "shop.test")[n % 3]
            again = 0
            while not self.send(sender, "%s%d-%d@%s" % ("bad" if n % 12 == 5 else "r", n, again,
                                                        domain)):
                # it may have been taken all the same: another name
                again += 1

    def send(self, sender, to):
        try:
            self.tramd.send(BODY, sender, [to])
        except (OSError, AssertionError):
            threading.Event().wait(0.05)		# it is down
            return False
        self.taken.append(to)
        return True


class World:
    def __init__(self, make_tramd, make_sink, tmp_path):
        self.big, self.wall, self.home = (make_sink(host=host)
                                          for host in ("127.0.0.1", "127.0.0.7", "127.0.0.9"))
        self.provider, self.forgotten = Provider(self.big), []
        self.wall.rule("MAIL", "421 4.7.0 [WALL] go away")
        self.dead = free_port("127.0.0.8")
        (tmp_path / "response").write_text("slow 2 for 10m, class rate-limited\tcode=4xx "
                                           "/\\[RATE\\]/\n"
                                           "suspend site for 1h\tstatus=4.7.0 /\\[WALL\\]/\n")
        to_home = "smtp:[127.0.0.9]:%d" % self.home.port
        self.tramd = make_tramd(
            start=False, routes={"big.test": {"deliver": "smtp:[127.0.0.1]:%d" % self.big.port,
                                              "pool": '"p"'},
                                 "wall.test": "smtp:[127.0.0.7]:%d" % self.wall.port,
                                 "gone.test": "discard",
                                 "dead.test": "smtp:[127.0.0.8]:%d" % self.dead,
                                 "*": to_home},
            queue={"retry-first": "500ms", "retry-max": "1s", "probe-first": "1s",
                   "probe-max": "2s", "delay-warning": "0"},
            program_path=os.path.join(FAULTS, "mta", "tramd") if FAULTS else None, extra="".join((
                source("new", NEW, **{"warmup-start": day(), "warmup-plan": [str(WARM)]}),
                source("old", OLD),
                pool("p", ["new=1000", "old"]), 'tenant-by = "sender-domain"\n',
                'tenant "gold.test" { weight = 3 }\n',
                'shape "hour" { site = "127.0.0.1" messages-per-hour = %d messages-per-second = 20 '
                '}\n' % HOUR,
                'shape "day" { tenant = "news.test" domain = "big.test" messages-per-day = %d }\n'
                % DAY,
                "response-rules = %s\nresponse-rules-builtin = no\n"
                % quoted(str(tmp_path / "response")))))
        self.begins = 0				# of the books, what may not be in the queue yet
        self.measures, self.failures, self.walls = {}, 0, None

    def key(self, sink):
        return "static:smtp:[%s]:%d" % (sink.host, sink.port)

    # ---- one life

    def live(self, until, chance):
        point = FAULTS and "commit" in until
        self.tramd.env = {"TRAM_CRASH_AT": until} if point else {}
        self.begins = len(self.provider.books)
        self.tramd.start(ready=False)
        if point:
            wait_for(self.has_died, 2 * TIMEOUT, "it dies at " + until)
            self.tramd.end()
            self.tramd.check_sanitizer()
        else:
            wait_for(self.tramd.is_up, what="it is up")
            self.compare()
            # the moment is the point of it
            threading.Event().wait(chance.uniform(0.3, 1.2))
            if until == "kept":
                self.keep()
            self.tramd.kill9()
        self.big.wait_until(lambda: not self.big.open, TIMEOUT, "what it has sent is in the books")
        self.forgotten += self.provider.books[self.begins:]

    def has_died(self):
        """All that has a point is done beside the mail."""
        if not self.tramd.running():
            return True
        try:
            self.tramd.send(BODY, to=["home@shop.test"])
            for word in ("suspend", "resume"):
                self.tramd.ctl("sites", word, "@other.test", check=False)
        except (OSError, AssertionError):
            pass
        return False

    def keep(self):
        """What has been counted until now is in the queue: the counters are written when they are a
        second old, and what was taken after that was written later."""
        before = len(self.provider.books)
        time.sleep(1.1)
        rows(self.tramd, "sites")
        self.tramd.send(BODY, to=["x@gone.test"])
        self.begins = before

    def compare(self):
        """What there was at the last start is there now. What only grew longer since may have been
        forgotten."""
        found = {(row["kind"], row["site"]): row["until_ms"]
                 for row in rows(self.tramd, "sites", "measures")
                 if row.get("site") and "until_ms" in row}
        for what, until in self.measures.items():
            assert found.get(what, 0) > until - 60000, (what, self.measures, found)
        self.measures = found
        wall = ("suspend", self.key(self.wall))
        if wall in found:
            self.walls = self.walls or len(self.wall.commands("MAIL"))
            assert len(self.wall.commands("MAIL")) == self.walls, "it does not go there any more"
        failures = max([row["failures"] for row in rows(self.tramd, "sites")
                        if "127.0.0.8" in row["key"]], default=0)
        assert failures >= self.failures
        self.failures = failures

    # ---- the end

    def check_ceilings(self):
        """As the provider sees it; what was sent in the last seconds before a crash may have been
        forgotten."""
        books, forgotten = self.provider.books, self.forgotten
        print("%d MAILs, %d of them may be forgotten; %d from the new source, %d of news" % (
            len(books), len(forgotten), sum(s == NEW for s, _ in books),
            sum(t == "news.test" for _, t in books)))
        assert HOUR <= len(books) <= HOUR + len(forgotten)
        for most, which in ((WARM, lambda one: one[0] == NEW),
                            (DAY, lambda one: one[1] == "news.test")):
            assert sum(map(which, books)) <= most + sum(map(which, forgotten)), (most, books,
                                                                                 forgotten)
        assert {s for s, _ in books} == {NEW, OLD}

    def lift(self):
        """No limits any more, and hosts that are well."""
        self.wall.clear_rules()
        s = self.tramd.settings
        s["routes"]["dead.test"] = "smtp:[127.0.0.9]:%d" % self.home.port
        s["extra"] = re.sub(r'(?m)^shape .*\n|warmup-\S+ = (\{[^}]*\}|\S+)', "", s["extra"])
        self.tramd.write_config(self.tramd.text())
        self.tramd.reload()
        self.tramd.wait_log(event="reload", level="info")
        self.tramd.ctl("sites", "resume", self.key(self.wall))
        self.tramd.ctl("sites", "retry", "--all")
        self.tramd.ctl("queue", "retry", "--all")
        self.tramd.wait_empty(4 * TIMEOUT)

    def check_ends(self, taken):
        came, told = {}, {}
        for sink in (self.big, self.wall, self.home):
            for address, times in sink.recipients().items():
                came[address] = came.get(address, 0) + times
        for m in self.home.messages:
            if m.sender == "":
                for address in re.findall(r"Final-Recipient: rfc822; *(\S+)", m.data.decode()):
                    told.setdefault(address, set()).add(re.search(rb"(?im)^Message-ID: *(\S+)",
                                                                  m.data)[1])
        for address in taken:
            good = not address.startswith("bad") or not address.endswith("@big.test")
            assert (address in came) == good and (address in told) != good, (address, came.get(address), told.get(address))
        assert all(len(reports) == 1 for reports in told.values())
        finals = [e["to"] for e in self.tramd.events(event="final")]
        assert len(set(finals)) == len(finals) or all(a.startswith(("home@", "x@", "a@"))
                                                      for a in finals if finals.count(a) > 1)
        twice = {a: n for a, n in came.items() if n > 1 and "-" in a}
        print("%d taken, %d came twice" % (len(taken), len(twice)))
        assert len(twice) <= len(LIVES) * 10, twice			# their 250 was on its way


def test_killed_in_the_midst_of_it(make_tramd, make_sink, tmp_path):
    not_at_midnight()
    chance = random.Random(11)
    world = World(make_tramd, make_sink, tmp_path)
    senders = Senders(world.tramd)
    for until in LIVES:
        world.live(until, chance)
    world.tramd.env = {}
    world.tramd.start()
    world.compare()
    assert {kind for kind, _ in world.measures} == {"slow", "suspend"} and world.failures > 0
    senders.thread.join(4 * TIMEOUT)
    world.provider.calm = True
    world.tramd.ctl("sites", "reset", world.key(world.big))
    wait_for(lambda: [h for row in rows(world.tramd, "sites", world.key(world.big))
                      for h in row["held_by"]
                      if h["kind"] == "shape" and "last hour" in h["text"]], 2 * TIMEOUT,
             "the hour is full")
    world.check_ceilings()
    assert len(world.wall.commands("MAIL")) == world.walls
    world.lift()
    world.check_ends(senders.taken)
