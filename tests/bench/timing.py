"""How long one message takes, and what a second thread costs: commit, latency, threads."""
import os
import queue
import re
import socket
import subprocess
import threading
import time

import harness
from measure import MANY, Group, Sink, figure, median, one_run, scaled, stage, table, tram

OCTETS = 4096


def content(octets=OCTETS):
    line = b"x" * 78 + b"\r\n"
    return b"From: <a@src.test>\r\n\r\n" + line * (octets // len(line)) + b".\r\n"


class BareCommits:
    """bare_commit (see there) on the disk of the queue."""

    def __init__(self, build, place, octets=OCTETS):
        self.process = subprocess.Popen([os.path.join(build, "tests", "bare_commit"),
                                         os.path.join(place, "bare"),
                                         str(octets)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.run(20)

    def run(self, count):
        """How long each took, in µs."""
        self.process.stdin.write(b"%d\n" % count)
        self.process.stdin.flush()
        return [int(us) for us in self.process.stdout.readline().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Client:
    """Its timer runs while it waits for an answer, and nothing else does in it: no parsing, no
    buffers."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.expect(b"220")
        self.say(b"EHLO bench.test\r\n", b"250")

    def expect(self, code):
        got = self.socket.recv(4096)
        assert got[:3] == code, got

    def say(self, octets, code):
        self.socket.sendall(octets)
        self.expect(code)

    def message(self, data, to=b"b@dst.test"):
        """From the final dot to 250, in µs."""
        self.say(b"MAIL FROM:<a@src.test>\r\n", b"250")
        self.say(b"RCPT TO:<%s>\r\n" % to, b"250")
        self.say(b"DATA\r\n", b"354")
        began = time.perf_counter()
        self.say(data, b"250")
        return (time.perf_counter() - began) * 1e6

    def close(self):
        self.socket.close()


def commit_times(port, count, to=b"b@dst.test"):
    client, data = Client(port), content()
    times = [client.message(data, to) for _ in range(count)]
    client.close()
    return times


def commit_scenario(options):
    count, tram_us, bare_us = scaled(options, 500, 20), [], []
    with stage(options) as (undo, place):
        sink = Sink()
        undo.callback(sink.close)
        bare = BareCommits(options.build, place)
        undo.callback(bare.close)
        daemon = tram(os.path.join(place, "A"), ("127.0.0.1", sink.port), limits=MANY)
        daemon.start()
        undo.callback(daemon.stop)
        commit_times(daemon.port, 20)
        for _ in range(options.rounds):
            for _ in range(5):
                bare_us += bare.run(count // 5)
                tram_us += commit_times(daemon.port, count // 5)
    ours, theirs = median(tram_us), median(bare_us)
    table("commit: 4096 octets, one session, one message at a time; %d each, in turn"
          % len(tram_us), ["", "median µs", "nine of ten within"],
          [["final dot → 250", "%.0f" % ours, "%.0f" % sorted(tram_us)[len(tram_us) * 9 // 10]],
           ["one bare LMDB commit of the same octets", "%.0f" % theirs,
            "%.0f" % sorted(bare_us)[len(bare_us) * 9 // 10]],
           ["ratio", "%.2f" % (ours / theirs), ""]])


# ---- from the client to the next hop, on an idle machine -----------------------------------------

class TimedSink:
    """Says when it has read a final dot. One session at a time is timed; several may be open."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.arrived = self.listener.getsockname()[1], queue.SimpleQueue()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s = self.listener.accept()[0]
            except OSError:
                return
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.session, args=(s,), daemon=True).start()

    def session(self, s):
        s.sendall(b"220 sink\r\n")
        seen, inside = b"", False
        while got := s.recv(65536):
            seen, answer = seen + got, b""
            while True:
                if inside:
                    at = seen.find(b"\r\n.\r\n")
                    if at < 0:
                        break
                    self.arrived.put(time.perf_counter())
                    seen, inside, answer = seen[at + 5:], False, answer + b"250 ok\r\n"
                    continue
                line, end, rest = seen.partition(b"\r\n")
                if not end:
                    break
                seen = rest
                inside = line[:4].upper() == b"DATA"
                answer += (b"354 go on\r\n"
                           if inside else b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
                           if line[:4].upper() == b"EHLO" else b"221 bye\r\n"
                           if line[:4].upper() == b"QUIT" else b"250 ok\r\n")
            if answer:
                s.sendall(answer)
        s.close()

    def close(self):
        self.listener.close()


def injected(port, sink):
    """From the connection of a client to the message's final dot at the sink, in µs."""
    data, began = content(), time.perf_counter()
    client = Client(port)
    client.message(data)
    arrived = sink.arrived.get(timeout=30)
    client.close()
    time.sleep(0.02)            # the machine is idle again
    return (arrived - began) * 1e6


def latency_scenario(options):
    count, direct, through, bare_us = scaled(options, 100, 10), [], [], []
    with stage(options) as (undo, place):
        sink = TimedSink()
        undo.callback(sink.close)
        bare = BareCommits(options.build, place)
        undo.callback(bare.close)
        daemon = tram(os.path.join(place, "A"), ("127.0.0.1", sink.port))
        daemon.start()
        undo.callback(daemon.stop)
        injected(daemon.port, sink)
        for _ in range(options.rounds * count):
            direct.append(injected(sink.port, sink))
            through.append(injected(daemon.port, sink))
            bare_us += bare.run(1)
            time.sleep(0.02)
    most = 2 * median(direct) + 3 * median(bare_us)
    table("latency: idle machine, a client's connection → its message's final dot at the sink; "
          "medians of %d, in turn" %
          len(direct), ["", "µs"],
          [["direct", "%.0f" % median(direct)], ["through tram", "%.0f" % median(through)],
           ["one bare commit", "%.0f" % median(bare_us)],
           ["2 × direct + 3 × bare commit", "%.0f" % most],
           ["through tram, of that", "%.2f" % (median(through) / most)]])


# ---- threads -------------------------------------------------------------------------------------

def threads_scenario(options):
    count, runs = scaled(options, 20000, 100), {1: [], 2: []}
    with stage(options) as (undo, place):
        sink, servers = Sink(), {}
        undo.callback(sink.close)
        for threads in runs:
            group = Group("threads-%d" % threads)
            undo.callback(group.close)
            with group:
                daemon = tram(os.path.join(place, str(threads)), ("127.0.0.1", sink.port),
                              limits=MANY, extra="threads = %d\n" % threads)
                daemon.start()
            undo.callback(daemon.stop)
            servers[threads] = daemon, group
        for _ in range(options.rounds):
            for threads, (daemon, group) in servers.items():
                runs[threads].append(one_run(daemon.port, group, sink, count, 50, OCTETS, True))
    rate = {t: median(r[1] for r in some) for t, some in runs.items()}
    cpu = {t: median(r[2] for r in some) for t, some in runs.items()}
    table("threads: 4096 octets, 50 sessions, connections reused, %d cores; medians of %d rounds, in turn" % (
        os.cpu_count(), options.rounds), ["threads", "relayed/s", "× one thread's",
                                          "CPU µs per message", "× one thread's"],
        [[t, "%.0f" % rate[t], "%.2f" % (rate[t] / rate[1]), figure(cpu[t]),
          figure(cpu[t] / cpu[1] if cpu[1] else None, "%.2f")] for t in runs])


# ---- system calls and wake-ups -------------------------------------------------------------------

def wake_ups(pid):
    """How often any of its threads has slept and was waked."""
    total = 0
    for thread in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/status" % (pid, thread)) as f:
            total += int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", f.read())[1])
    return total


def traced(pid, place, work):
    """The system calls of all its threads during this work: {name: how many}; what strace costs
    spoils times, not numbers."""
    out = os.path.join(place, "calls")
    strace = subprocess.Popen(["strace", "-c", "-f", "-p", str(pid), "-o", out],
                              stderr=subprocess.PIPE)
    strace.stderr.readline()            # it is attached
    threading.Thread(target=strace.stderr.read, daemon=True).start()
    work()
    strace.terminate()
    strace.wait()
    with open(out) as f:
        rows = [line.split() for line in f]
    return {row[-1]: int(row[3]) for row in rows if len(row) > 4 and row[3].isdigit()
            and row[-1] != "total"}


def calls_scenario(options):
    rows, names = [], ("read", "write", "epoll_wait", "futex", "fdatasync", "mincore")
    for name, count, sessions, octets in (("4 KB, 50 sessions", 20000, 50, OCTETS),
                                          ("4 KB, one session", 2000, 1, OCTETS),
                                          ("200 KB, 20 sessions", 2000, 20, 200000)):
        count = scaled(options, count, 50)
        with stage(options) as (undo, place):
            sink = Sink()
            undo.callback(sink.close)
            daemon = tram(os.path.join(place, "A"), ("127.0.0.1", sink.port), limits=MANY)
            daemon.start()
            undo.callback(daemon.stop)
            pid = daemon.process.pid
            one_run(daemon.port, None, sink, count, sessions, octets, True)
            before = wake_ups(pid)
            one_run(daemon.port, None, sink, count, sessions, octets, True)
            waked = (wake_ups(pid) - before) / count
            calls = traced(pid, place, lambda: one_run(daemon.port, None, sink, count, sessions,
                                                       octets, True))
        writes = sum(calls.get(call, 0) for call in ("pwrite64", "writev", "pwritev", "lseek"))
        rows.append([name, "%.2f" % waked, "%.1f" % (sum(calls.values()) / count)] +
                    ["%.2f" % (calls.get(call, 0) / count) for call in names]
                    + ["%.2f" % (writes / count)])
    table("calls: system calls per message (strace -c, which slows it: fewer in a batch) and "
          "wake-ups (without strace)",
          ["", "wake-ups", "system calls", *names, "LMDB's writes"], rows)


SCENARIOS = {"commit": commit_scenario, "latency": latency_scenario, "threads": threads_scenario,
             "calls": calls_scenario}
assert harness.BUILD        # programs are taken from there
