"""tram-sendmail as programs call it, against a running tramd."""
import email
import email.utils
import os
import re
import socket
import subprocess
import threading
import time

import pytest

import harness
from conftest import FAST
from harness import free_port

NEVER = {"retry-first": "1h", "retry-max": "1h", "probe-first": "10m", "probe-max": "10m"}


class Result:
    def __init__(self, done):
        self.status, self.out, self.err = (done.returncode, done.stdout.decode(),
                                           done.stderr.decode())


def run(config, *args, stdin=b"", name=None, timeout=60, **how):
    """name: what it is called as (argv[0])."""
    words = [name or "sendmail"] + (["-C", config] if config else []) + list(args)
    done = subprocess.run(words, executable=harness.program("tram-sendmail"), input=stdin,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **how)
    assert not harness.SANITIZER.search(done.stderr.decode()), done.stderr.decode()
    return Result(done)


def sent(tramd, sink, *args, stdin=b"Subject: s\n\nhi\n", count=1, **how):
    result = run(tramd.config_path, *args, stdin=stdin, **how)
    assert result.status == 0, result.err
    return sink.wait(count)[-1]


def fields(message):
    return email.message_from_bytes(message.data)


def test_cron(tramd, sink):
    data = (b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@x> true\nMIME-Version: "
            b"1.0\n\nout\n.\nput\n")
    m = sent(tramd, sink, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root", stdin=data)
    assert m.recipients == ["root@tram.test"]
    assert m.body == b"out\r\n.\r\nput\r\n"
    assert fields(m)["From"] == "root (Cron Daemon)"		# what is there stays


CALLERS = {
    "mailx": (["-i", "--", "b@dst.test", "c@dst.test"], "To: b@dst.test, c@dst.test\n"),
    "bsd-mailx": (["-i", "b@dst.test", "c@dst.test"], "To: b@dst.test, c@dst.test\n"),
    "s-nail": (["-i", "-r", "jo@src.test", "--", "b@dst.test", "c@dst.test"], ""),
    "mailutils": (["-oi", "-t"], "To: b@dst.test\nCc: c@dst.test\n"),
    "mutt": (["-oem", "-oi", "-f", "jo@src.test", "--", "b@dst.test", "c@dst.test"],
             "To: b@dst.test\n"),
    "php": (["-t", "-i"], "To: b@dst.test\r\nCc: c@dst.test\r\n"),
    "php with a sender": (["-t", "-i", "-fjo@src.test"], "To: b@dst.test\r\nBcc: c@dst.test\r\n"),
    "PHPMailer": (["-oi", "-fjo@src.test", "-t"], "To: b@dst.test, c@dst.test\n"),
    "git send-email": (["-i", "b@dst.test", "c@dst.test"], "To: b@dst.test\nCc: c@dst.test\n"),
    "git with a sender": (["-f", "jo@src.test", "-i", "b@dst.test", "c@dst.test"],
                          "To: b@dst.test\n"),
    "Python": (["-t", "-oi", "-oem"], "To: b@dst.test\nBcc: c@dst.test\n"),
    "Perl's MIME::Lite": (["-t", "-oi", "-oem"], "To: b@dst.test\nCc: c@dst.test\n"),
    "Nagios": (["-oi", "-odb", "b@dst.test,c@dst.test"], "To: b@dst.test\n"),
    "at, logwatch": (["-FSystem", "-t", "-oi"], "To: b@dst.test\nCc: c@dst.test\n"),
    "Mailman": (["-f", "jo@src.test", "-G", "-i", "b@dst.test", "c@dst.test"], ""),
    "emacs": (["-oi", "-f", "jo@src.test", "-oem", "-odb", "-t"], "To: b@dst.test, c@dst.test\n"),
}


@pytest.mark.parametrize("who", CALLERS)
def test_as_programs_call_it(tramd, sink, who):
    args, header = CALLERS[who]
    newline = "\r\n" if "\r\n" in header else "\n"
    text = (header + "From: jo@src.test" + newline + "Subject: by program" + 2 * newline + "."
            + newline + "line" + newline)
    m = sent(tramd, sink, *args, stdin=text.encode())
    assert sorted(m.recipients) == ["b@dst.test", "c@dst.test"]
    assert (m.body == b".\r\nline\r\n" and fields(m)["Subject"] == "by program"
            and fields(m)["Bcc"] is None)
    if any("jo@src.test" in a for a in args):
        assert m.sender == "jo@src.test"


def test_fields_are_added(tramd, sink):
    m = sent(tramd, sink, "-f", "jo@src.test", "-F", 'Jo "J" Doe', "b@dst.test")
    got = fields(m)
    assert m.sender == "jo@src.test"
    assert email.utils.parseaddr(got["From"]) == ('Jo "J" Doe', "jo@src.test")
    assert abs(email.utils.parsedate_to_datetime(got["Date"]).timestamp() - time.time()) < 60
    assert re.fullmatch(r"<[^@ ]+@tram\.test>", got["Message-ID"]) and got["Subject"] == "s"
    assert len(got.get_all("Received")) == 1 and m.body == b"hi\r\n"


def test_recipients_from_the_header(tramd, sink):
    data = (b'To: One <a@dst.test>, "Two, B" <b@dst.test>,\n c@dst.test (three)\nCc: g: '
            b'd@dst.test, e@dst.test;\n'
            b"Bcc: secret@dst.test\nSubject: s\n\nTo: not@dst.test\n")
    m = sent(tramd, sink, "-t", "-oi", "extra@dst.test", stdin=data)
    assert sorted(m.recipients) == ["%s@dst.test" % n
                                    for n in ("a", "b", "c", "d", "e", "extra", "secret")]
    assert b"secret" not in m.data and fields(m)["Cc"] == "g: d@dst.test, e@dst.test;"


@pytest.mark.parametrize("data,args,body", [
    (b"Subject: s\n\na\n.\nb\n", [], b"a\r\n"),
    (b"Subject: s\n\na\n.\nb\n", ["-i"], b"a\r\n.\r\nb\r\n"),
    (b"Subject: s\r\n\r\na\r\n..b\r\n.c\r\n", ["-i"], b"a\r\n..b\r\n.c\r\n"),
    (b"Subject: s\n\nno end", [], b"no end\r\n"),
    (b"Subject: s\n\na\rb\n", [], b"a\r\nb\r\n"),
    (b"Subject: s\n", [], b""),
    (b"Subject: s\n\n" + bytes(range(128, 256)) + b"\n", [], bytes(range(128, 256)) + b"\r\n"),
    (b"Subject: s\n\n" + b"x" * 3000 + b"\n", [], b"x" * 3000 + b"\r\n"),
    (b"Subject: s\n\n" + b"line of text\n" * 300000, [], b"line of text\r\n" * 300000),
], ids=["dot", "dot -i", "dots", "no end", "bare CR", "no body", "8-bit", "long line", "4 MB"])
def test_bodies(tramd, sink, data, args, body):
    m = sent(tramd, sink, *args, "b@dst.test", stdin=data)
    assert m.body == body
    assert ("BODY=8BITMIME" in m.mail_params) == any(c > 127 for c in data)


def test_envelope_options(tramd, sink):
    m = sent(tramd, sink, "-f", "jo@src.test", "-N", "success,delay", "-R", "hdrs", "-V", "a=b",
             "--", "b@dst.test")
    assert {"RET=HDRS", "ENVID=a+3Db"} <= {p.upper().replace("ENVID=A+3DB", "ENVID=a+3Db")
                                           for p in m.mail_params}
    assert any(p.upper() == "NOTIFY=SUCCESS,DELAY" for p in m.rcpt_params["b@dst.test"])
    m = sent(tramd, sink, "-f", "<>", "c@dst.test", count=2)
    assert m.sender == ""


def test_utf8_addresses(tramd, sink):
    m = sent(tramd, sink, "-f", "jö@src.test", "é@dst.test")
    assert (m.sender == "jö@src.test" and m.recipients == ["é@dst.test"]
            and "SMTPUTF8" in m.mail_params)


def test_the_caller_is_known(tramd, sink):
    m = sent(tramd, sink, "b@dst.test")
    login = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
    assert m.sender.split("@")[0] == login
    assert email.utils.parseaddr(fields(m)["From"])[1] == login + "@tram.test"
    assert ("uid %d" % os.getuid()) in fields(m)["Received"]


def test_the_environment_is_not_trusted(tramd, sink):
    m = sent(tramd, sink, "b@dst.test",
             env={"USER": "evil", "LOGNAME": "evil", "NAME": "Evil", "HOME": "/nowhere",
                  "TRAM_SUBMISSION_SOCKET": "/nowhere"})
    assert b"evil" not in m.data.lower() and "evil" not in m.sender


def test_refused_recipients(make_tramd, sink):
    tramd = make_tramd(routes={"bad.test": "reject:550 5.1.1 nobody here",
                               "*": "smtp:[127.0.0.1]:%d" % sink.port},
                       queue=FAST)
    result = run(tramd.config_path, "a@bad.test", stdin=b"\nhi\n")
    assert result.status == 67 and "a@bad.test: 550 5.1.1 nobody here" in result.err
    result = run(tramd.config_path, "a@bad.test", "b@dst.test", stdin=b"\nhi\n")
    assert result.status == 67 and sink.wait(1)[0].recipients == ["b@dst.test"]
    assert run(tramd.config_path, "-oeq", "a@bad.test", stdin=b"\nhi\n").err == ""
    result = run(tramd.config_path, "-v", "c@dst.test", stdin=b"\nhi\n")
    assert result.status == 0 and re.search(r"c@dst.test: 250 .*[0-9a-z]{13}", result.err)


def test_refused_messages(make_tramd, sink):
    tramd = make_tramd(static=sink, queue=FAST, limits={"message-size": "100KB"})
    result = run(tramd.config_path, "b@dst.test", stdin=b"\n" + b"x" * 70 * 4000)
    assert result.status == 69 and "larger" in result.err
    assert run(tramd.config_path, "b@dst.test", stdin=b"\na\0b\n").status in (65, 69)
    tramd.send(b"\r\n")
    assert len(sink.wait(1)) == 1


def test_usage(tramd):
    for args in (["-y", "x"], ["-f"], ["-bd"], ["-N", "often", "x"], ["-bt"], [], ["jo doe"]):
        assert run(tramd.config_path, *args).status == 64, args
    assert run(tramd.config_path, "-t", stdin=b"Subject: s\n\nhi\n").status == 64
    assert run(tramd.config_path, "-t", stdin=b"To: <a@b\n\nhi\n").status == 65
    assert run("/nonexistent", "x").status == 78
    assert run(None, "--help").out.startswith("usage: sendmail")
    assert run(None, "--version").out.startswith("tram-sendmail ")


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_smtp_on_standard_input(tramd, sink, end):
    """A whole session at once, as programs write it."""
    lines = [b"EHLO me", b"MAIL FROM:<jo@src.test>", b"RCPT TO:<b@dst.test>", b"DATA",
             b"Subject: s", b"", b"QUIT",
             b"..dot", b"x" * 200000, b".", b"MAIL FROM:<jo@src.test>", b"RCPT TO:<c@dst.test>",
             b"DATA", b"\xc3\xb6", b".", b"QUIT"]
    lines[8] = b"\n".join([b"x" * 990] * 200).replace(b"\n", end)
    result = run(tramd.config_path, "-bs", stdin=end.join(lines) + end)
    assert result.status == 0 and result.out.startswith("220 ") and "\r\n221 " in result.out, result.out
    first, second = sorted(sink.wait(2), key=lambda m: m.recipients)
    assert first.body == b"QUIT\r\n.dot\r\n" + (b"x" * 990 + b"\r\n") * 200
    assert second.data.endswith(b"\xc3\xb6\r\n")


def test_smtp_chunks_on_standard_input(tramd, sink):
    body = b"Subject: s\r\nDate: d\r\nMessage-ID: <m@src.test>\r\n\r\n" + b"BDAT 5\r\n" * 20000
    half = len(body) // 2
    result = run(tramd.config_path, "-bs",
                 stdin=b"EHLO me\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\n" +
                 b"BDAT %d\r\n%sBDAT %d LAST\r\n%sQUIT\r\n" % (half, body[:half], len(body) - half,
                                                               body[half:]))
    assert "\r\n221 " in result.out, result.out
    assert sink.wait(1)[0].data.endswith(body)


def test_smtp_dialogue(tramd):
    """One that waits for each reply, as a mail program does."""
    p = subprocess.Popen([harness.program("tram-sendmail"), "-C", tramd.config_path, "-bs"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert p.stdout.readline().startswith(b"220 ")
    for command, code in ((b"NOOP", b"250"), (b"RSET", b"250"), (b"BOGUS", b"500"),
                          (b"QUIT", b"221")):
        p.stdin.write(command + b"\r\n")
        p.stdin.flush()
        assert p.stdout.readline().startswith(code)
    assert p.wait(harness.TIMEOUT) == 0
    p.stdin.close()
    p.stdout.close()


def test_mailq(make_tramd):
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)
    for how in (dict(name="mailq"), dict(name="/usr/bin/mailq")):
        assert run(tramd.config_path, **how).out == "Mail queue is empty\n"
    run(tramd.config_path, "-f", "jo@src.test", "a@dst.test", "b@dst.test", stdin=b"\nhi\n")
    out = run(tramd.config_path, "-bp").out
    assert out.count("jo@src.test") == 2 and "a@dst.test" in out
    id = tramd.queue_ids()[0]
    for args in (["-q"], ["-q15m"], ["-qI" + id], ["-qRdst.test"], ["-qRa@dst.test"],
                 ["-qSjo@src.test"]):
        assert run(tramd.config_path, *args).status == 0
    tramd.wait_log(event="control", command="queue-retry", count=6)
    assert run(tramd.config_path, "-qIx").status == 64


def test_newaliases(tramd):
    for result in (run(None, name="newaliases"), run(tramd.config_path, "-bi")):
        assert result.status == 0 and "no alias database" in result.out


def test_it_waits_for_the_daemon(make_tramd, sink):
    tramd = make_tramd(start=False, static=sink, queue=FAST)
    results = []
    threads = [threading.Thread(target=lambda n=n: results.append(
        run(tramd.config_path, "b%d@dst.test" % n, stdin=b"\nhi\n"))) for n in range(4)]
    for t in threads:
        t.start()
    threading.Event().wait(1)
    assert not results
    tramd.start()
    for t in threads:
        t.join()
    assert [r.status for r in results] == [0] * 4, [r.err for r in results]
    assert len(sink.wait(4)) == 4


def test_it_gives_up_after_half_a_minute(make_tramd):
    tramd = make_tramd(start=False)
    began = time.monotonic()
    result = run(tramd.config_path, "b@dst.test", stdin=b"\nhi\n")
    assert result.status == 75 and "does not answer" in result.err and time.monotonic() - began > 25
    result = run(tramd.config_path, "-bp")
    assert result.status == 75


class Daemon:
    """Stands for tramd on the local socket, and says what it is told."""

    def __init__(self, path, greetings):
        self.listener, self.greetings, self.got = (socket.socket(socket.AF_UNIX), list(greetings),
                                                   b"")
        self.listener.bind(path)
        self.listener.listen(5)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        for script in self.greetings:
            with self.listener.accept()[0] as s:
                try:
                    for reply in script:
                        if reply is None:
                            self.got += s.recv(65536)
                        else:
                            s.sendall(reply)
                except BrokenPipeError:
                    pass			# it has heard enough
        self.listener.close()


OK = [b"220 x\r\n", None, b"250 x\r\n", None, b"250 ok\r\n", None, b"250 ok\r\n", None,
      b"354 go\r\n", None]


@pytest.mark.parametrize("scripts,status", [
    ([[b"421 4.3.2 stopping\r\n"], OK + [b"250 2.0.0 queued\r\n"]], 0),
    ([[], [b"220 x\r\n"], OK + [b"250 2.0.0 queued\r\n"]], 0),
    ([[b"554 5.7.1 not you\r\n"]], 69),
    ([OK + [b"451 4.3.0 no room\r\n"]], 75),
    ([OK], 75),							# the answer to the dot never comes
    ([OK + [b"550 5.6.0 no\r\n"]], 65),
    ([OK + [b"552 5.3.4 too large\r\n"]], 69),
    ([OK[:6] + [b"553 5.1.3 no\r\n", None, b"503 no\r\n", None, b"221 bye\r\n"]], 67),
    ([[b"\xff\xfe\x00 garbage\r\n" * 10]] * 1 + [OK + [b"250 2.0.0 queued\r\n"]], 0),
], ids=["421 first", "gone twice", "554", "451", "no answer", "550 5.6.0", "552", "553", "garbage"])
def test_answers_of_the_daemon(make_tramd, scripts, status):
    tramd = make_tramd(start=False)
    daemon = Daemon(tramd.submission, scripts)
    result = run(tramd.config_path, "-f", "a@b.test", "b@dst.test", stdin=b"\nhi\n")
    assert result.status == status, result.err
    daemon.thread.join(5)


def test_not_with_privilege(tramd, tmp_path):
    if os.getuid() != 0:
        pytest.skip("needs root")
    place = subprocess.run(["mktemp", "-d", "/tmp/tram-suid.XXXXXX"], capture_output=True,
                           text=True).stdout.strip()
    copy = os.path.join(place, "sendmail")
    try:
        subprocess.run(["cp", harness.program("tram-sendmail"), copy], check=True)
        os.chmod(place, 0o755)
        os.chmod(copy, 0o4755)
        done = subprocess.run([copy, "x"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              user="nobody", group="nogroup", extra_groups=[], cwd="/")
        assert done.returncode == 77 and b"set-uid" in done.stderr
    finally:
        subprocess.run(["rm", "-r", place], check=True)


def test_another_user(make_tramd, sink):
    if os.getuid() != 0:
        pytest.skip("needs root")
    tramd = make_tramd(static=sink, queue=FAST)
    place = tramd.place
    while len(place) > 4:
        os.chmod(place, 0o755)
        place = os.path.dirname(place)
    who = dict(user="nobody", group="nogroup", extra_groups=[], cwd="/")
    assert run(tramd.config_path, "b@dst.test", stdin=b"\nhi\n", **who).status == 0
    assert sink.wait(1)[0].sender.startswith("nobody")
    tramd.wait_log(event="accept", client=re.compile("local|uid"))
    assert run(tramd.config_path, "-bp", **who).status == 77


def test_the_caller_is_named_and_limited(make_tramd, sink):
    """The socket is open to all; the kernel says who it is, the log names him, and he may send so
    much in a minute."""
    tramd = make_tramd(static=sink, queue=FAST, limits={"local-rate": "3"})
    assert os.stat(tramd.submission).st_mode & 0o777 == 0o666
    for n in range(3):
        assert run(tramd.config_path, "b%d@dst.test" % n, stdin=b"\nhi\n").status == 0
    result = run(tramd.config_path, "b@dst.test", stdin=b"\nhi\n")
    assert result.status == 75 and "minute" in result.err
    tramd.wait_log(event="session", uid=str(os.getuid()), messages="1", count=3)
    with tramd.client() as c:					# others are not meant
        c.hello()
        c.message(b"Subject: x\r\n\r\nx\r\n")
    if os.getuid() == 0:
        place = tramd.place
        while len(place) > 4:
            os.chmod(place, 0o755)
            place = os.path.dirname(place)
        who = dict(user="nobody", group="nogroup", extra_groups=[], cwd="/")
        assert run(tramd.config_path, "b@dst.test", stdin=b"\nhi\n", **who).status == 0
