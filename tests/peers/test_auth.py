"""Users log in: with what, where, as whom they may send, and what guessing costs."""
import base64
import ctypes
import ctypes.util
import hashlib
import hmac
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
import time

import pytest

from conftest import FAST
from dovecot import Dovecot
from harness import TIMEOUT, free_port, program, quoted, wait_for

HOST = "127.0.0.1"
USER, PASSWORD = "anna@src.test", "secret 1"
DATA = "From: anna@src.test\r\nSubject: way\r\n\r\nbody\r\n"


@pytest.fixture(scope="module")
def entry():
    made = subprocess.run([program("tramctl"), "password", USER], input=PASSWORD.encode(),
                          stdout=subprocess.PIPE, check=True)
    return made.stdout.decode()


@pytest.fixture
def make_server(make_tramd, sink, ca, entry, tmp_path):
    """A tramd that nobody may relay through without logging in; daemon.ports: submission, smtps,
    plain, port25."""
    def make(extra="", limits=None, passwords=entry, senders=None, submission="", backend=None):
        chain, key = ca.sign("mail", ["tram.test"])
        (tmp_path / "passwords").write_text(passwords)
        os.chmod(tmp_path / "passwords", 0o600)
        ports = {name: free_port() for name in ("submission", "smtps", "plain")}
        text = "certificate mail { chain = %s key = %s }\n" % (quoted(chain), quoted(key))
        text += backend or "passwords = %s\n" % quoted(str(tmp_path / "passwords"))
        if senders:
            (tmp_path / "senders").write_text(senders)
            text += "senders = %s\n" % quoted(str(tmp_path / "senders"))
        for name, more in (("submission", "tls = required auth = required " + submission),
                           ("smtps", "tls-on-connect = yes auth = required"),
                           ("plain", "tls = off auth = optional auth-without-tls = yes")):
            text += "listener %s { address = \"%s:%d\" %s }\n" % (name, HOST, ports[name], more)
        daemon = make_tramd(static=sink, queue=FAST, relay_from=(), limits=limits,
                            extra=text + extra)
        daemon.ports = ports
        return daemon
    return make


def client(daemon, ca, port="submission"):
    context = ssl.create_default_context(cafile=ca.path)
    if port == "smtps":
        c = smtplib.SMTP_SSL(HOST, daemon.ports[port], context=unnamed(context),
                             timeout=2 * TIMEOUT)
        c.ehlo("src.test")
        return c
    c = smtplib.SMTP(HOST, daemon.ports[port], timeout=2 * TIMEOUT)
    c.ehlo("src.test")
    if port == "submission":
        c.starttls(context=unnamed(context))
        c.ehlo("src.test")
    return c


def unnamed(context):
    context.check_hostname = False
    return context


def scram(c, user, password, binding=None, lie=False):
    """SCRAM-SHA-256 or -PLUS, written from RFC 5802 alone; raises if the server cannot prove
    itself."""
    def b64(octets):
        return base64.b64encode(octets).decode()
    gs2 = b"p=tls-exporter,," if binding else b"n,,"
    first = b"n=%s,r=fyko+d2lbbFgONRv9qkxdawL" % user.encode()
    mechanism = "SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"
    code, challenge = c.docmd("AUTH", "%s %s" % (mechanism, b64(gs2 + first)))
    assert code == 334, challenge
    server_first = base64.b64decode(challenge)
    parts = dict(part.split(b"=", 1) for part in server_first.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts[b"s"]),
                                 int(parts[b"i"]))
    without = b"c=" + base64.b64encode(gs2
                                       + (b"x" * 32 if lie else binding
                                          or b"")) + b",r=" + parts[b"r"]
    message = first + b"," + server_first + b"," + without
    key = hmac.new(salted, b"Client Key", "sha256").digest()
    signature = hmac.new(hashlib.sha256(key).digest(), message, "sha256").digest()
    proof = bytes(a ^ b for a, b in zip(key, signature))
    code, challenge = c.docmd(b64(without + b",p=" + base64.b64encode(proof)))
    if code != 334:
        return code
    server_key = hmac.new(salted, b"Server Key", "sha256").digest()
    verifier = base64.b64encode(hmac.new(server_key, message, "sha256").digest())
    assert base64.b64decode(challenge) == b"v=" + verifier
    return c.docmd("")[0]


# ---- what is offered, and to whom


@pytest.mark.quick
@pytest.mark.parametrize("port", ["submission", "smtps", "plain"])
def test_a_user_logs_in_and_may_send_anywhere(make_server, sink, ca, port):
    daemon = make_server()
    with client(daemon, ca, port) as c:
        assert c.docmd("MAIL", "FROM:<%s>" % USER)[0] == (250 if port == "plain" else 530)
        c.rset()
        c.login(USER, PASSWORD)
        c.sendmail(USER, ["b@far.test"], DATA)
    with_what = "ESMTPA" if port == "plain" else "ESMTPSA"
    assert " with %s" % with_what in sink.wait(1)[0].data.decode()
    assert daemon.wait_log(event="auth", result="ok")["user"] == USER
    assert daemon.wait_log(event="accept")["user"] == USER


def test_without_a_login_nothing_is_relayed(make_server, ca):
    daemon = make_server()
    with client(daemon, ca, "plain") as c:
        c.mail("x@src.test")
        assert c.rcpt("b@far.test") == (550, b"5.7.1 relaying denied")


def test_nothing_is_offered_in_plain_text(make_server, ca):
    daemon = make_server()
    with smtplib.SMTP(HOST, daemon.ports["submission"]) as c:
        c.ehlo("src.test")
        assert not c.has_extn("auth")
        assert c.docmd("AUTH", "PLAIN AGEAYg==")[0] == 538
    with smtplib.SMTP(HOST, daemon.port) as c:
        c.ehlo("src.test")
        c.starttls(context=unnamed(ssl.create_default_context(cafile=ca.path)))
        c.ehlo("src.test")
        assert not c.has_extn("auth")			# a port for the world's mail servers
        assert c.docmd("AUTH", "PLAIN AGEAYg==")[0] == 502


@pytest.mark.parametrize("mechanism", ["plain", "login"])
def test_each_mechanism_with_a_password(make_server, ca, mechanism):
    with client(make_server(), ca) as c:
        c.user, c.password = USER, PASSWORD
        assert c.auth(mechanism, getattr(c, "auth_" + mechanism))[0] == 235


def test_scram(make_server, ca):
    daemon = make_server()
    with client(daemon, ca) as c:
        assert "SCRAM-SHA-256" in c.esmtp_features["auth"]
        assert scram(c, USER, PASSWORD) == 235
    with client(daemon, ca) as c:
        assert scram(c, USER, "wrong") == 535
    with client(daemon, ca) as c:
        # no sooner, and with a salt of its own
        assert scram(c, "nobody@src.test", PASSWORD) == 535


def test_scram_is_not_offered_if_some_could_not_use_it(make_server, entry, ca):
    only_hash = entry.split("\n")[0].replace(USER, "bert@src.test")
    with client(make_server(passwords=entry + only_hash + "\n"), ca) as c:
        assert "SCRAM" not in c.esmtp_features["auth"]


def test_a_wrong_channel_binding_is_refused(make_server, ca):
    """As for somebody in between, whose two connections have two bindings."""
    with client(make_server(), ca) as c:
        assert "SCRAM-SHA-256-PLUS" in c.esmtp_features["auth"]
        assert scram(c, USER, PASSWORD, binding=b"y" * 32) == 535


def test_a_client_certificate_is_a_login(make_server, ca, sink):
    daemon = make_server(submission="client-certificates = optional client-ca = %s auth-mechanisms "
                                    "= \"EXTERNAL\""
                         % quoted(ca.path))
    for email, code in ((USER, 235), ("nobody@src.test", 535)):
        context = unnamed(ssl.create_default_context(cafile=ca.path))
        context.load_cert_chain(*ca.sign("client-%d" % code, ["client.test"], email=email))
        with smtplib.SMTP(HOST, daemon.ports["submission"]) as c:
            c.starttls(context=context)
            c.ehlo("src.test")
            assert c.esmtp_features["auth"].strip() == "EXTERNAL"
            assert c.docmd("AUTH", "EXTERNAL =")[0] == code


# ---- syntax and order


def test_what_is_no_login(make_server, ca):
    with client(make_server(), ca) as c:
        assert c.docmd("AUTH")[0] == 501
        assert c.docmd("AUTH", "NTLM")[0] == 504
        assert c.docmd("AUTH", "PLAIN %%%")[0] == 501
        assert c.docmd("AUTH", "LOGIN")[0] == 334
        assert c.docmd("*")[0] == 501
        assert c.docmd("AUTH", "PLAIN")[0] == 334
        assert c.docmd("A" * 20000)[0] == 500
        assert c.noop()[0] == 250
        c.login(USER, PASSWORD)
        assert c.docmd("AUTH", "PLAIN AGEAYg==")[0] == 503
        assert c.docmd("MAIL", "FROM:<%s> AUTH=<>" % USER)[0] == 250
        assert c.docmd("AUTH", "PLAIN AGEAYg==")[0] == 503


def test_a_login_does_not_outlive_its_session_or_starttls(make_server, ca):
    daemon = make_server()
    with client(daemon, ca, "plain") as c:
        c.login(USER, PASSWORD)
        c.ehlo("again.test")				# EHLO resets the transaction, not the login
        c.mail(USER)
        assert c.rcpt("b@far.test")[0] == 250
    with client(daemon, ca, "plain") as c:
        c.mail(USER)
        assert c.rcpt("b@far.test")[0] == 550


# ---- who may send as whom


def test_users_send_under_their_own_names(make_server, ca, sink):
    daemon = make_server(senders="%s: @lists.test\n" % USER)
    with client(daemon, ca) as c:
        c.login(USER, PASSWORD)
        assert c.mail("boss@src.test") == (553, b"5.7.1 you may not send under this address")
        assert c.mail("news@lists.test")[0] == 250
        c.rset()
        c.mail(USER)
        c.rcpt("b@far.test")
        assert c.data("From: Boss <boss@src.test>\r\n\r\nhello\r\n")[0] == 553
        c.mail("")						# the null path is anybody's
        c.rcpt("b@far.test")
        assert c.data(DATA)[0] == 250
    assert daemon.wait_log(event="sender-refused")["from"] == "boss@src.test"


# ---- guesses


def test_guesses_are_slowed_then_banned(make_server, ca):
    daemon = make_server(limits={"auth-failures": 5, "auth-delay": "1s", "auth-ban": "1h",
                                 "errors-per-session": 100})
    codes = []
    for i in range(10):
        try:
            with client(daemon, ca, "plain") as c:
                codes.append(c.docmd("AUTH", "PLAIN "
                                     + base64.b64encode(b"\0%s\0guess%d" % (USER.encode(),
                                                                            i)).decode())[0])
        except (smtplib.SMTPException, ConnectionError) as fault:
            codes.append(getattr(fault, "smtp_code", 421))
        if codes[-1] == 421:
            break
    assert codes[0] == 535 and codes[-1] == 421 and len(codes) >= 5
    assert daemon.wait_log(event="auth", ban="begins")
    with socket.create_connection((HOST, daemon.ports["submission"])) as s:
        assert s.recv(200).startswith(b"421 4.7.0")
    # where one need not log in it may be for something else
    with smtplib.SMTP(HOST, daemon.ports["plain"]) as c:
        c.ehlo("src.test")
        with pytest.raises(smtplib.SMTPException):
            c.login(USER, PASSWORD)				# even if it were right
    assert daemon.wait_log(event="auth", result="banned")
    # the port without AUTH is open to it
    with smtplib.SMTP(HOST, daemon.port) as c:
        assert c.noop()[0] == 250
    stats = daemon.ctl_json("stats")
    assert stats["banned"] == 1 and stats["failed_logins"] >= 5
    ban = daemon.ctl_json_lines("bans")[0]
    assert ban["address"] == HOST and 0 < ban["until_ms"] / 1000 - time.time() <= 3600
    assert HOST in daemon.ctl("bans")
    # no address, and one that did nothing
    for wrong in ("somebody", "192.0.2.1"):
        assert daemon.ctl("pardon", wrong, check=False).returncode == 1
    assert daemon.ctl("pardon", check=False).returncode == 2
    assert "forgotten" in daemon.ctl("pardon", HOST)
    assert daemon.wait_log(event="control", command="pardon")
    assert daemon.ctl("bans").strip() == "Nobody is banned."
    assert daemon.ctl_json("stats")["banned"] == 0
    with client(daemon, ca) as c:
        c.login(USER, PASSWORD)


def test_many_guesses_at_once_do_not_hold_up_others(make_server, ca, sink):
    daemon = make_server(limits={"auth-failures": 1000000, "auth-delay": "1s"})
    stop = threading.Event()

    def guess():
        while not stop.is_set():
            try:
                with client(daemon, ca, "plain") as c:
                    c.docmd("AUTH",
                            "PLAIN " + base64.b64encode(b"\0x%s\0y"
                                                        % os.urandom(4).hex().encode()).decode())
            except (smtplib.SMTPException, OSError):
                pass
    guessers = [threading.Thread(target=guess) for _ in range(20)]
    for one in guessers:
        one.start()
    try:
        with client(daemon, ca) as c:
            c.login(USER, PASSWORD)
            c.sendmail(USER, ["b@far.test"], DATA)
        assert sink.wait(1)
    finally:
        stop.set()
        for one in guessers:
            one.join()


# ---- how much a user may send, and how urgently


def test_a_user_gets_no_higher_priority_than_it_may(make_server, ca, sink, entry):
    daemon = make_server('user-priority-max = {"%s=4", "*=0"}\n' % USER.upper(),
                         passwords=entry + entry.replace(USER, "bert@src.test"))
    for user, asked, got in ((USER, 9, b"4 is"), (USER, 3, b""), ("bert@src.test", 1, b"0 is"),
                             ("bert@src.test", -1, b"")):
        with client(daemon, ca) as c:
            c.login(user, PASSWORD)
            code, text = c.mail(USER, ["MT-PRIORITY=%d" % asked])
            assert code == 250 and (got in text) and (got or b"priority" not in text), (user, asked,
                                                                                        text)


def send(c, count=1):
    """Messages with that many recipients each; the last reply."""
    assert c.mail(USER)[0] == 250
    for i in range(count):
        assert c.rcpt("b%d@far.test" % i)[0] == 250
    return c.data(DATA)[0]


@pytest.mark.quick
def test_a_user_sends_so_many_messages(make_server, ca, sink, entry):
    daemon = make_server("threads = 2\n",
                         limits={"user-messages-per-hour": 5, "user-messages-per-day": 1000},
                         passwords=entry + entry.replace(USER, "bert@src.test"))
    with client(daemon, ca) as c, client(daemon, ca, "plain") as other, client(daemon, ca) as bert:
        c.login(USER, PASSWORD)
        other.login(USER, PASSWORD)
        bert.login("bert@src.test", PASSWORD)
        assert [send(c), send(other), send(c)] == [250] * 3
        assert not daemon.events(event="user-limit")
        assert [send(other), send(c)] == [250] * 2
        near = daemon.wait_log(event="user-limit", state="near")
        assert (near["user"], near["limit"], near["count"],
                near["most"]) == (USER, "user-messages-per-hour", "4", "5")
        for one in (c, other):
            for _ in range(2):
                assert one.mail(USER) == (451,
                                          b"4.7.1 too many messages from this user, try again later")
        assert daemon.wait_log(event="user-limit", state="exceeded")["count"] == "5"
        # others are not concerned
        assert send(bert) == 250
        with open(daemon.config_path, encoding="utf-8") as f:
            text = f.read()
        daemon.write_config(text.replace("per-hour = 5", "per-hour = 6"))
        daemon.reload()
        daemon.wait_log(event="reload")
        assert send(c) == 250
        assert c.mail(USER)[0] == 451
    assert len(sink.wait(7)) == 7
    assert len(daemon.events(event="user-limit", user=USER)) == 2		# each told once


def test_a_user_sends_to_so_many_recipients(make_server, ca, sink):
    daemon = make_server(limits={"user-recipients-per-day": 10, "user-recipients-per-hour": 100})
    with client(daemon, ca) as c:
        c.login(USER, PASSWORD)
        assert send(c, 3) == 250
        c.mail(USER)
        assert [c.rcpt("c%d@far.test" % i)[0] for i in range(9)] == [250] * 7 + [452] * 2
        assert c.data(DATA)[0] == 250
        assert c.mail(USER) == (451, b"4.7.1 too many recipients for this user, try again later")
    daemon.wait_log(event="user-limit", count=2)
    told = [(line["limit"], line["state"]) for line in daemon.events(event="user-limit")]
    assert told == [("user-recipients-per-day", "near"), ("user-recipients-per-day", "exceeded")]


@pytest.mark.quick
def test_messages_at_the_same_time_are_counted(make_server, ca, sink):
    """All were begun when there was room for each of them."""
    daemon = make_server("threads = 2\n", limits={"user-messages-per-day": 3})
    clients = []
    for _ in range(8):
        c = client(daemon, ca, "plain")
        c.login(USER, PASSWORD)
        c.mail(USER)
        c.rcpt("b@far.test")
        assert c.docmd("DATA")[0] == 354
        clients.append(c)
    for c in clients:
        c.send(DATA + ".\r\n")
    assert sorted(c.getreply()[0] for c in clients) == [250] * 3 + [451] * 5
    for c in clients:
        assert c.noop()[0] == 250
        c.close()
    assert len(sink.wait(3)) == 3


@pytest.mark.quick
def test_who_leaves_before_the_answer(make_server, ca, sink):
    daemon = make_server("threads = 2\n", limits={"user-messages-per-day": 1000})
    for i in range(40):
        c = client(daemon, ca, "plain")
        c.login(USER, PASSWORD)
        if i % 2:
            c.send("MAIL FROM:<%s>\r\n" % USER)
        else:
            c.mail(USER)
            c.rcpt("b@far.test")
            c.docmd("DATA")
            c.send(DATA + ".\r\nMAIL FROM:<%s>\r\n" % USER)
        c.close()
    with client(daemon, ca) as c:
        c.login(USER, PASSWORD)
        assert send(c) == 250
    daemon.stop()


# ---- other clients


def test_swaks_and_msmtp(make_server, ca, sink, tmp_path):
    daemon = make_server()
    subprocess.run(["swaks", "--server", HOST, "--port", str(daemon.ports["submission"]), "-tls",
                    "--auth", "LOGIN",
                    "--auth-user", USER, "--auth-password", PASSWORD, "--from", USER, "--to",
                    "b@far.test"], check=True,
                   stdout=subprocess.PIPE)
    config = tmp_path / "msmtprc"
    config.write_text("account default\nhost localhost\nport %d\ntls on\ntls_starttls "
                      "off\ntls_certcheck off\nauth plain\n"
                      "user %s\npassword \"%s\"\nfrom %s\n" % (daemon.ports["smtps"], USER,
                                                               PASSWORD, USER))
    os.chmod(config, 0o600)
    subprocess.run(["msmtp", "-C", str(config), "c@far.test"], input=DATA.encode(), check=True)
    assert sorted(m.recipients[0] for m in sink.wait(2)) == ["b@far.test", "c@far.test"]


def test_a_reload_changes_who_may_log_in(make_server, ca, tmp_path):
    daemon = make_server()
    (tmp_path / "passwords").write_text("")
    daemon.reload()
    daemon.wait_log(event="reload")
    with client(daemon, ca) as c, pytest.raises(smtplib.SMTPAuthenticationError):
        c.login(USER, PASSWORD)
    (tmp_path / "passwords").write_text("anna:plain-text\n")
    daemon.reload()
    assert "passwords:1:" in daemon.wait_log(event="reload", level="error")["msg"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_password_file_is_a_file(make_server, ca, tmp_path, make):
    daemon = make_server()
    os.remove(tmp_path / "passwords")
    make(tmp_path / "passwords")
    daemon.reload()
    assert "passwords: not a file" in daemon.wait_log(event="reload", level="error")["msg"]
    with client(daemon, ca) as c:
        c.login(USER, PASSWORD)


# ---- who leaves in the midst


def plain(user, password):
    return "PLAIN " + base64.b64encode(b"\0%s\0%s" % (user.encode(), password.encode())).decode()


def ask_and_leave(daemon, count, password):
    """So many sessions that ask at the same time; the even ones leave at once."""
    clients = []
    for i in range(count):
        c = smtplib.SMTP(HOST, daemon.ports["plain"])
        c.ehlo("src.test")
        clients.append(c)
    for i, c in enumerate(clients):
        c.putcmd("AUTH", plain("user%d" % i if password is None else USER, password or "x"))
    for c in clients[::2]:
        c.close()
    return clients[1::2]


def slow_entry():
    """A hash that takes long enough for others to wait behind it."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt"))
    library.crypt.restype = ctypes.c_char_p
    return "%s:%s\n" % (USER, library.crypt(PASSWORD.encode(),
                                            b"$6$rounds=300000$saltsalt$").decode())


@pytest.mark.quick
@pytest.mark.parametrize("end", ["stop", "cut off"])
@pytest.mark.parametrize("what", ["check", "delay", "backend"])
def test_sessions_end_while_they_wait(make_server, ca, tmp_path, what, end):
    """In a check, a delay, a request to Dovecot: the client leaves, all is reloaded, the server
    stops."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        how = {"backend": "auth-socket = %s\n"
               % quoted(str(tmp_path / "silent"))} if what == "backend" else \
            {"passwords": slow_entry()} if what == "check" else {}
        daemon = make_server("threads = 2\nstop-timeout = 1s\n", limits={
            "auth-timeout": "5s" if end == "stop" else "1h",
            "auth-delay": "2s" if end == "stop" else "5m", "auth-failures": 1000000}, **how)
        clients = ask_and_leave(daemon, 24, "wrong" if what != "check" else PASSWORD)
        daemon.reload()
        daemon.wait_log(event="reload")
        clients += ask_and_leave(daemon, 8, "other")
        daemon.reload()
        daemon.wait_log(event="reload", count=2)
        daemon.stop()
        for c in clients:
            c.close()


def test_two_trams_one_the_smarthost_of_the_other(make_server, make_tramd, ca, sink, tmp_path):
    """SCRAM-SHA-256-PLUS from end to end: both sides prove that they know the password, over one
    TLS connection."""
    smarthost = make_server()
    (tmp_path / "secret").write_text(PASSWORD)
    route = {"deliver": "smtp:[%s]:%d" % (HOST, smarthost.ports["submission"]), "tls": "verify",
             "tls-names": '"tram.test"', "user": quoted(USER),
             "password-file": quoted(str(tmp_path / "secret"))}
    app = make_tramd(routes={"*": route}, queue=FAST, extra="delivery-ca = %s\n" % quoted(ca.path))
    with smtplib.SMTP(HOST, app.port) as c:
        c.sendmail(USER, ["b@far.test"], DATA)
    assert b"with ESMTPSA" in sink.wait(1)[0].data
    assert smarthost.wait_log(event="auth", result="ok")["mechanism"] == "SCRAM-SHA-256-PLUS"


# ---- users that Dovecot keeps


@pytest.fixture
def dovecot():
    with Dovecot({USER: PASSWORD}) as one:
        yield one


def with_dovecot(make_server, dovecot, **how):
    return make_server(backend="auth-socket = %s\n" % quoted(dovecot.socket), **how)


def log_in(daemon, ca, mechanism):
    with client(daemon, ca) as c:
        c.user, c.password = USER, PASSWORD
        if mechanism == "scram":
            return scram(c, USER, PASSWORD)
        try:
            return c.auth(mechanism, getattr(c, "auth_" + mechanism))[0]
        except smtplib.SMTPAuthenticationError as refused:
            return refused.smtp_code


def test_dovecot_knows_the_users(make_server, dovecot, ca, sink):
    daemon = with_dovecot(make_server, dovecot)
    assert [log_in(daemon, ca, m) for m in ("plain", "login", "scram")] == [235] * 3
    with client(daemon, ca) as c, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        c.login(USER, "wrong")
    assert refused.value.smtp_code == 535
    with client(daemon, ca) as c:
        assert scram(c, USER, "wrong") == 535
    assert daemon.wait_log(event="auth", result="failed", mechanism="PLAIN")


def test_dovecot_goes_and_comes(make_server, dovecot, ca):
    daemon = with_dovecot(make_server, dovecot)
    assert log_in(daemon, ca, "plain") == 235
    # its auth process outlives a gentler end while we are connected
    os.killpg(dovecot.process.pid, signal.SIGKILL)
    dovecot.process.wait()
    with client(daemon, ca) as c:
        assert c.docmd("AUTH", "PLAIN "
                       + base64.b64encode(b"\0%s\0x" % USER.encode()).decode())[0] == 454
    # nobody guessed
    assert not [line for line in daemon.events(event="auth", result="failed")]
    dovecot.start()
    wait_for(lambda: log_in(daemon, ca, "plain") == 235, what="a login")


def test_dovecot_hangs(make_server, ca, tmp_path):
    """It accepts, and says nothing; nobody else is held up."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        daemon = make_server(backend="auth-socket = %s\n" % quoted(str(tmp_path / "silent")),
                             limits={"auth-timeout": "1s"})
        with client(daemon, ca) as c, client(daemon, ca) as other:
            c.putcmd("AUTH", "PLAIN " + base64.b64encode(b"\0a\0b").decode())
            assert other.noop()[0] == 250
            assert c.getreply()[0] == 454


def test_another_socket_holds_for_older_sessions_too(make_server, ca, tmp_path):
    """Or they would take the connection from each other, and with it what the other has asked."""
    with socket.socket(socket.AF_UNIX) as before, socket.socket(socket.AF_UNIX) as after:
        for one, name in ((before, "before"), (after, "after")):
            one.bind(str(tmp_path / name))
            one.listen()
            one.settimeout(30)
        daemon = make_server("threads = 1\n",
                             backend="auth-socket = %s\n" % quoted(str(tmp_path / "before")),
                             limits={"auth-timeout": "1h"})
        with client(daemon, ca) as older:
            first = before.accept()[0]
            with open(daemon.config_path, encoding="utf-8") as f:
                text = f.read()
            daemon.write_config(text.replace(str(tmp_path / "before"),
                                             str(tmp_path / "after")).replace("= 1h", "= 1s"))
            daemon.reload()
            daemon.wait_log(event="reload")
            with client(daemon, ca) as newer:
                held = after.accept()[0]
                older.putcmd("AUTH", plain(USER, PASSWORD))
                assert older.getreply()[0] == 454		# by the new limit of time, too
                assert newer.docmd("AUTH", plain(USER, PASSWORD))[0] == 454
            first.close()
            held.close()
        before.setblocking(False)
        with pytest.raises(BlockingIOError):
            before.accept()
