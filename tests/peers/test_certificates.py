"""Certificates as files: what is refused before the start, what happens when they change while
tramd runs, and what its operator is told of them."""
import os
import re
import shutil
import smtplib
import ssl
import subprocess
import threading

import pytest

from certificates import Authority, certificate, openssl
from clock import Clock
from conftest import FAST
from harness import TIMEOUT, block, free_port, wait_for
from test_clients import need
from tls_client import TlsRaw, context

HOST = "127.0.0.1"
DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nbody\r\n"


@pytest.fixture
def place(tmp_path):
    made = tmp_path / "certificates"
    made.mkdir()
    return made


def put(place, pair):
    """Copies a pair to chain.pem and key.pem, each in one step; returns their paths."""
    paths = []
    for source, name in zip(pair, ("chain.pem", "key.pem")):
        path = str(place / name)
        shutil.copy(source, path + ".new")
        os.rename(path + ".new", path)
        paths.append(path)
    return tuple(paths)


@pytest.fixture
def make_secure(make_tramd, sink):
    def make(sections, **how):
        return make_tramd(static=sink, queue=FAST, extra=sections + how.pop("extra", ""), **how)
    return make


def serial_of(daemon, ca, port=None):
    with TlsRaw(HOST, daemon.port) as c:
        c.start_tls(context(ca.path))
        c.hello()
        return c.socket.getpeercert()["serialNumber"]


def serial_in(path):
    shown = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-serial"],
                           stdout=subprocess.PIPE, check=True)
    return shown.stdout.decode().strip().split("=")[1]


def wait_serial(daemon, ca, path, count=1):
    daemon.wait_log(event="certificate-read", count=count)
    # each reactor takes them over in its own time
    for _ in range(1000):
        if serial_of(daemon, ca) == serial_in(path):
            return
    raise AssertionError("the new certificate is not used")


# ---- what is refused

def refusal(make_secure, sections):
    daemon = make_secure(sections, start=False)
    done = daemon.run_tool("tramd", "-n", check=False)
    assert done.returncode == 78, (done.returncode, done.stderr)
    assert subprocess.run([daemon.program, "-c", daemon.config_path], stdin=subprocess.DEVNULL,
                          timeout=TIMEOUT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE).returncode == 78
    return done.stderr.decode("utf-8", "replace").splitlines()[-1]


def test_refused(make_secure, ca, place):
    """Each with the file's name and what to do."""
    pair, other, rsa = ca.sign("a", ["a.test"]), ca.sign("b", ["b.test"]), ca.sign("r", ["a.test"],
                                                                                   kind="rsa")
    missing, rubbish, locked, weak = (str(place / n)
                                      for n in ("missing.pem", "rubbish.pem", "locked.key",
                                                "weak.pem"))
    with open(rubbish, "wb") as f:
        f.write(b"-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    openssl("ec", "-in", pair[1], "-aes128", "-passout", "pass:secret", "-out", locked)
    openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak", "-keyout",
            weak + ".key", "-out", weak)
    for pairs, ocsp, file, said in (
            ([(missing, pair[1])], (), missing, "No such file"),
            ([(pair[0], missing)], (), missing, "No such file"),
            ([(str(place), pair[1])], (), str(place), "not a readable chain"),
            ([(rubbish, pair[1])], (), rubbish, "not a readable chain"),
            ([(pair[1], pair[1])], (), pair[1], "not a readable chain"),
            ([(pair[0], pair[0])], (), pair[0], "not a readable private key"),
            ([(pair[0], rubbish)], (), rubbish, "not a readable private key"),
            ([(pair[0], locked)], (), locked, "without a password"),
            ([(pair[0], other[1])], (), other[1], "does not belong to the first certificate"),
            ([(pair[0], rsa[1])], (), rsa[1], "does not belong to the first certificate"),
            ([(weak, weak + ".key")], (), weak, "too weak"),
            ([pair, other], (), other[0], "two EC certificates"),
            ([pair], [missing], missing, "No such file"),
            ([pair], [rubbish], rubbish, "not an OCSP response"),
            ([pair], [str(place)], str(place), "Is a directory")):
        line = refusal(make_secure, certificate("mail", pairs, ocsp))
        assert file in line and said in line and ";" in line, line


def test_key_that_all_can_read(make_secure, ca, place):
    paths = put(place, ca.sign("a", ["a.test"]))
    os.chmod(paths[1], 0o644)
    daemon = make_secure(certificate("mail", [paths]), start=False)
    said = daemon.run_tool("tramd", "-n").stderr.decode()
    assert "%s: everybody" % paths[1] in said
    os.chmod(paths[1], 0o640)
    assert "everybody" not in daemon.run_tool("tramd", "-n").stderr.decode()


def test_refused_client_ca(make_secure, ca, place):
    with open(str(place / "empty.pem"), "wb"):
        pass
    sections = certificate("mail", [ca.sign("a", ["a.test"])])
    for path in (str(place / "missing.pem"), str(place / "empty.pem")):
        daemon = make_secure(sections, start=False, listener={"client-certificates": "required",
                                                              "client-ca": '"%s"' % path})
        done = daemon.run_tool("tramd", "-n", check=False)
        assert (done.returncode == 78 and path.encode() in done.stderr
                and b"client-ca" in done.stderr), done.stderr


def test_reload_with_a_mistake_changes_nothing(make_secure, ca, place):
    paths = put(place, ca.sign("a", ["a.test"]))
    daemon = make_secure(certificate("mail", [paths]))
    serial = serial_of(daemon, ca)
    daemon.settings["extra"] = certificate("mail", [(paths[0], str(place / "missing.pem"))])
    daemon.write_config(daemon.text())
    done = daemon.ctl("reload", check=False)
    assert done.returncode == 1 and b"missing.pem" in done.stderr
    assert serial_of(daemon, ca) == serial


@pytest.mark.parametrize("before, after", [(1, 4), (4, 1)])
def test_reload_with_other_threads(make_secure, ca, place, before, after):
    """They need a restart; the certificates are read for those that run."""
    paths = put(place, ca.sign("a", ["a.test"]))
    daemon = make_secure(certificate("mail", [paths]), extra="threads = %d\n" % before)
    daemon.settings["extra"] = certificate("mail", [paths]) + "threads = %d\n" % after
    daemon.write_config(daemon.text())
    assert "threads" in daemon.ctl("reload")
    held = [TlsRaw(HOST, daemon.port) for _ in range(12)]		# some on each thread
    for c in held:
        c.start_tls(context(ca.path))
        c.hello()
    for c in held:
        c.quit()


# ---- what changes while it runs

@pytest.mark.quick
def test_changed_files_are_read(make_secure, ca, place):
    paths = put(place, ca.sign("a", ["a.test"]))
    daemon = make_secure(certificate("mail", [paths]), extra="threads = 3\n")
    with TlsRaw(HOST, daemon.port) as old:
        old.start_tls(context(ca.path))
        old.hello()
        for count in (1, 2, 3):
            paths = put(place, ca.sign("b%d" % count, ["b.test"]))
            wait_serial(daemon, ca, paths[0], count)
        old.message(DATA)		# began with the first
        old.quit()
    assert not daemon.events(event="reload")
    assert daemon.ctl_json_lines("certs")[0]["names"] == "b.test"


def test_links_are_turned(make_secure, ca, tmp_path):
    """As certbot does: live/NAME.pem → ../archive/NAME2.pem; and a whole folder behind a link."""
    live = tmp_path / "live"
    live.mkdir()
    for number in (1, 2):
        folder = tmp_path / ("archive%d" % number)
        folder.mkdir()
        put(folder, ca.sign("n%d" % number, ["n%d.test" % number]))

    def turn(link, to):
        os.symlink(str(to), str(link) + ".new")
        os.rename(str(link) + ".new", str(link))
    turn(live / "chain.pem", tmp_path / "archive1" / "chain.pem")
    turn(live / "key.pem", tmp_path / "archive1" / "key.pem")
    turn(live / "data", tmp_path / "archive1")
    daemon = make_secure(certificate("files", [(str(live / "chain.pem"), str(live / "key.pem"))]) +
                         certificate("folder", [(str(live / "data/chain.pem"),
                                                 str(live / "data/key.pem"))]))
    turn(live / "chain.pem", tmp_path / "archive2" / "chain.pem")
    turn(live / "key.pem", tmp_path / "archive2" / "key.pem")
    wait_serial(daemon, ca, str(tmp_path / "archive2" / "chain.pem"))
    turn(live / "data", tmp_path / "archive2")
    daemon.wait_log(event="certificate-read", names="n2.test", certificate="folder",
                    expires=re.compile("^20"))


def test_half_a_pair_changes_nothing(make_secure, ca, place):
    """The chain is there, the key is not yet: the old pair goes on, the log says why, and then the
    new one comes."""
    paths = put(place, ca.sign("a", ["a.test"]))
    daemon = make_secure(certificate("mail", [paths]))
    serial = serial_of(daemon, ca)
    new = ca.sign("b", ["b.test"])
    shutil.copy(new[0], paths[0])
    warning = daemon.wait_log(event="certificates", level="warning")
    assert paths[1] in warning["msg"] and "does not belong" in warning["msg"]
    assert serial_of(daemon, ca) == serial
    os.unlink(paths[1])
    assert "No such file" in daemon.wait_log(event="certificates", level="warning", count=2)["msg"]
    assert serial_of(daemon, ca) == serial
    shutil.copy(new[1], paths[1])
    wait_serial(daemon, ca, paths[0])


def test_what_was_given_back_is_no_change(make_secure, ca, place):
    paths = put(place, ca.sign("a", ["a.test"]))
    daemon = make_secure(certificate("mail", [paths]))
    os.rename(paths[1], paths[1] + ".away")
    daemon.wait_log(event="certificates", level="warning")
    os.rename(paths[1] + ".away", paths[1])
    daemon.wait_log(event="certificates", level="info", msg=re.compile("again what they were"))
    assert not daemon.events(event="certificate-read")


def test_a_folder_that_comes_back(make_secure, ca, place, tmp_path):
    """Nobody says so: it was not there to be watched. It is found by the minute."""
    clock = Clock(tmp_path)
    paths = put(place, ca.sign("a", ["a.test"]))
    daemon = make_secure(certificate("mail", [paths]), env=clock.env)
    os.rename(str(place), str(place) + ".away")
    daemon.wait_log(event="certificates", level="warning", msg=re.compile("No such file"))
    place.mkdir()
    put(place, ca.sign("b", ["b.test"]))
    clock.forward(61)
    wait_for(lambda: serial_of(daemon, ca) == serial_in(paths[0]),
             what="the new certificate is used")


def test_new_ocsp_response(make_secure, ca, place):
    pair = ca.sign("a", ["a.test"])
    other = ca.ocsp("c", ca.sign("c", ["c.test"])[0])
    path = str(place / "ocsp.der")
    shutil.copy(other, path)
    daemon = make_secure(certificate("mail", [pair], [path]))
    assert daemon.ctl_json_lines("certs")[0]["ocsp"] == "of another certificate"
    shutil.copy(ca.ocsp("a", pair[0]), path)
    daemon.wait_log(event="certificate-read")
    assert daemon.ctl_json_lines("certs")[0]["ocsp"] == "stapled"


def test_new_client_ca(make_secure, ca, place, tmp_path):
    path, second = str(place / "clients.pem"), Authority(tmp_path / "second", "second authority")
    shutil.copy(ca.path, path)
    daemon = make_secure(certificate("mail", [ca.sign("a", ["a.test"])]),
                         listener={"client-certificates": "required", "client-ca": '"%s"' % path})
    client = context(ca.path, "1.2", pair=second.sign("client", ["client.test"]))
    with TlsRaw(HOST, daemon.port) as c, pytest.raises((ssl.SSLError, ConnectionResetError)):
        c.start_tls(client)
    shutil.copy(second.path, path)
    daemon.wait_log(event="certificate-read")
    with TlsRaw(HOST, daemon.port) as c:
        c.start_tls(client)
        c.hello()


def test_renewals_under_load(make_secure, sink, ca, place):
    """No handshake fails, no message is lost; reloads come on top."""
    pairs = [ca.sign("p%d" % i, ["p.test"], kind="rsa" if i % 2 else "ec") for i in range(4)]
    paths = put(place, pairs[0])
    daemon = make_secure(certificate("mail", [paths]), extra="threads = 2\n")
    done, errors, sent = threading.Event(), [], []

    def work(number):
        ctx = context(ca.path, "1.2" if number % 2 else "1.3")
        try:
            while not done.is_set():
                with TlsRaw(HOST, daemon.port) as c:
                    c.start_tls(ctx)
                    c.hello()
                    sent.append(c.message(DATA))
                    c.quit()
        except Exception as error:		# told by the main thread
            errors.append(error)
    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    try:
        for i in range(1, 6):
            put(place, pairs[i % 4])
            daemon.wait_log(event="certificate-read", count=i)
            if i == 3:
                daemon.ctl("reload")
    finally:
        done.set()
        for worker in workers:
            worker.join(TIMEOUT)
    assert not errors and len(sent) > 20, errors
    sink.wait(len(sent))


def test_reload_in_the_midst_of_data(make_secure, sink, ca, place):
    paths = put(place, ca.sign("a", ["a.test"]))
    daemon = make_secure(certificate("mail", [paths]))
    with TlsRaw(HOST, daemon.port) as c:
        c.start_tls(context(ca.path))
        c.hello()
        c.envelope("a@src.test", ["b@dst.test"])
        c.command("DATA", 354)
        c.send(DATA)
        put(place, ca.sign("b", ["b.test"]))
        daemon.wait_log(event="certificate-read")
        daemon.ctl("reload")
        daemon.settings["extra"] = ""
        daemon.write_config(daemon.text())
        daemon.ctl("reload")			# and now without any certificate
        c.send("line\r\n.\r\n")
        c.reply(250)
        c.quit()
    assert sink.wait(1)[0].data.endswith(DATA + b"line\r\n")
    with TlsRaw(HOST, daemon.port) as c:
        c.hello()
        assert "STARTTLS" not in c.features
    assert daemon.ctl("certs").strip() == "No certificate is in use."


# ---- what the operator is told

def test_certs(make_secure, ca):
    ec, rsa, other = ca.sign("ec", ["a.test",
                                    "b.test"]), ca.sign("rsa", ["a.test"],
                                                        kind="rsa"), ca.sign("o", ["o.test"])
    more = block("listener", "smtps",
                 {"address": ["%s:%d" % (HOST, free_port())], "tls-on-connect": "yes"}) + \
        block("listener", "plain", {"address": ["%s:%d" % (HOST, free_port())], "tls": "off"})
    daemon = make_secure(certificate("mail", [ec, rsa]) + certificate("other", [other]) + more +
                         'delivery-certificate = "other"\n')
    rows = daemon.ctl_json_lines("certs")
    assert [(r["certificate"], r["names"], r["key"], r["file"]) for r in rows] == [
        ("mail", "a.test, b.test", "EC 256", ec[0]), ("mail", "a.test", "RSA 2048", rsa[0]),
        ("other", "o.test", "EC 256", other[0])]
    assert [r["used_by"] for r in rows] == [["smtp", "smtps"]] * 2 + [["smtp", "smtps", "delivery"]]
    assert all(r["days_left"] == 29 and r["ocsp"] == "none" for r in rows)
    text = daemon.ctl("certs").splitlines()
    assert text[0].split()[:2] == ["CERTIFICATE", "KEY"] and len(text) == 4
    assert "smtp, smtps, delivery" in text[3] and "in 29 d" in text[3] and other[0] in text[3]
    assert not daemon.events(event="certificate")


def test_warning_before_expiry(make_secure, ca):
    soon = ca.sign("soon", ["soon.test"], days=3)
    daemon = make_secure(certificate("mail", [soon]))
    line = daemon.wait_log(event="certificate", level="warning")["msg"]
    assert soon[0] in line and "soon.test" in line and "expires in 2 days" in line
    assert b"expires in 2 days" in daemon.run_tool("tramd", "-n").stderr
    daemon.settings["extra"] += "certificate-warning = 1d\n"
    daemon.write_config(daemon.text())
    daemon.ctl("reload")
    assert len(daemon.events(event="certificate")) == 1


def test_warning_of_what_has_expired(make_secure, ca):
    need("faketime")
    gone = ca.sign("gone", ["gone.test"], days=-1)
    daemon = make_secure(certificate("mail", [gone]))
    assert "has expired" in daemon.wait_log(event="certificate", level="warning")["msg"]
    assert daemon.ctl_json_lines("certs")[0]["days_left"] < 0
    with smtplib.SMTP(HOST, daemon.port, timeout=TIMEOUT) as client, pytest.raises(ssl.SSLError):
        client.starttls(context=ssl.create_default_context(cafile=ca.path))


def test_warned_of_each_day(make_secure, ca, tmp_path):
    clock = Clock(tmp_path)
    daemon = make_secure(certificate("mail", [ca.sign("soon", ["soon.test"], days=12)]),
                         env=clock.env)
    for warned in (2, 3, 4):
        clock.forward(86400)			# what asks it wakes it
        wait_for(lambda: daemon.ctl_json_lines("certs")
                 and len(daemon.events(event="certificate")) >= warned,  # noqa: B023
                 what="a day passes")
    daemon.stop()
    days = [int(re.search(r"in (\d+) days", e["msg"])[1])
            for e in daemon.events(event="certificate")]
    assert days == sorted(set(days), reverse=True) and len(days) == 4, days
