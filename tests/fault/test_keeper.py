"""Two processes: started as root with a `user`, tramd is a keeper that stays root and a server that
has nothing but what the keeper gives it. What the keeper refuses a server that has been taken over
is tests/unit/test_keeper.c."""
import os
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile

import pytest

from certificates import Authority, certificate
from conftest import FAST
from harness import Tramd, free_port, program, quoted, wait_for
from sink import FEATURES
from test_certificates import put, serial_in, serial_of, wait_serial
from test_install import Manager, low_port
from test_sandbox import children, state

NOBODY = 65534
BODY = b"Subject: x\r\n\r\nbody\r\n"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Two(Tramd):
    """A tramd in a directory where the server owns its queue and the folder of its sockets, and
    nothing else."""

    def text(self):
        text = super().text()
        for name in ("control", "submission"):
            text = text.replace(quoted(os.path.join(self.place, name)),
                                quoted(os.path.join(self.place, "run", name)))
        self.control = os.path.join(self.place, "run", "control")
        return 'user = "nobody"\n' + text

    @property
    def server(self):
        return children(self.process.pid)[0]


@pytest.fixture
def make_two():
    made = []

    def make(start=True, **how):
        place = tempfile.mkdtemp(prefix="tram-two-")
        os.chmod(place, 0o755)
        for name, mode in (("queue", 0o700), ("run", 0o755)):
            os.mkdir(os.path.join(place, name), mode)
            os.chown(os.path.join(place, name), NOBODY, NOBODY)
        os.mkdir(os.path.join(place, "secret"), 0o700)
        made.append(Two(place, queue=FAST, **how))
        return made[-1].start() if start else made[-1]
    yield make
    for tramd in made:
        try:
            tramd.close()
        finally:
            print(tramd.tail())
            shutil.rmtree(tramd.place)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def secret(tramd):
    return pathlib.Path(tramd.place) / "secret"


def works(tramd, sink, count=1):
    tramd.send(BODY)
    sink.wait(count)
    tramd.wait_empty()


def gone(pid):
    return not os.path.exists("/proc/%d" % pid) or state(pid)["State"].startswith("Z")


def test_who_is_who(make_two, sink):
    """A port below 1024 by the keeper, everything else by the server; systemd hears the keeper
    alone."""
    tramd = make_two(static=sink, start=False)
    tramd.port = low_port()
    tramd.write_config(tramd.text())
    path = os.path.join(tramd.place, "notify")
    manager = Manager(path)
    manager.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    tramd.env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
    tramd.start()
    text, ancillary, _, _ = manager.socket.recvmsg(4096, 4096)
    assert text == b"READY=1" and int.from_bytes(ancillary[0][2][:4], "little") == tramd.process.pid
    manager.wait("WATCHDOG=1")
    keeper, server = state(tramd.process.pid), state(tramd.server)
    assert (keeper["Uid"].split() == ["0"] * 4 and keeper["Name"] == "tramd-keeper"
            and keeper["Threads"] == "1")
    assert server["Uid"].split() == [str(NOBODY)] * 4 and int(server["CapEff"], 16) == 0
    told = tramd.wait_log(event="sandbox")
    if told["level"] == "info":
        assert (server["Seccomp"] == "2" and server["NoNewPrivs"] == "1"
                and "reads and writes only" in told["msg"])
    works(tramd, sink)
    tramd.reload()
    manager.wait("RELOADING=1")
    manager.wait("READY=1")
    tramd.wait_log(event="reload")
    os.kill(tramd.process.pid, signal.SIGTERM)
    manager.wait("STOPPING=1")
    assert tramd.end() == 0 and tramd.events(event="stopped")


def test_what_only_root_may_read(make_two, sink, ca):
    """Keys that are renewed, named anew or missing; a password of a smarthost; a part of the
    configuration."""
    tramd = make_two(static=sink, start=False)
    place = secret(tramd)
    pairs = [ca.sign("s%d" % i, ["s.test"]) for i in range(3)]
    paths = put(place, pairs[0])
    shutil.copy(pairs[2][1], str(place / "next.pem"))
    (place / "part").write_text(certificate("mail", [paths]).rstrip().rstrip("}") +
                                "next-key = %s\n}\n" % quoted(str(place / "next.pem")))
    tramd.settings["extra"] = "include %s\n" % quoted(str(place / "part"))
    tramd.write_config(tramd.text())
    tramd.start()
    assert serial_of(tramd, ca) == serial_in(pairs[0][0])
    put(place, pairs[1])
    wait_serial(tramd, ca, pairs[1][0])
    (place / "new").mkdir(mode=0o700)
    paths = put(place / "new", pairs[2])
    os.chmod(paths[1], 0o600)
    (place / "part").write_text(certificate("mail", [paths]))
    assert "restart" not in tramd.ctl("reload")
    assert serial_of(tramd, ca) == serial_in(pairs[2][0])
    (place / "part").write_text(certificate("mail", [(paths[0], str(place / "missing"))]))
    refused = tramd.ctl("reload", check=False)
    assert refused.returncode != 0 and str(place / "missing").encode() in refused.stderr
    (place / "part").write_text("nonsense = 1\n")
    refused = tramd.ctl("reload", check=False)
    assert refused.returncode != 0 and b"secret/part:1" in refused.stderr
    assert serial_of(tramd, ca) == serial_in(pairs[2][0])
    works(tramd, sink)


def test_secrets_of_smarthosts(make_two, make_sink, ca):
    """A password from a file that is the keeper's, and a token from a command that the server could
    not run."""
    sink = make_sink(features=FEATURES + ("AUTH PLAIN XOAUTH2",),
                     tls=ca.sign("smarthost", ["relay.dst.test"]))
    sink.users = {"anna@dst.test": "pw"}
    tramd = make_two(static=sink, start=False)
    place = secret(tramd)
    shutil.copy(ca.path, tramd.place)
    (place / "pw").write_text("pw\n")
    command = os.path.join(tramd.place, "command")
    with open(command, "w", encoding="utf-8") as f:
        f.write('#!/bin/sh\n[ "$(id -u)" = %d ] && echo pw\n' % NOBODY)
    os.chmod(command, 0o755)

    def route(how):
        tramd.settings["routes"] = {"*": dict(
            {"deliver": "smtp:[127.0.0.1]:%d" % sink.port, "tls": "verify",
             "tls-names": '"relay.dst.test"', "user": '"anna@dst.test"'}, **how)}
        tramd.settings["extra"] = ("delivery-ca = %s\n"
                                   % quoted(os.path.join(tramd.place, os.path.basename(ca.path))))
        tramd.write_config(tramd.text())
    route({"password-file": quoted(str(place / "pw"))})
    tramd.start()
    works(tramd, sink)
    route({"token-command": [command]})
    assert "restart" not in tramd.ctl("reload")
    works(tramd, sink, 2)
    assert [m.user for m in sink.messages] == ["anna@dst.test"] * 2


def test_one_ends_with_the_other(make_two, sink):
    tramd = make_two(static=sink)
    for victim, status in ((tramd.process.pid, -signal.SIGKILL), (None, 75)):
        server = tramd.server
        os.kill(victim or server, signal.SIGKILL)
        assert tramd.end() == status
        wait_for(lambda: gone(server), what="the server's end")
        tramd.start()
    assert re.search("killed by signal 9", "\n".join(tramd.lines))
    os.kill(tramd.server, signal.SIGTERM)
    assert tramd.end() == 0
    tramd.start()
    other = make_two(static=sink, start=False)
    other.port = tramd.port
    other.write_config(other.text())
    other.start(ready=False)
    assert other.end() == 71 and "another program listens there" in other.tail(1)


def test_listeners_come_and_go(make_two, sink):
    """Also if a reload is refused in between, by the keeper or by the server."""
    tramd = make_two(static=sink)
    second, third = free_port(), free_port()
    good = tramd.text()

    def door(name, port):
        return 'listener %s { address = {"127.0.0.1:%d"} }\n' % (name, port)

    def answers(port):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
                return s.recv(3) == b"220"
        except (ConnectionRefusedError, ConnectionResetError):
            return False
    tramd.write_config(good + door("second", second))
    tramd.ctl("reload")
    assert answers(second)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", third))
        busy.listen()
        tramd.write_config(good + door("third", third))
        refused = tramd.ctl("reload", check=False)
        assert refused.returncode != 0 and b"another program listens there" in refused.stderr
    tramd.write_config(good + door("third", third) + 'passwords = "/nothing/there"\n')
    assert tramd.ctl("reload", check=False).returncode != 0
    assert answers(second)
    wait_for(lambda: not answers(third), what="the third is closed")
    tramd.write_config(good + door("third", third))
    tramd.ctl("reload")
    assert answers(third)
    wait_for(lambda: not answers(second), what="the second is closed")
    tramd.write_config(good + door("second", second))
    tramd.ctl("reload")
    assert answers(second)
    wait_for(lambda: not answers(third), what="the third is closed")
    works(tramd, sink)


def test_without_a_sandbox(make_two, sink):
    """Two processes all the same; the log is made anew by the server, local programs come in by the
    keeper's socket."""
    tramd = make_two(static=sink, start=False)
    logs = os.path.join(tramd.place, "logs")
    os.mkdir(logs)
    os.chown(logs, NOBODY, NOBODY)
    tramd.settings["extra"] = "sandbox = off\nlog { file = %s }\n" % quoted(logs + "/log")
    tramd.write_config(tramd.text())
    tramd.start()
    assert (state(tramd.server)["Seccomp"] == "0"
            and state(tramd.server)["Uid"].split() == [str(NOBODY)] * 4)
    os.rename(logs + "/log", logs + "/log.1")
    os.kill(tramd.process.pid, signal.SIGUSR1)
    wait_for(lambda: os.path.exists(logs + "/log"), what="a new log")
    subprocess.run([program("tram-sendmail"), "-C", tramd.config_path, "b@dst.test"], input=BODY,
                   check=True)
    sink.wait(1)
    tramd.wait_empty()
    tramd.stop()
    with open(logs + "/log") as f:
        assert "event=stopped" in f.read()


def test_a_signal_to_the_whole_group(make_two, sink):
    """As a terminal sends it: it counts once, and what is in progress goes on to its end."""
    tramd = make_two(static=sink, wrapper=["setsid"])
    assert os.getpgid(tramd.process.pid) == tramd.process.pid != os.getpgid(tramd.server)
    client = smtplib.SMTP("127.0.0.1", tramd.port, timeout=60)
    client.ehlo("c.test")
    client.mail("a@src.test")
    client.rcpt("b@dst.test")
    assert client.docmd("DATA")[0] == 354
    os.killpg(tramd.process.pid, signal.SIGINT)
    tramd.wait_log(event="stopping")
    client.send(BODY + b".\r\n")
    assert client.getreply()[0] == 250
    client.close()
    assert tramd.end() == 0
    assert tramd.events(event="stopped") and "cut off" not in tramd.tail()


@pytest.mark.parametrize("sandbox", ["on", "off"])
def test_links_in_the_server_s_folders(make_two, sink, sandbox):
    """Put there by a server that was taken over: root neither writes there, nor gives it away, nor
    reads it out."""
    tramd = make_two(static=sink, start=False)
    run = pathlib.Path(tramd.place) / "run"
    target = secret(tramd) / "target"
    target.write_text("b@dst.test\n")
    target.chmod(0o600)
    (run / "log").symlink_to(target)
    os.chown(run / "log", NOBODY, NOBODY, follow_symlinks=False)
    good = tramd.text() + "sandbox = %s\n" % sandbox
    tramd.write_config(good + "log { file = %s }\n" % quoted(str(run / "log")))
    tramd.start(ready=False)
    assert tramd.end() == 71 and "cannot open the log" in tramd.tail(1)
    assert target.stat().st_uid == 0 and target.read_text() == "b@dst.test\n"
    tramd.write_config(good + "passwords = %s\n" % quoted(str(run / "log")))
    tramd.start(ready=False)
    assert tramd.end() == 78 and not [line for line in tramd.lines if "b@dst" in line]
    assert "Permission denied" in "\n".join(tramd.lines)
    (run / "log").unlink()
    tramd.write_config(good + "log { file = %s }\n" % quoted(str(run / "log")))
    tramd.start(ready=False)
    wait_for(lambda: (run / "log").exists() and "event=ready" in (run / "log").read_text(),
             what="a log")
    assert (run / "log").stat().st_uid == NOBODY
    tramd.stop()


def test_an_address_to_send_from(make_two, sink):
    """The server may not listen, but it may choose the address that it sends from; also one that a
    reload brings."""
    tramd = make_two(routes={"*": {"deliver": "smtp:[127.0.0.1]:%d" % sink.port, "pool": '"p"'}},
                     extra='source "a" { address = "127.0.0.2" }\npool "p" { sources = "a" }\n')
    works(tramd, sink)
    assert sink.messages[0].peer == "127.0.0.2"
    text = open(tramd.config_path).read()
    tramd.write_config(text.replace("127.0.0.2", "127.0.0.3"))
    tramd.reload()
    tramd.wait_log(event="reload")
    works(tramd, sink, 2)
    assert sink.messages[1].peer == "127.0.0.3"
