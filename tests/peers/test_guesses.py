"""Guessers, many of them, change nothing for others. TRAM_GUESSES is how many guesses (contrib/test
makes few)."""
import json
import os
import smtplib
import ssl
import subprocess
import sys
import time

from harness import TIMEOUT
from test_auth import DATA, HOST, PASSWORD, USER, entry, make_server  # noqa: F401

GUESSES = int(os.environ.get("TRAM_GUESSES", "2000"))
NEIGHBOUR = "127.77.0.1"		# of anna's guesser


def log_in(daemon, ca, source):
    """From there, with a message; how long it took until the login was done."""
    context = ssl.create_default_context(cafile=ca.path)
    context.check_hostname = False
    began = time.monotonic()
    with smtplib.SMTP(HOST, daemon.ports["submission"], timeout=2 * TIMEOUT,
                      source_address=(source, 0), local_hostname="src.test") as c:
        c.ehlo("src.test")
        c.starttls(context=context)
        c.ehlo("src.test")
        c.login(USER, PASSWORD)
        took = time.monotonic() - began
        c.sendmail(USER, ["b@far.test"], DATA)
        return took


def guess(daemon, port, count, addresses, first):
    return subprocess.Popen([sys.executable, os.path.join(os.path.dirname(__file__), "guesser.py"),
                             str(daemon.ports[port]), str(count), str(addresses), str(first)],
                            stdout=subprocess.PIPE)


def memory(daemon):
    with open("/proc/%d/status" % daemon.process.pid, encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))


def test_guesses_change_nothing_for_others(make_server, ca, sink):  # noqa: F811
    daemon = make_server("threads = 2\n", limits={"auth-remembered": 1000, "auth-delay": "1s"})
    before = sorted(log_in(daemon, ca, source) for source in ("127.0.0.1", NEIGHBOUR)
                    for _ in range(3))
    calm = memory(daemon)
    # one behind anna's own address, others behind thousands, more than are remembered
    guessers = [guess(daemon, "plain", 40, 1, 77),
                guess(daemon, "plain", GUESSES, max(2000, GUESSES // 10), 1)]
    took = []
    began = time.monotonic()
    while any(g.poll() is None for g in guessers) or len(took) < 10:
        for source in ("127.0.0.1", NEIGHBOUR):
            took.append(log_in(daemon, ca, source))		# raises if anything is refused
    seconds = time.monotonic() - began
    heard = [json.loads(g.communicate()[0]) for g in guessers]
    assert sum(heard[0].values()) == 40 and sum(heard[1].values()) == GUESSES
    assert "235" not in heard[0] and "235" not in heard[1]
    banned, deadline = heard[0], time.monotonic() + TIMEOUT
    # of many guesses at a time few are checked: it goes on alone
    while "421" not in banned:
        assert time.monotonic() < deadline, heard[0]
        banned = json.loads(guess(daemon, "plain", 40, 1, 77).communicate()[0])
    # the neighbour is banned, anna is not
    assert NEIGHBOUR in [ban["address"] for ban in daemon.ctl_json_lines("bans")]
    log_in(daemon, ca, NEIGHBOUR)
    sink.wait(len(took) + 7)
    stats = daemon.ctl_json("stats")
    assert stats["login_octets"] < 1 << 20
    took.sort()
    print("%d guesses in %.1f s: %s and %s; %d good logins meanwhile, ms: median %.0f, longest "
          "%.0f (calm: %.0f, %.0f); "
          "login_octets %d, RssAnon %d → %d KB" % (GUESSES, seconds, heard[0], heard[1], len(took),
          took[len(took) // 2] * 1e3, took[-1] * 1e3, before[len(before) // 2] * 1e3,
                                                   before[-1] * 1e3,
          stats["login_octets"], calm, memory(daemon)))
