"""A smarthost's token from a command: how it is run, how often, how long its token is used, and
what happens if it fails, hangs or prints something else."""
import os
import smtplib

import pytest

from conftest import FAST
from harness import quoted, wait_for
from sink import FEATURES

DATA = b"From: a@src.test\r\nSubject: token\r\n\r\nbody\r\n"
HOST, USER = "127.0.0.1", "anna@dst.test"


class Command:
    """A script that notes each run, and then does what it is told now."""

    def __init__(self, place):
        self.runs_path, self.body_path, self.path = (str(place / "runs"), str(place / "body"),
                                                     str(place / "get token"))
        with open(self.path, "w", encoding="utf-8") as f:
            f.write('#!/bin/sh\necho "$$ $1" >> "%s"\n. "%s"\n' % (self.runs_path, self.body_path))
        os.chmod(self.path, 0o755)

    def does(self, body):
        with open(self.body_path + ".new", "w", encoding="utf-8") as f:
            f.write(body + "\n")
        os.rename(self.body_path + ".new", self.body_path)

    @property
    def runs(self):
        """What it was given, for each time; with the number of its process."""
        if not os.path.exists(self.runs_path):
            return []
        with open(self.runs_path, encoding="utf-8") as f:
            return [line.rstrip("\n").split(" ", 1) for line in f]


@pytest.fixture
def command(tmp_path):
    return Command(tmp_path)


@pytest.fixture
def make_smarthost(make_sink, ca):
    def make(token, mechanism="XOAUTH2"):
        sink = make_sink(features=FEATURES + ("AUTH PLAIN " + mechanism,),
                         tls=ca.sign("smarthost", ["relay.dst.test"]))
        sink.users = {USER: token}
        return sink
    return make


@pytest.fixture
def make_relay(make_tramd, ca, command):
    def make(sink, limits=None, extra="", **route):
        settings = {"tls": "verify", "tls-names": '"relay.dst.test"', "user": quoted(USER),
                    "token-command": [command.path, "an argument; $HOME"],
                    "messages-per-connection": "1", "deliver": "smtp:[%s]:%d" % (HOST, sink.port)}
        settings.update({k.replace("_", "-"): v for k, v in route.items()})
        return make_tramd(routes={"*": settings}, queue=FAST, limits=limits,
                          extra="delivery-ca = %s\n%s" % (quoted(ca.path), extra))
    return make


def send(daemon, count=1):
    with smtplib.SMTP(HOST, daemon.port) as client:
        for i in range(count):
            client.sendmail("a@src.test", ["b%d@dst.test" % i], DATA)


@pytest.mark.quick
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_one_run_for_many(make_relay, make_smarthost, command, tmp_path, mechanism):
    """Many deliveries on three threads wait for one run, and its token serves those that follow."""
    go = tmp_path / "go"
    command.does('while [ ! -e "%s" ]; do sleep 0.05; done; env > "%s/env"; pwd > "%s/pwd"; ls '
                 '/proc/self/fd > "%s/fds"\n'
                 'echo \'{"access_token": "eyJ.long~token+/=", "expires_in": "3599", "token_type": '
                 '"Bearer"}\'' %
                 ((go,) + (tmp_path,) * 3))
    sink = make_smarthost("eyJ.long~token+/=", mechanism)
    daemon = make_relay(sink, extra="threads = 3\n")
    send(daemon, 12)
    wait_for(lambda: len({s for s, line in sink.lines if line.startswith("EHLO")}) >= 3,
             what="some connections")
    go.touch()
    assert all(message.user == USER for message in sink.wait(12))
    send(daemon, 3)
    sink.wait(15)
    assert [words for _, words in command.runs] == ["an argument; $HOME"]
    assert 3000 < int(daemon.wait_log(event="token")["good_for"]) <= 3599
    environment = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    environment.pop("PWD", None)		# the shell's own
    assert set(environment) <= {"PATH", "LANG", "HOME", "_", "OLDPWD",
                                "SHLVL"} and environment["HOME"] == "/"
    assert (tmp_path / "pwd").read_text() == "/\n"
    # 0, 1, 2, and the one that ls reads it by
    assert len((tmp_path / "fds").read_text().split()) == 4
    with open(daemon.log_path, encoding="utf-8") as log:
        assert "eyJ" not in log.read()


def test_a_token_ends(make_relay, make_smarthost, command):
    """One that has expired is not used again; one that does not say is used for token-lifetime; a
    reload forgets."""
    command.does("echo '{\"access_token\": \"t\", \"expires_in\": 0}'")
    sink = make_smarthost("t")
    daemon = make_relay(sink)
    for number in 1, 2:
        send(daemon)
        sink.wait(number)
        assert len(command.runs) == number
    command.does("echo t")
    for number in 3, 4:
        send(daemon)
        sink.wait(number)
        assert len(command.runs) == 3
    daemon.reload()
    daemon.wait_log(event="reload")
    send(daemon)
    sink.wait(5)
    assert len(command.runs) == 4


def test_a_refused_token_is_got_anew_once(make_relay, make_smarthost, command):
    command.does("echo old")
    sink = make_smarthost("old")
    daemon = make_relay(sink)
    send(daemon)
    sink.wait(1)
    sink.users = {USER: "new"}			# and the old one is taken back
    command.does("echo new")
    send(daemon)
    assert sink.wait(2)[1].session == 2		# on the connection on which it was refused
    assert (len(command.runs), len(sink.commands("AUTH"))) == (2, 3)
    sink.users = {USER: "nobody has it"}
    send(daemon)
    assert "535" in daemon.wait_log(event="host-failed")["reply"]
    assert sink.commands("AUTH").count(sink.commands("AUTH")[-1]) >= 2
    command.does("echo 'nobody has it'")	# no token at all: blanks
    daemon.wait_log(event="token-failed")
    command.does("echo better")
    sink.users = {USER: "better"}
    sink.wait(3)
    assert not daemon.events(event="final", outcome="failed")


@pytest.mark.parametrize("body,why", [
    ("echo 'no such account' >&2; echo more >&2; exit 3",
     "it ended with status 3; it says: no such account"),
    ("sleep 1000 & sleep 1000", "it had not ended after 2000 ms, and was killed"),
    ("head -c 200000 /dev/zero | tr '\\0' x", "it prints more than 1024 octets"),
    ("echo 'Usage: get-token [OPTION]'", "what it prints is not a token"),
    ("true", "it prints no token"),
    ("echo '{\"error\": \"invalid_grant\"}'", "the JSON that it prints has no access_token"),
    ("echo '{\"access_token\": '", "what it prints begins like JSON, but is not"),
    ("kill -9 $$", "it was killed by signal 9"),
], ids=["status", "hang", "flood", "words", "nothing", "error", "cut", "killed"])
def test_no_token(make_relay, make_smarthost, command, body, why):
    command.does(body)
    sink = make_smarthost("t")
    daemon = make_relay(sink, limits={"token-timeout": "2s" if "2000 ms" in why else "20s",
                                      "token-output": "1KB"})
    send(daemon)
    assert daemon.wait_log(event="token-failed")["why"] == why
    reply = daemon.wait_log(event="host-failed")["reply"]
    assert "token-command failed" in reply and why not in reply, "it may be told to the sender"
    assert not sink.commands("AUTH") and not daemon.events(event="final")
    command.does("echo t")
    assert sink.wait(1)[0].user == USER


def test_what_it_leaves_behind(make_relay, make_smarthost, command, tmp_path):
    """A process in the background that holds its output open keeps nobody waiting, and ends."""
    command.does('sleep 1000 & echo $! > "%s/left"; echo t' % tmp_path)
    sink = make_smarthost("t")
    send(make_relay(sink))
    sink.wait(1)
    wait_for(lambda: gone((tmp_path / "left").read_text()), what="its child is gone")


def test_a_stop_does_not_wait_for_it(make_relay, make_smarthost, command):
    command.does("sleep 1000")
    daemon = make_relay(make_smarthost("t"), limits={"token-timeout": "10m", "auth-timeout": "1h"})
    send(daemon)
    wait_for(lambda: command.runs, what="the command runs")
    daemon.stop()
    wait_for(lambda: gone(command.runs[0][0]), what="it is gone")


def gone(pid):
    try:
        with open("/proc/%d/stat" % int(pid), encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
