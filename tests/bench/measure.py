"""What the scenarios of the bench share: a group whose CPU is counted, sinks, loads, one run,
medians, tables.

What is compared is run in turn, round by round, so that what else the machine does meets all of it.
"""
import contextlib
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import harness

CGROUP = "/sys/fs/cgroup/cpuacct"
POSTFIX = {"default_process_limit": "200", "smtp_destination_concurrency_limit": "100",
           "initial_destination_concurrency": "50", "qmgr_message_active_limit": "40000",
           "in_flow_delay": "0", "smtpd_client_connection_count_limit": "0"}
MANY = {"messages-per-session": 1000000, "messages-per-connection": 1000000}
STUCK = 60          # seconds without anything arriving: something is wrong


class Group:
    """A cpuacct cgroup: what is started inside `with` is counted with all its children."""

    def __init__(self, name):
        self.path = os.path.join(CGROUP, "tram-bench-%s-%d" % (name, os.getpid()))
        self.there = os.path.isdir(CGROUP) and os.access(CGROUP, os.W_OK)
        if self.there:
            os.makedirs(self.path, exist_ok=True)

    def move(self, path):
        if self.there:
            with open(os.path.join(path, "cgroup.procs"), "w") as f:
                f.write(str(os.getpid()))

    def __enter__(self):
        self.move(self.path)

    def __exit__(self, *_):
        self.move(CGROUP)

    def cpu(self):
        if not self.there:
            return None
        with open(os.path.join(self.path, "cpuacct.usage")) as f:
            return int(f.read()) / 1e9

    def close(self):
        if self.there:
            try:
                os.rmdir(self.path)
            except OSError:
                pass


class Sink:
    def __init__(self, port=None, host="127.0.0.1", more=()):
        self.port, self.host = port or harness.free_port(), host
        self.out = tempfile.NamedTemporaryFile(prefix="tram-sink-")
        self.process = subprocess.Popen(["/usr/sbin/smtp-sink", "-u", "nobody", "-m", "5000", "-c",
                                         *more,
                                         "%s:%d" % (host, self.port), "4000"], stdout=self.out,
                                        stderr=self.out)
        harness.wait_for(lambda: greeted(self.port, 3), 10, "smtp-sink answers")

    def received(self):
        with open(self.out.name, "rb") as f:
            f.seek(0, 2)
            f.seek(max(0, f.tell() - 4096))
            found = re.findall(rb"mesg=(\d+)", f.read())
        return int(found[-1]) if found else 0

    def close(self):
        self.process.terminate()
        self.process.wait()


def greeted(port, octets=0):
    """Does somebody listen there (and say 220)?"""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            return octets == 0 or s.recv(octets) == b"220"[:octets]
    except OSError:
        return False


def source(port, count, sessions, octets, reuse, to="b@dst.test"):
    subprocess.run(["/usr/sbin/smtp-source", "-s", str(sessions), "-m", str(count), "-l",
                    str(octets), "-f", "a@src.test",
                    "-t", to] + (["-d"] if reuse else []) + ["127.0.0.1:%d" % port], check=True)


def wait_received(sink, count):
    """Until so many have arrived."""
    seen, moved = sink.received(), time.monotonic()
    while (now := sink.received()) < count:
        if now != seen:
            seen, moved = now, time.monotonic()
        if time.monotonic() - moved > STUCK:
            sys.exit("nothing arrives any more: %d of %d" % (now, count))
        time.sleep(0.005)


def one_run(port, group, sink, count, sessions, octets, reuse, to="b@dst.test"):
    """Accepted and relayed per second, and CPU µs per message."""
    before, cpu, began = sink.received(), group.cpu() if group else None, time.monotonic()
    source(port, count, sessions, octets, reuse, to)
    accepted = time.monotonic()
    wait_received(sink, before + count)
    ended = time.monotonic()
    time.sleep(0.5)             # the server's bookkeeping belongs to its CPU
    used = (group.cpu() - cpu) * 1e6 / count if cpu is not None else None
    return count / (accepted - began), count / (ended - began), used


def tram(place, static, **how):
    os.makedirs(place, exist_ok=True)
    daemon = harness.Tramd(place, static=static, **how)
    daemon.settings["extra"] += 'log { file = "%s" }\n' % os.path.join(place, "log")
    daemon.write_config(daemon.text())
    return daemon


@contextlib.contextmanager
def stage(options):
    """An ExitStack for all that a scenario starts, and a directory of its own on the disk that is
    measured."""
    with contextlib.ExitStack() as undo:
        yield undo, undo.enter_context(tempfile.TemporaryDirectory(prefix="tram-bench-",
                                                                   dir=options.place))


def rss_anon(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"RssAnon:\s+(\d+)", f.read())[1])


def scaled(options, count, least=1):
    return max(least, int(count * options.scale))


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def figure(value, form="%.0f"):
    return form % value if value is not None else "–"


def table(title, header, rows):
    """Markdown, at once: a long run shows how far it is."""
    print("\n**%s**\n" % title if title else "")
    print("| " + " | ".join(header) + " |")
    print("|---|" + "---:|" * (len(header) - 1))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    sys.stdout.flush()
