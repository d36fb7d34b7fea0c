"""What the end-to-end tests share: tramd as a process, a raw SMTP client, Postfix as a peer.

Standard library only, so that the demo and the bench can use it too; the pytest fixtures are in
conftest.py. Everything listens on loopback on a free port and lives in a directory of its own.
Nothing sleeps: tramd's log is read as it comes and tests wait for its lines, with a deadline
(TRAM_TEST_TIMEOUT, 60 s).

The programs under test are taken from TRAM_BUILD (default: build/ beside the sources).
"""
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("TRAM_BUILD", os.path.join(ROOT, "build")))
TIMEOUT = float(os.environ.get("TRAM_TEST_TIMEOUT", "60"))
SANITIZER = re.compile(r"ERROR: (Address|Leak)Sanitizer|runtime error:|WARNING: "
                       r"ThreadSanitizer|Assertion .* failed")


# ThreadSanitizer leaves too little address space for the usual map.
SMALL_MAP = {"map-size": "8GB", "max-size": "4GB"} if os.environ.get("TRAM_SMALL_MAP") else {}


def program(name):
    return os.path.join(BUILD, "mta", name)


class Ports:
    """Those of this process alone: runs of tests go on side by side, and between the choice of a
    port and the moment that somebody listens there, or while a server starts again, all others must
    keep away from it."""
    FIRST, EACH, RUNS = 10000, 1000, 22

    def __init__(self):
        # as long as the process lives
        self.held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        for run in random.sample(range(self.RUNS), self.RUNS):
            try:
                self.held.bind("\0tram-tests-ports-%d" % run)
            except OSError:
                continue
            self.first, self.next = self.FIRST + run * self.EACH, random.randrange(self.EACH)
            return
        raise AssertionError("%d runs of tests go on already" % self.RUNS)

    def one(self):
        """Round and round: one comes again as late as can be."""
        self.next = (self.next + 1) % self.EACH
        return self.first + self.next


ports = Ports()


def free_port(host="127.0.0.1"):
    """A port that nobody listens on now, and that no connection out is given meanwhile: those have
    higher ones."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(200):
        with socket.socket(family, socket.SOCK_STREAM) as s:
            port = ports.one()
            try:
                s.bind((host, port))
                return port
            except OSError:
                continue
    raise AssertionError("no port is free on %s" % host)


def free_port_on(hosts):
    """One port that is free on all of these addresses."""
    for _ in range(200):
        port, held = free_port(hosts[0]), []
        try:
            for host in hosts:
                s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET,
                                  socket.SOCK_STREAM)
                held.append(s)
                s.bind((host, port))
            return port
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise AssertionError("no port is free on all of %r" % (hosts,))


def wait_for(condition, timeout=TIMEOUT, what="condition"):
    """For what gives no sign of its own: asks until true (a file, a port, another program)."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("%s: not within %g s" % (what, timeout))
        pause.wait(0.02)


# ---- logfmt --------------------------------------------------------------------------------------

FIELD = re.compile(r'([^\s=]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))')
ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)")


def unescape(text):
    def one(found):
        c = found[1]
        if len(c) > 1:
            return chr(int(c[1:], 16))
        return {"n": "\n", "r": "\r", "t": "\t"}.get(c, c)
    return ESCAPE.sub(one, text)


def parse_logfmt(line):
    return {key: unescape(quoted) if quoted else plain
            for key, quoted, plain in FIELD.findall(line)}


# ---- tramd ---------------------------------------------------------------------------------------

def quoted(value):
    if isinstance(value, (list, tuple)):
        return "{" + ", ".join(quoted(v) for v in value) + "}"
    return '"%s"' % str(value).replace("\\", "\\\\").replace('"', '\\"')


def block(name, title, settings):
    """A section of the configuration. A str is written as it is (numbers, 5d, 25MB), a list as a
    list of strings."""
    lines = "".join("\t%s = %s\n" % (key, quoted(v) if isinstance(v, (list, tuple)) else v)
                    for key, v in settings.items())
    return "%s%s {\n%s}\n" % (name, " " + title if title else "", lines)


class Tramd:
    """One tramd with its configuration and queue in a directory. Not started until start()."""

    def __init__(self, place, routes=None, static=None, resolver=None, queue=None, limits=None,
                 listener=None,
                 hostname="tram.test", relay_from=("127.0.0.0/8",), extra="", config=None, env=None,
                 wrapper=(), program_path=None):
        """routes: {pattern: deliver text, or dict, or a list of them}; static: (host, port), or a
        Sink, for "*". queue, limits, listener: settings of these blocks. extra: more text. config:
        the whole text instead (%(port)d and %(place)s are filled in). wrapper: a command in front
        of tramd (faketime, strace)."""
        self.place = str(place)
        self.port = free_port()
        self.queue_path = os.path.join(self.place, "queue")
        self.control = os.path.join(self.place, "control")
        self.submission = os.path.join(self.place, "submission")
        self.config_path = os.path.join(self.place, "tram.conf")
        self.log_path = os.path.join(self.place, "tramd.log")
        self.env, self.wrapper, self.program = dict(env
                                                    or {}), list(wrapper), program_path or program("tramd")
        self.process, self.reader = None, None
        self.lines, self.changed = [], threading.Condition()
        self.allow_sanitizer_report = False
        os.makedirs(self.queue_path, mode=0o700, exist_ok=True)
        if static is not None:
            host, port = (static.host, static.port) if hasattr(static, "port") else static
            routes = dict(routes or {}, **{"*": "smtp:[%s]:%d" % (host, port)})
        self.settings = dict(routes=routes or {"*": "mx"}, resolver=resolver,
                             queue=dict(SMALL_MAP, **(queue or {})),
                             limits=dict(limits or {}), listener=dict(listener or {}),
                             hostname=hostname, relay_from=list(relay_from), extra=extra)
        self.write_config(config % {"port": self.port, "place": self.place}
                          if config else self.text())

    def text(self):
        s = self.settings
        parts = ["hostname = %s\n" % quoted(s["hostname"]),
                 "control = %s\n" % quoted(self.control),
                 "submission-socket = %s\n" % quoted(self.submission)]
        if s["resolver"]:
            parts.append("resolver = %s\n" % quoted(s["resolver"]))
        if "resolver-test" not in s["extra"]:
            parts.append("resolver-test = \"off\"\n")
        elif "check-sender" not in s["extra"]:
            parts.append("check-sender = no\n")		# the machine's DNS is no part of a test
        if s["relay_from"]:
            parts.append("relay-from = %s\n" % quoted(s["relay_from"]))
        parts.append(block("queue", "", dict({"path": quoted(self.queue_path)}, **s["queue"])))
        if s["limits"]:
            parts.append(block("limits", "", s["limits"]))
        parts.append(block("listener", "smtp",
                           dict({"address": ["127.0.0.1:%d" % self.port]}, **s["listener"])))
        parts.append(s["extra"] + "\n")
        for pattern, some in s["routes"].items():
            for route in some if isinstance(some, list) else [some]:
                route = {"deliver": route} if isinstance(route, str) else dict(route)
                route["deliver"] = quoted(route["deliver"])
                parts.append(block("route", quoted(pattern), route))
        return "".join(parts)

    def write_config(self, text):
        with open(self.config_path, "w", encoding="utf-8") as f:
            f.write(text)

    # ---- its life

    def start(self, ready=True):
        env = dict(os.environ, **self.env)
        env.setdefault("ASAN_OPTIONS", "detect_leaks=1:exitcode=99")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        env.setdefault("TSAN_OPTIONS", "exitcode=98")
        self.first_line = len(self.lines)
        self.process = subprocess.Popen(self.wrapper + [self.program, "-c", self.config_path],
                                        env=env,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE)
        self.reader = threading.Thread(target=self.read_log, args=(self.process.stderr,),
                                       daemon=True)
        self.reader.start()
        if ready:
            wait_for(self.is_up, TIMEOUT, "tramd answers on port %d" % self.port)
        return self

    def read_log(self, pipe):
        with open(self.log_path, "ab", buffering=0) as log:
            for line in pipe:
                log.write(line)
                with self.changed:
                    self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                    self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def is_up(self):
        if self.process.poll() is not None:
            self.reader.join(5)
            raise AssertionError("tramd ended with %d at start:\n%s" % (self.process.returncode,
                                                                        self.tail()))
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
                return s.recv(3) == b"220"
        except OSError:
            return False

    def tail(self, count=40):
        with self.changed:
            return "\n".join(self.lines[-count:])

    def sanitizer_report(self):
        with self.changed:
            hits = [i for i, line in enumerate(self.lines) if SANITIZER.search(line)]
            return "\n".join(self.lines[hits[0]:hits[0] + 60]) if hits else ""

    def check_sanitizer(self):
        report = self.sanitizer_report()
        assert not report or self.allow_sanitizer_report, report

    def end(self, timeout=TIMEOUT):
        """Waits for its end by itself; returns the exit status."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("tramd did not end within %g s; its log ends:\n%s" % (timeout,
                                                                                       self.tail()))
        finally:
            self.reader.join(5)
        self.process.stderr.close()
        return status

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, status=0):
        """SIGTERM; it must end with this status, and without a sanitizer's report."""
        if self.running():
            self.process.send_signal(signal.SIGTERM)
        got = self.end()
        self.check_sanitizer()
        assert got == status, "tramd ended with %d:\n%s" % (got, self.tail())

    def kill9(self):
        self.process.kill()
        self.end()
        self.check_sanitizer()

    def restart(self, kill=False):
        (self.kill9 if kill else self.stop)()
        return self.start()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def close(self):
        """For teardown: ends it if it still runs, and then it must end well."""
        if self.process is None:
            return
        if self.running():
            self.stop()
        elif self.process.stderr and not self.process.stderr.closed:
            self.end()
            self.check_sanitizer()

    # ---- its log

    def events(self, **fields):
        """The lines of the log with these fields, parsed. A compiled pattern is searched for."""
        with self.changed:
            lines = list(self.lines)
        return [line for line in map(parse_logfmt, lines) if matches(line, fields)]

    def wait_log(self, timeout=TIMEOUT, count=1, **fields):
        """Waits until so many lines have these fields; returns the last of them."""
        deadline, at, found = time.monotonic() + timeout, 0, []
        with self.changed:
            while True:
                for line in self.lines[at:]:
                    parsed = parse_logfmt(line)
                    if matches(parsed, fields):
                        found.append(parsed)
                at = len(self.lines)
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                if left <= 0 or (not self.reader.is_alive() and not self.running()):
                    raise AssertionError("no %d log lines with %r%s; the log ends:\n%s" % (
                        count, fields, "" if self.running() else " (tramd has ended)", self.tail()))
                self.changed.wait(min(left, 0.5))

    # ---- its tools

    def run_tool(self, name, *args, stdin=None, timeout=TIMEOUT, check=True, env=None):
        done = subprocess.run([program(name), "-c", self.config_path, *map(str, args)], input=stdin,
                              timeout=timeout,
                              stdin=subprocess.DEVNULL if stdin is None else None,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=dict(os.environ, **(env or {})))
        text = done.stderr.decode("utf-8", "replace")
        assert not SANITIZER.search(text), text
        assert not check or done.returncode == 0, "%s %s ended with %d: %s" % (
            name, " ".join(map(str, args)), done.returncode, text)
        return done

    def ctl(self, *args, **how):
        """tramctl; returns what it printed (text), or the finished process with check=False."""
        done = self.run_tool("tramctl", *args, **how)
        return done.stdout.decode("utf-8", "replace") if how.get("check", True) else done

    def ctl_json(self, *args, **how):
        return json.loads(self.ctl(*args, "--json", **how))

    def ctl_json_lines(self, *args, **how):
        """The rows, without the last line, which is their end."""
        return [json.loads(line) for line in self.ctl(*args, "--json", **how).splitlines()][:-1]

    def queue_ids(self):
        return sorted(set(re.findall(r"\b[0-9a-hjkmnp-tv-z]{13}\b", self.ctl("queue", "list"))))

    def wait_empty(self, timeout=TIMEOUT):
        wait_for(lambda: not self.queue_ids(), timeout, "the queue is empty")

    def client(self, **how):
        return SmtpRaw("127.0.0.1", self.port, **how)

    def send(self, data, sender="a@src.test", to=("b@dst.test",), **how):
        """One message by a session of its own; returns its id from the reply."""
        with self.client() as c:
            c.hello()
            return c.message(data, sender, [to] if isinstance(to, str) else list(to), **how)


def matches(line, fields):
    return all(key in line and (want.search(line[key])
                                if hasattr(want, "search") else line[key] == str(want))
               for key, want in fields.items())


# ---- a raw client --------------------------------------------------------------------------------

class Reply:
    def __init__(self, code, lines):
        self.code, self.lines = code, lines

    @property
    def text(self):
        return "\n".join(self.lines)

    def __repr__(self):
        return "%d %s" % (self.code, " / ".join(self.lines))


class SmtpRaw:
    """Sends what it is told, octet for octet, and reads replies."""

    def __init__(self, host, port, greet=True, timeout=TIMEOUT, source=None):
        self.socket = socket.create_connection((host, port), timeout=timeout,
                                               source_address=(source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""
        self.greeting = self.reply(220) if greet else None

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes)
                            else data.encode("utf-8", "surrogateescape"))

    def reply(self, expect=None):
        """One reply. expect: a code, or several; 0: the connection must be closed (returns
        None)."""
        lines = []
        while True:
            at = self.pending.find(b"\r\n")
            while at < 0:
                try:
                    got = self.socket.recv(1 << 16)
                except ConnectionResetError:
                    got = b""
                if not got:
                    assert expect == 0 and not self.pending and not lines, \
                        "the connection was closed, %r was expected; %r came before" % (expect,
                                                                                        lines)
                    return None
                self.pending += got
                at = self.pending.find(b"\r\n")
            line, self.pending = self.pending[:at].decode("utf-8", "replace"), self.pending[at + 2:]
            assert re.match(r"[2-5]\d\d[ -]|[2-5]\d\d$", line), "not a reply line: %r" % line
            assert expect != 0, "a reply came where the end was expected: %r" % line
            lines.append(line[4:])
            if line[3:4] != "-":
                break
        reply = Reply(int(line[:3]), lines)
        wanted = (expect,) if isinstance(expect, int) else expect
        assert wanted is None or reply.code in wanted, "expected %s, got %r" % (expect, reply)
        return reply

    def command(self, line, expect=None):
        self.send(line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape"))
        self.send(b"\r\n")
        return self.reply(expect)

    def hello(self, name="client.test"):
        reply = self.command("EHLO " + name, 250)
        self.features = {line.split()[0].upper(): line.split()[1:] for line in reply.lines[1:]}
        return reply

    def envelope(self, sender, to, mail="", rcpt=""):
        """MAIL and RCPTs in one write."""
        self.send("MAIL FROM:<%s>%s\r\n" % (sender, " " + mail if mail else "") +
                  "".join("RCPT TO:<%s>%s\r\n" % (r, " " + rcpt if rcpt else "") for r in to))
        return [self.reply(250) for _ in range(1 + len(to))]

    def message(self, data, sender="a@src.test", to=("b@dst.test",), mail="", rcpt="", bdat=False):
        """A transaction that must succeed; data ends with CRLF, or is empty. Returns the id in the
        last reply."""
        self.envelope(sender, to, mail, rcpt)
        if bdat:
            self.send(b"BDAT %d LAST\r\n" % len(data) + data)
        else:
            self.command("DATA", 354)
            self.send(stuff(data) + b".\r\n")
        return queue_id(self.reply(250))

    def quit(self):
        self.command("QUIT", 221)
        self.reply(0)
        self.close()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def stuff(data):
    stuffed = data.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def queue_id(reply):
    found = re.search(r"\b([0-9a-hjkmnp-tv-z]{13})\b", reply.text)
    assert found, "no queue id in the reply %r" % reply
    return found[1]


def split_received(data):
    """(the first header field if it is Received, the rest): what tram put in front, and what
    came."""
    found = re.match(rb"Received:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", data)
    return (found[0], data[found.end():]) if found else (b"", data)


# ---- Postfix -------------------------------------------------------------------------------------

POSTFIX = "/usr/sbin/postfix"


class Postfix:
    """A private Postfix on loopback, from Debian's package; needs root. relay: "[127.0.0.1]:2525"
    for all mail."""

    MAIN = """\
compatibility_level = 3.6
queue_directory = {place}/spool
data_directory = {place}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = pf.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_bind_address = 127.0.0.1
maillog_file = {place}/log/mail.log
maillog_file_prefixes = {place}
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
relayhost = {relay}
disable_dns_lookups = yes
smtp_host_lookup = native
message_size_limit = 104857600
mailbox_size_limit = 0
smtputf8_enable = yes
alias_maps =
alias_database =
virtual_alias_maps =
"""

    def __init__(self, relay, **settings):
        assert os.geteuid() == 0, "Postfix must be started by root"
        self.place = tempfile.mkdtemp(prefix="tram-postfix-")
        os.chmod(self.place, 0o755)
        self.port = free_port()
        for name in ("etc", "spool", "data", "log"):
            os.mkdir(os.path.join(self.place, name), 0o755)
            os.chmod(os.path.join(self.place, name), 0o755)
        shutil.chown(os.path.join(self.place, "data"), "postfix")
        self.etc = os.path.join(self.place, "etc")
        with open(os.path.join(self.etc, "main.cf"), "w") as f:
            f.write(self.MAIN.format(place=self.place, relay=relay))
            f.writelines("%s = %s\n" % item for item in settings.items())
        with open("/usr/share/postfix/master.cf.dist") as f:
            master = f.read()
        # One listener of ours in place of port smtp, and no service in a chroot.
        master = re.sub(r"(?m)^smtp      inet.*", "127.0.0.1:%d inet n - n - - smtpd" % self.port,
                        master)
        master = re.sub(r"(?m)^(#?[a-z-]+ +(?:unix|fifo|inet|pass) +[-yn] +[-yn] +)y", r"\1n",
                        master)
        # by which it uses a connection with TLS again
        master = re.sub(r"(?m)^#tlsproxy", "tlsproxy", master)
        if not re.search(r"(?m)^postlog", master):
            master += "postlog unix-dgram n - n - 1 postlogd\n"
        with open(os.path.join(self.etc, "master.cf"), "w") as f:
            f.write(master)
        self.command("start")
        wait_for(self.is_up, TIMEOUT, "Postfix answers on port %d" % self.port)

    def command(self, word):
        subprocess.run([POSTFIX, "-c", self.etc, word], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def is_up(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
                return s.recv(3) == b"220"
        except OSError:
            return False

    def log(self):
        with open(os.path.join(self.place, "log", "mail.log"), errors="replace") as f:
            return f.read()

    def close(self):
        try:
            self.command("stop")
        finally:
            shutil.rmtree(self.place, ignore_errors=True)
