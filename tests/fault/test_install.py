"""That tramd lives as the systemd unit wants it: as its user, with the capability for port 25
alone, confined, and telling the service manager what it does; and that man and sysusers take what
is installed for them.

There is no systemd here that could run it: confine.py and setpriv lay on what the unit says.
"""
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile

import pytest

from conftest import FAST
from harness import BUILD, ROOT, TIMEOUT, Tramd, program

HERE = os.path.dirname(os.path.abspath(__file__))
BODY = b"Subject: x\r\n\r\nbody\r\n"
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def needs(*programs):
    for one in programs:
        if not shutil.which(one):
            pytest.skip("needs " + one)


def page(name):
    found = os.path.join(BUILD, "contrib", name)
    if not os.path.exists(found):
        pytest.skip("the manual is not built")
    return found


def test_manual():
    """man shows each page without a complaint."""
    needs("man")
    for name in ("tramd.8", "tramctl.8", "tram-sendmail.8", "tram.conf.5"):
        done = subprocess.run(["man", "--warnings=all", "-l", page(name)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=TIMEOUT, check=True,
                              env=dict(os.environ, LC_ALL="C.UTF-8", MANWIDTH="80", MANPAGER="cat",
                                       MANROFFOPT=""))
        assert not done.stderr, done.stderr
        text = done.stdout.decode()
        assert "NAME" in text and "SEE ALSO" in text and len(text.splitlines()) > 60


@as_root
def test_user(tmp_path):
    needs("systemd-sysusers")
    (tmp_path / "etc").mkdir()
    done = subprocess.run(["systemd-sysusers", "--root=" + str(tmp_path),
                           os.path.join(ROOT, "contrib", "tram.sysusers")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout
    user = (tmp_path / "etc" / "passwd").read_text().split(":")
    assert user[0] == "tram" and user[4:6] == ["tram mail relay",
                                               "/var/lib/tram"] and "nologin" in user[6]
    assert (tmp_path / "etc" / "group").read_text().startswith("tram:")


# ---- under the unit ------------------------------------------------------------------------------

class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        os.chmod(path, 0o666)
        self.socket.settimeout(TIMEOUT)

    def wait(self, *wanted):
        """Reads until one of these comes; returns what came on the way."""
        came = []
        while not came or came[-1] not in wanted:
            came.append(self.socket.recv(4096).decode())
        return came


@pytest.fixture
def service(sink):
    """A directory as the unit makes them, and service(wrapper, …) → a tramd in it."""
    place = tempfile.mkdtemp(prefix="tram-service-")
    os.chmod(place, 0o755)
    for name, mode in (("queue", 0o750), ("run", 0o755)):
        os.mkdir(os.path.join(place, name))
        os.chmod(os.path.join(place, name), mode)
        os.chown(os.path.join(place, name), NOBODY, NOBODY)
    shutil.copy(program("tramd"), place)
    made = []

    def make(wrapper, **how):
        tramd = Tramd(place, static=sink, queue=FAST, program_path=os.path.join(place, "tramd"),
                      wrapper=wrapper, **how)
        tramd.control, tramd.submission = (os.path.join(place, "run", name)
                                           for name in ("control", "submission"))
        tramd.write_config(tramd.text())
        made.append(tramd)
        return tramd
    yield make
    for tramd in made:
        tramd.close()
        print(tramd.tail())
    shutil.rmtree(place)


def as_user(*capabilities):
    kept = ",".join("+" + c for c in capabilities)
    return ["setpriv", "--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups",
            "--no-new-privs",
            "--bounding-set=-all" + ("," + kept if kept else ""),
            "--inh-caps=-all" + ("," + kept if kept else "")] + \
           (["--ambient-caps=-all," + kept] if kept else [])


def own_address():
    """One of this machine's, not of the loopback if there is another."""
    text = subprocess.run(["ip", "-4", "-o", "addr"], stdout=subprocess.PIPE, timeout=TIMEOUT,
                          check=True).stdout.decode()
    return sorted(re.findall(r" inet ([0-9.]+)/", text),
                  key=lambda address: address.startswith("127."))[0]


def sanitized():
    with open(program("tramd"), "rb") as f:
        return b"__asan_init" in f.read()


@as_root
def test_notify(service, sink):
    """READY when mail is taken, RELOADING and STOPPING, and a sign of life as often as it is
    wanted."""
    tramd = service([])
    path = os.path.join(tramd.place, "notify")
    manager = Manager(path)
    for name in ("queue", "run"):
        os.chown(os.path.join(tramd.place, name), 0, 0)
    tramd.env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
    tramd.start(ready=False)
    manager.wait("READY=1")
    assert tramd.is_up()
    for _ in range(3):
        manager.wait("WATCHDOG=1")
    tramd.reload()
    manager.wait("RELOADING=1")
    manager.wait("READY=1")
    tramd.process.terminate()
    manager.wait("STOPPING=1")
    assert tramd.end() == 0


@as_root
@pytest.mark.skipif(sanitized(), reason="a sanitizer needs more than the unit allows")
def test_confined(service, sink):
    """Under the unit's filter of system calls and all it forbids everything works: relaying,
    tramctl, reload, and finding out which addresses are its own."""
    needs("systemd-analyze", "setpriv", "ip")
    unit = os.path.join(ROOT, "contrib", "tram.service")
    tramd = service(as_user() + ["/usr/bin/python3", os.path.join(HERE, "confine.py"), unit])
    tramd.settings["listener"] = {"address": ["0.0.0.0:%d" % tramd.port]}
    tramd.write_config(tramd.text())
    tramd.start()
    with open("/proc/%d/status" % tramd.process.pid) as f:
        status = f.read()
    assert re.search(r"(?m)^Seccomp:\s+2$", status) and re.search(r"(?m)^NoNewPrivs:\s+1$", status)
    assert "forbidden here" not in tramd.wait_log(event="sandbox")["msg"]
    tramd.send(BODY)
    tramd.send(b"Subject: long\r\n\r\n" + b"x" * 70 + b"\r\n" * 200000)
    subprocess.run([program("tram-sendmail"), "-C", tramd.config_path, "b@dst.test"], input=BODY,
                   check=True, timeout=TIMEOUT)
    sink.wait(3)
    tramd.wait_empty()
    for name, mode in (("control", 0o660), ("submission", 0o666)):
        there = os.stat(os.path.join(tramd.place, "run", name))
        assert stat.S_IMODE(there.st_mode) == mode and there.st_uid == NOBODY
    good = tramd.text()
    tramd.write_config(good + 'route "loop.test" { deliver = "smtp:[%s]:%d" }\n' % (own_address(),
                                                                                    tramd.port))
    refused = tramd.ctl("reload", check=False)
    assert refused.returncode != 0 and b"is a listener of this server" in refused.stderr, refused
    tramd.write_config(good)
    tramd.ctl("reload")
    tramd.stop()


def low_port():
    for port in range(1023, 600, -1):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    pytest.skip("no port below 1024 is free")


@as_root
def test_low_port(service, sink):
    """With CAP_NET_BIND_SERVICE alone it takes a port below 1024; without it says what is
    missing."""
    needs("setpriv")
    tramd = service(as_user("net_bind_service"))
    tramd.port = low_port()
    tramd.write_config(tramd.text())
    tramd.start()
    with open("/proc/%d/status" % tramd.process.pid) as f:
        assert re.search(r"(?m)^CapEff:\s+0*400$", f.read())
    tramd.send(BODY)
    sink.wait(1)
    tramd.wait_empty()
    tramd.stop()
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
        if int(f.read()) <= tramd.port:
            return
    tramd.wrapper = as_user()
    tramd.start(ready=False)
    assert tramd.end() == 71 and str(tramd.port) in tramd.tail(1), tramd.tail()
