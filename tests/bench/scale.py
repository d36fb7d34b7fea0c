"""Millions in the queue, and 10,000 destinations: million, removed, destinations, growth.

What holds with a full queue is compared with a second tramd whose queue is empty, in turn.
"""
import os
import subprocess
import sys
import threading
import time

import harness
from measure import (MANY, Group, Sink, figure, greeted, median, one_run, rss_anon, scaled, source,
                     stage, table, tram, wait_received)
from timing import OCTETS, Client, commit_times, content

ALIVE = b"b@alive.test"


class Pair:
    """Two tramds with the same routes: `full`, with a backlog for dst.test, and `empty`. Other mail
    goes to one sink."""

    def __init__(self, options, undo, place):
        self.options, self.dead, self.sink = options, harness.free_port(), Sink()
        undo.callback(self.sink.close)
        self.full, self.empty = [tram(os.path.join(place, name), None, limits=MANY, routes={
            "*": "smtp:[127.0.0.1]:%d" % self.sink.port,
            "dst.test": "smtp:[127.0.0.1]:%d" % self.dead})
            for name in ("full", "empty")]
        self.groups = {self.full: Group("full"), self.empty: Group("empty")}
        for daemon, group in self.groups.items():
            undo.callback(group.close)
            undo.callback(daemon.close)
            self.start(daemon)
        self.probe = scaled(options, 20000, 50)
        for daemon in (self.full, self.empty):
            self.run(daemon, self.probe)

    def start(self, daemon, **how):
        with self.groups[daemon]:
            daemon.start(**how)

    def run(self, daemon, count):
        return one_run(daemon.port, self.groups[daemon], self.sink, count, 50, OCTETS, True,
                       "b@alive.test")

    def fill(self, count):
        """The backlog; returns accepted per second."""
        began = time.monotonic()
        source(self.full.port, count, 50, OCTETS, True)
        return count / (time.monotonic() - began)

    def compare(self, rounds):
        """Accepted/s, relayed/s, CPU and µs from final dot to 250, each of `full` beside `empty`,
        in turn."""
        runs, times = {self.full: [], self.empty: []}, {self.full: [], self.empty: []}
        for _ in range(rounds):
            for daemon in runs:
                runs[daemon].append(self.run(daemon, self.probe))
            for _ in range(4):
                for daemon in runs:
                    times[daemon] += commit_times(daemon.port, scaled(self.options, 100, 10), ALIVE)
        return [(median(r[i] for r in runs[self.full]), median(r[i] for r in runs[self.empty]))
                for i in (0, 1, 2)] + [
                    (median(times[self.full]), median(times[self.empty]))]

    def memory(self):
        return [rss_anon(daemon.process.pid) for daemon in (self.full, self.empty)]


def compared(title, figures):
    rows = [[name, figure(full), figure(empty), figure(full / empty if empty else None, "%.2f")]
            for name, (full, empty) in
            zip(("accepted/s", "relayed/s", "CPU µs per message", "final dot → 250, µs"), figures)]
    table(title, ["", "this queue", "an empty one", "ratio"], rows)


def queue_file(daemon):
    return os.path.join(daemon.queue_path, "data.mdb")


def first_accept(pair):
    """Kill -9, and how long until a message is accepted again, and how long until the first
    greeting."""
    daemon = pair.full
    daemon.kill9()
    began = time.monotonic()
    pair.start(daemon, ready=False)
    while not greeted(daemon.port, 3):
        time.sleep(0.001)
    greeting = time.monotonic() - began
    client = Client(daemon.port)
    client.message(content(), ALIVE)
    client.close()
    return time.monotonic() - began, greeting


def comes_back(pair, waiting, normal):
    """The dead destination lives: seconds until its first message, and delivered/s over the first
    half."""
    sink = Sink(pair.dead)
    try:
        first = sink.received()
        began = time.monotonic()
        retry = threading.Thread(target=pair.full.ctl, args=("sites", "retry", "--all"))
        retry.start()
        while sink.received() <= first:
            if time.monotonic() - began > 60:
                sys.exit("nothing is delivered to the destination that is back")
            time.sleep(0.002)
        started = time.monotonic() - began
        wait_received(sink, waiting // 2)
        half = time.monotonic()
        wait_received(sink, waiting)
        rate = waiting / 2 / (half - began - started)
        whole = waiting / (time.monotonic() - began)
        retry.join()
    finally:
        sink.close()
    return started, rate, rate / normal, whole / normal


def million_scenario(options):
    waiting = scaled(options, 1000000, 100)
    with stage(options) as (undo, place):
        pair = Pair(options, undo, place)
        before = pair.memory()
        pair.compare(1)
        pace = pair.fill(waiting)
        figures = pair.compare(options.rounds)
        compared("million: %d messages wait for a dead destination (accepted at %.0f/s); other mail" % (waiting, pace), figures)
        after = pair.memory()
        accept, greeting = first_accept(pair)
        time.sleep(1)
        restarted = rss_anon(pair.full.process.pid)
        started, rate, of_normal, whole = comes_back(pair, waiting, figures[1][1])
        table("", ["the same queue", ""], [
            ["anonymous memory (RssAnon) more", "%+.1f MB" % ((after[0] - before[0]) / 1024)],
            ["… after the restart, beside the empty one's",
             "%+.1f MB" % ((restarted - after[1]) / 1024)],
            ["kill -9, start, first greeting", "%.0f ms" % (greeting * 1000)],
            ["kill -9, start, first message accepted", "%.0f ms" % (accept * 1000)],
            ["`tramctl sites retry` → first delivery", "%.0f ms" % (started * 1000)],
            ["then delivered/s; × relayed/s with an empty queue", "%.0f; %.2f" % (rate, of_normal)],
            ["… all of it", "%.2f" % whole]])
        harness.wait_for(lambda: pair.full.ctl_json("stats")["queue_messages"] == 0, 60,
                         "all is settled")
        compared("million: once these are delivered (queue file %.0f MB)"
                 % (os.path.getsize(queue_file(pair.full)) / 1e6), pair.compare(options.rounds))


def removed_scenario(options):
    waiting = scaled(options, 1000000, 100)
    with stage(options) as (undo, place):
        pair = Pair(options, undo, place)
        pair.fill(waiting)
        began, times = time.monotonic(), []
        remove = subprocess.Popen([harness.program("tramctl"), "-c", pair.full.config_path, "queue",
                                   "remove", "--domain", "dst.test"], stdout=subprocess.DEVNULL)
        while remove.poll() is None:
            times += commit_times(pair.full.port, 20, ALIVE)
        took = time.monotonic() - began
        harness.wait_for(lambda: pair.full.ctl_json("stats")["queue_messages"] == 0, 60,
                         "all is removed")
        table("removed: `tramctl queue remove` of %d messages" % waiting, ["", ""], [
            ["removed/s", "%.0f" % (waiting / took)],
            ["final dot → 250 of other mail meanwhile, median µs", "%.0f" % median(times)]])
        compared("removed: afterwards", pair.compare(options.rounds))
        accept, _ = first_accept(pair)
        compared("removed: after a restart (first accept after %.0f ms)" % (accept * 1000),
                 pair.compare(options.rounds))


# ---- many destinations ---------------------------------------------------------------------------

def to_all(daemon, domains, copies):
    """A message for each hundred of the domains, so often: the client costs next to nothing."""
    with daemon.client() as c:
        c.hello()
        for _ in range(copies):
            for at in range(0, len(domains), 100):
                c.message(b"Subject: news\r\n\r\n" + b"x" * 70 + b"\r\n", "a@src.test",
                          ["b@" + domain for domain in domains[at:at + 100]])


def destinations_scenario(options):
    count, slow_ones, copies = scaled(options, 10000, 200), scaled(options, 1000, 50), 3
    domains, rates = ["d%d.test" % i for i in range(count)], {"all are fast": [], "one is slow": []}
    with stage(options) as (undo, place):
        sink = Sink(host="0.0.0.0")
        undo.callback(sink.close)
        slow = Sink(more=("-W", "mail:5"))
        undo.callback(slow.close)
        routes = {domain: "smtp:[127.%d.%d.%d]:%d" % (1 + i // 62500, i // 250 % 250, 1 + i % 250,
                                                      sink.port)
                  for i, domain in enumerate(domains)}
        routes["slow.test"] = "smtp:[127.0.0.1]:%d" % slow.port
        servers = {name: tram(os.path.join(place, name), None, routes=routes, limits=MANY)
                   for name in rates}
        for daemon in servers.values():
            daemon.start()
            undo.callback(daemon.stop)
        for i in range(options.rounds):
            for name, daemon in list(servers.items())[::1 if i % 2 else -1]:
                if name == "one is slow":
                    source(daemon.port, slow_ones, 50, OCTETS, True, "b@slow.test")
                before, began = sink.received(), time.monotonic()
                to_all(daemon, domains, copies)
                wait_received(sink, before + count * copies)
                rates[name].append(count * copies / (time.monotonic() - began))
        waits = servers["one is slow"].ctl_json("stats")["queue_messages"]
    fast, beside = [median(some) for some in rates.values()]
    table("destinations: %d at once, %d messages each, beside none and %d for a host that takes 5 s for each (%d still wait)" % (
        count, copies, slow_ones * options.rounds, waits),
          ["", "delivered/s to the others", "ratio"],
        [["all are fast", "%.0f" % fast, ""],
         ["one is slow", "%.0f" % beside, "%.2f" % (beside / fast)]])


# ---- the file ------------------------------------------------------------------------------------

SIZES = (4096, 12000, 60000, 300000, 2000000)       # a fifth of the octets each


def mixed(port, octets, to):
    """So many octets in messages of all these sizes, by five clients at once; returns how many
    messages."""
    counts = [max(1, octets // len(SIZES) // size) for size in SIZES]
    clients = [subprocess.Popen(["/usr/sbin/smtp-source", "-d", "-s", "4", "-m", str(n), "-l",
                                 str(size), "-f", "a@src.test",
                                 "-t", to, "127.0.0.1:%d" % port])
               for n, size in zip(counts, SIZES)]
    assert all(client.wait() == 0 for client in clients)
    return sum(counts)


def growth_scenario(options):
    tenth, passes = scaled(options, 50000000, 2500000), 10 if options.scale > 0.1 else 1
    ports, waiting, peak, began = [harness.free_port() for _ in range(10)], {}, 0, time.monotonic()
    with stage(options) as (undo, place):
        daemon = tram(os.path.join(place, "A"), None, limits=MANY, routes={
            "d%d.test" % i: "smtp:[127.0.0.1]:%d" % port for i, port in enumerate(ports)})
        daemon.start()
        undo.callback(daemon.stop)
        for step in range(10 * (passes + 1)):
            which = step % 10
            if which in waiting:
                sink = Sink(ports[which])
                daemon.ctl("sites", "retry", "--all")
                wait_received(sink, waiting[which])
                sink.close()
            waiting[which] = mixed(daemon.port, tenth, "b@d%d.test" % which)
            live = daemon.ctl_json("stats")["queue_octets"]
            peak = max(peak, live)
            if step == 9:
                first = os.path.getsize(queue_file(daemon))
        size = os.path.getsize(queue_file(daemon))
    table("growth: messages of 4 KB to 2 MB; the queue is filled, then %d × that passes through (%.0f s)" % (
        passes, time.monotonic() - began), ["", "MB", "× live data at its peak"],
        [["live data at its peak", "%.0f" % (peak / 1e6), ""],
         ["queue file once filled", "%.0f" % (first / 1e6), "%.2f" % (first / peak)],
         ["queue file at the end", "%.0f" % (size / 1e6), "%.2f" % (size / peak)]])


SCENARIOS = {"million": million_scenario, "removed": removed_scenario,
             "destinations": destinations_scenario, "growth": growth_scenario}
