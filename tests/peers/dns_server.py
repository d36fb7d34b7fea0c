"""Name servers for the end-to-end tests: a real one (NSD) with zones given as text, and one of our
own that misbehaves.

    with Nsd({"example.test": "@ MX 10 mail\\nmail A 127.0.0.1"}) as real:      # all other names: NXDOMAIN
        with BrokenDns(upstream=real, rules={"sick.test": "servfail"}) as dns:  # in front of it
            … resolver = "%s" % dns.address …
            dns.wait_for("sick.test", "MX", 2)
            dns.rules["sick.test"] = None                                       # well again

Standard library only. Both listen on a free port of 127.0.0.1, UDP and TCP, and live until stop().
Nothing sleeps: readiness is a real DNS query that is answered. ask() is a small client, for tests
of the tests and for waiting.
"""
import fnmatch
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

from harness import TIMEOUT, free_port

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28,
         "OPT": 41, "TLSA": 52, "ANY": 255}
TYPE_NAMES = {number: name for name, number in TYPES.items()}
RCODES = {"noerror": 0, "formerr": 1, "servfail": 2, "nxdomain": 3, "notimp": 4, "refused": 5}
QR, AA, TC, RD, RA, AD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020

# What DNS can say about a domain's mail. example → outcome, beside each. Hosts lead to 127.0.0.1;
# the port is the route's.
INTEROP_ZONES = {
    "interop.test": """
        @           A     127.0.0.1
        mail        A     127.0.0.1
        mail6       AAAA  ::1
        mail46      A     127.0.0.1
        mail46      AAAA  ::1
        dead        A     127.1.2.3
        plain       MX    10 mail           ; delivered
        order       MX    20 mail           ; the dead one is tried first, then delivered
        order       MX    10 dead
        equal       MX    10 mail           ; shuffled
        equal       MX    10 mail46
        null        MX    0 .               ; 556 5.1.10 at once
        implicit    A     127.0.0.1         ; delivered: no MX
        textonly    TXT   "no address"      ; 550 5.4.4: no MX, no address
        lost        MX    10 nowhere        ; 550 5.4.4: the host does not exist
        alias       CNAME plain             ; delivered: an alias for the domain
        aliasmx     MX    10 mailalias      ; delivered: CNAME at MX is tolerated
        mailalias   CNAME mail
        loop1       CNAME loop2             ; 451 4.4.3
        loop2       CNAME loop1
        self        MX    10 relay.test.    ; 554 5.4.6 where relay.test is our name
        backup      MX    10 mail           ; only the better one
        backup      MX    20 relay.test.
        backup      MX    30 dead
        literal     MX    10 127.0.0.1.     ; 550 5.4.4 unless private ones are allowed
        local       MX    10 localhost.     ; likewise
        private     MX    10 private-host   ; likewise
        private-host A    10.255.255.1
        many        MX    10 many-host
        xn--bcher-kva MX  10 mail           ; bücher.interop.test
    """ + "".join("        many-host A 192.0.2.%d\n" % i for i in range(1, 101)),      # over 1,232 octets: TCP
    "relay.test": "@ A 127.0.0.1",
}


# ---- messages ------------------------------------------------------------------------------------

def encode_name(name):
    labels = [label.encode("latin-1") for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def decode_name(message, at):
    """The name in lower case without its last dot, and where it ends. ValueError if it does not."""
    labels, end = [], None
    for _ in range(128):
        size = message[at] if at < len(message) else 255
        if size == 0:
            return ".".join(labels).lower(), at + 1 if end is None else end
        if size >= 0xc0 and at + 1 < len(message):
            end = at + 2 if end is None else end
            at = (size & 0x3f) << 8 | message[at + 1]
            continue
        if size > 63 or at + 1 + size > len(message):
            break
        labels.append(message[at + 1:at + 1 + size].decode("latin-1"))
        at += 1 + size
    raise ValueError("bad name")


def encode_data(kind, data):
    """The data of a record from its text; names are absolute."""
    words = data.split()
    if kind in ("A", "AAAA"):
        return socket.inet_pton(socket.AF_INET if kind == "A" else socket.AF_INET6, words[0])
    if kind == "MX":
        return struct.pack(">H", int(words[0])) + encode_name(words[1])
    if kind == "TXT":
        text = data.strip().strip('"').encode()
        return b"".join(bytes([len(text[i:i + 255])]) + text[i:i + 255]
                        for i in range(0, len(text) or 1, 255))
    if kind == "SOA":
        return encode_name(words[0]) + encode_name(words[1]) + struct.pack(">5I",
                                                                           *map(int, words[2:7]))
    return encode_name(words[0])        # CNAME, NS, PTR


def encode_record(owner, kind, ttl, data):
    return encode_name(owner) + struct.pack(">HHIH", TYPES[kind], 1, ttl, len(data)) + data


class Query:
    """A question as it came: id, flags, name, type ("MX"), edns, tcp."""

    def __init__(self, message, tcp=False):
        if len(message) < 12:
            raise ValueError("short message")
        self.raw, self.tcp = message, tcp
        self.id, self.flags, questions, _, _, extra = struct.unpack(">6H", message[:12])
        if questions != 1 or self.flags & QR:
            raise ValueError("no question")
        self.name, at = decode_name(message, 12)
        if at + 4 > len(message):
            raise ValueError("no type")
        number = struct.unpack(">H", message[at:at + 2])[0]
        self.type = TYPE_NAMES.get(number, str(number))
        self.question = message[12:at + 4]
        self.edns = extra > 0 and self._payload(at + 4)
        self.limit = max(512, self.edns) if self.edns else 512

    def _payload(self, at):
        """The size its OPT record allows; it stands first in the additional section of a query."""
        _, at = decode_name(self.raw, at)
        kind, size = struct.unpack(">HH", self.raw[at:at + 4])
        return size if kind == TYPES["OPT"] else 0

    def reply(self, rcode=0, answers=(), authority=(), flags=0, id=None, question=None, opt=True):
        """A response; records are octets, from encode_record()."""
        extra = [b"\0" + struct.pack(">HHIH", TYPES["OPT"], 1232, 0,
                                     0)] if self.edns and opt else []
        head = struct.pack(">6H", self.id if id is None else id,
                           QR | RA | (self.flags & RD) | flags | rcode, 1,
                           len(answers), len(authority), len(extra))
        return head + (question or self.question) + b"".join([*answers, *authority, *extra])


class Answer:
    """A response as it came: rcode, flags, records [(owner, type, ttl, data octets)] of the answer
    section."""

    def __init__(self, message):
        self.raw = message
        self.id, self.flags, questions, answers = struct.unpack(">4H", message[:8])
        self.rcode, self.records, at = self.flags & 15, [], 12
        for _ in range(questions):
            at = decode_name(message, at)[1] + 4
        for _ in range(answers):
            owner, at = decode_name(message, at)
            kind, _, ttl, size = struct.unpack(">HHIH", message[at:at + 10])
            self.records.append((owner, TYPE_NAMES.get(kind, str(kind)), ttl,
                                 message[at + 10:at + 10 + size]))
            at += 10 + size


def receive_exactly(stream, size):
    parts = b""
    while len(parts) < size:
        part = stream.recv(size - len(parts))
        if not part:
            raise OSError("closed")
        parts += part
    return parts


def ask_raw(address, message, tcp=False, timeout=10.0):
    """One exchange with a (host, port). OSError (also a time-out) when there is no answer."""
    if tcp:
        with socket.create_connection(address, timeout) as stream:
            stream.sendall(struct.pack(">H", len(message)) + message)
            return receive_exactly(stream, struct.unpack(">H", receive_exactly(stream, 2))[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(timeout)
        s.connect(address)
        s.send(message)
        return s.recv(65535)


def ask(address, name, kind="A", tcp=False, timeout=10.0, edns=True):
    """Asks one question; truncated answers are not asked for again. An Answer, or OSError."""
    opt = b"\0" + struct.pack(">HHIH", TYPES["OPT"], 1232, 0, 0) if edns else b""
    message = struct.pack(">6H", int.from_bytes(os.urandom(2), "big"), RD | AD, 1, 0, 0,
                          1 if edns else 0) + \
        encode_name(name) + struct.pack(">HH", TYPES[kind], 1) + opt
    return Answer(ask_raw(address, message, tcp, timeout))


def wait_until_answered(address, name, kind="SOA", timeout=TIMEOUT,
                        good=lambda answer: answer.rcode == 0, alive=lambda: True):
    """Asks until the answer is good. AssertionError after the time, or when `alive` says that it is
    no use."""
    deadline, pause, last = time.monotonic() + timeout, threading.Event(), None
    while time.monotonic() < deadline and alive():
        try:
            last = ask(address, name, kind, timeout=2)
            if good(last):
                return last
        except (OSError, ValueError, struct.error) as fault:
            last = fault
        pause.wait(0.01)        # a refusal comes back at once
    raise AssertionError("%s:%d gives no answer for %s: %r" % (*address, name, last))


def free_sockets(host="127.0.0.1"):
    """A datagram socket and a listening one on the same free port."""
    for _ in range(100):
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            datagrams.bind((host, free_port(host)))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(datagrams.getsockname())
            listener.listen(64)
            return datagrams, listener
        except OSError:
            datagrams.close()
            listener.close()
    raise AssertionError("no port is free for both UDP and TCP")


class Address:
    """What both servers have: a place to ask at."""
    host, port = "127.0.0.1", 0

    @property
    def address(self):
        """As tramd's configuration takes it: "127.0.0.1:5353"."""
        return "%s:%d" % (self.host, self.port)

    @property
    def endpoint(self):
        return self.host, self.port

    def ask(self, name, kind="A", **how):
        return ask(self.endpoint, name, kind, **how)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


# ---- NSD -----------------------------------------------------------------------------------------

def zone_records(text):
    """Zone text as it is written in tests, where lines are indented: each begins with its owner."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return "\n".join(line for line in lines if line) + "\n"


class Program(Address):
    """A name server that is a program: its process, and a directory of its own for as long as it
    lives."""

    LOG = "log"

    def __init__(self, host="127.0.0.1"):
        self.host, self.process, self.place = host, None, None

    @property
    def log_path(self):
        return os.path.join(self.place, self.LOG)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def _end(self):
        """The process alone: who has children ends them itself."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def stop(self):
        self._end()
        if self.place is not None:
            shutil.rmtree(self.place, ignore_errors=True)
            self.place = None


class Nsd(Program):
    """NSD with these zones: {"example.test": "@ MX 10 mail\\n…"}, or a list of texts that begin
    with $ORIGIN.

    SOA and NS are added where there are none. With root (the default) it also serves ".", so that
    all other names do not exist, as in the real DNS; without it they are REFUSED.
    """

    LOG = "nsd.log"

    CONFIG = """
server:
    ip-address: %(host)s@%(port)d
    port: %(port)d
    server-count: 1
    username: ""
    chroot: ""
    zonesdir: "%(place)s"
    database: ""
    pidfile: "%(place)s/nsd.pid"
    xfrdfile: "%(place)s/xfrd.state"
    xfrdir: "%(place)s"
    zonelistfile: "%(place)s/zone.list"
    hide-version: yes
    verbosity: 1
    tcp-count: 100
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
remote-control:
    control-enable: no
"""

    def __init__(self, zones=(), root=True, ttl=60, host="127.0.0.1"):
        super().__init__(host)
        self.ttl = ttl
        self.serials, self.zones = {}, {}
        if not isinstance(zones, dict):
            zones = {self._origin(text): text for text in zones}
        for name, text in zones.items():
            self.zones[name.rstrip(".") or "."] = text
        if root:
            self.zones.setdefault(".", "")

    @staticmethod
    def _origin(text):
        words = text.split(None, 2)
        if len(words) < 2 or words[0].upper() != "$ORIGIN":
            raise ValueError("a zone that is given as text alone begins with $ORIGIN: %r"
                             % text[:40])
        return words[1]

    def _file(self, name):
        return os.path.join(self.place, "zone." + (name if name != "." else "root"))

    def _write(self, name):
        self.serials[name] = self.serials.get(name, 0) + 1
        text, head = zone_records(self.zones[name]), ""
        if " SOA " not in text.replace("\t", " "):
            head += ("@ SOA ns.invalid. hostmaster.invalid. %d 3600 600 86400 %d\n"
                     % (self.serials[name], self.ttl))
            head += "@ NS ns.invalid.\n"
        origin = name if name == "." else name + "."
        with open(self._file(name), "w", encoding="utf-8") as f:
            f.write("$ORIGIN %s\n$TTL %d\n%s%s" % (origin, self.ttl, head, text))

    def _run(self):
        datagrams, listener = free_sockets(self.host)
        self.port = datagrams.getsockname()[1]
        datagrams.close()
        listener.close()
        config = os.path.join(self.place, "nsd.conf")
        with open(config, "w", encoding="utf-8") as f:
            f.write(self.CONFIG % {"host": self.host, "port": self.port, "place": self.place})
            for name in self.zones:
                f.write('zone:\n    name: "%s"\n    zonefile: "%s"\n' % (name, self._file(name)))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([shutil.which("nsd") or "/usr/sbin/nsd", "-d", "-c",
                                             config],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _is_well(self):
        """A zone that it cannot read is an error in its log, and it would answer SERVFAIL for
        ever."""
        return self.process.poll() is None and "error:" not in self.log()[self.log_mark:]

    def start(self):
        self.log_mark = 0
        self.place = tempfile.mkdtemp(prefix="tram-nsd-")
        for name in self.zones:
            self._write(name)
        try:
            for attempt in range(5):
                self._run()
                try:
                    for name in self.zones:
                        wait_until_answered(self.endpoint, name, alive=self._is_well)
                    return self
                except AssertionError:
                    # Somebody may have taken the port between our look and NSD's.
                    if attempt == 4 or "in use" not in self.log()[self.log_mark:]:
                        raise AssertionError("nsd does not start:\n" + self.log()) from None
                    self._end()
                    self.log_mark = len(self.log())
        except BaseException:
            self.stop()
            raise

    def set_zone(self, name, text):
        """New contents of a zone that it already has; returns when they are served."""
        name = name.rstrip(".") or "."
        if " SOA " in text.replace("\t", " "):
            raise ValueError("set_zone() counts the serial itself: leave the SOA out")
        before = os.stat(self._file(name)).st_mtime_ns
        self.zones[name] = text
        self._write(name)
        # NSD reads again what has a newer time, in whole seconds on some file systems.
        newer = max(time.time_ns(), before + 1_000_000_000)
        os.utime(self._file(name), ns=(newer, newer))
        self.log_mark = len(self.log())
        self.process.send_signal(signal.SIGHUP)
        want = struct.pack(">I", self.serials[name])
        wait_until_answered(self.endpoint, name, alive=self._is_well,
                            good=lambda a: any(r[1] == "SOA" and r[3][-20:-16] == want
                                               for r in a.records))


# ---- the one that misbehaves ---------------------------------------------------------------------

class BrokenDns(Address):
    """A name server in Python: answers from `records` ("name TYPE data" lines, absolute names), or
    passes questions on to `upstream` (an Nsd, or a BrokenDns), and follows `rules` for names that
    shall go wrong. No rule, no record, no upstream: NXDOMAIN.

    rules: {key: what}. A key is "name", ("name", "MX"), or a pattern with * ("*.sick.test"); the
    most exact one counts. They may be changed while it runs; None is no rule. What:
        servfail, refused, notimp, nxdomain     that rcode
        nodata              the name exists, the type does not
        formerr             FORMERR without OPT to a query with EDNS, the truth to one without
        silence             no answer; silence-udp: none by UDP
        truncate            TC by UDP, the truth by TCP; truncate-always: TC by both
        refuse-tcp          TC by UDP, and the TCP connection is closed without an answer
        garbage             octets that are no DNS message, with the right id
        malformed           header and question are right, the answer's record is not
        short               the first half of the true answer
        wrong-id            an answer with another id, and no other; then-right: the truth behind it
        wrong-question      an answer to another question
        cname-loop          two CNAMEs that point at each other
        slow:SECONDS        the truth, later
        a list              one after the other, the last one stays: ["servfail", "servfail", None]
        a function          called with the Query; returns octets, None (silence), or one of these words
    """

    def __init__(self, records="", rules=None, upstream=None, ttl=60, host="127.0.0.1"):
        self.host, self.ttl, self.rules, self.upstream = host, ttl, dict(rules or {}), upstream
        self.records, self.names = {}, set()
        self.queries = []                       # (name, type, "udp" or "tcp"), as they came
        self.arrived = threading.Condition()
        self.turns = {}
        self.timers = set()
        self.add(records)

    def add(self, text):
        for line in filter(None, zone_records(text).splitlines()):
            owner, kind, data = line.split(";")[0].split(None, 2)
            owner = owner.rstrip(".").lower()
            self.records.setdefault((owner, kind), []).append(encode_record(owner, kind, self.ttl,
                                                                            encode_data(kind,
                                                                                        data)))
            self.names.add(owner)

    def start(self):
        self.datagrams, self.listener = free_sockets(self.host)
        self.datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.port = self.datagrams.getsockname()[1]
        self.wake_read, self.wake_write = os.pipe()
        self.thread = threading.Thread(target=self._serve, name="broken-dns", daemon=True)
        self.thread.start()
        return self

    def stop(self):
        if getattr(self, "thread", None) is None:
            return
        os.write(self.wake_write, b"x")
        self.thread.join()
        self.thread = None
        for timer in list(self.timers):
            timer.cancel()
            timer.join()
        self.datagrams.close()
        self.listener.close()
        os.close(self.wake_read)
        os.close(self.wake_write)

    def count(self, name=None, kind=None):
        with self.arrived:
            return self._count(name, kind)

    def _count(self, name, kind):
        return sum(1 for n, k, _ in self.queries if name in (None, n) and kind in (None, k))

    def wait_for(self, name=None, kind=None, count=1, timeout=TIMEOUT):
        """Until so many such questions have come since the start."""
        with self.arrived:
            came = self.arrived.wait_for(lambda: self._count(name, kind) >= count, timeout)
            assert came, "%s %s was asked %d times, not %d" % (name, kind, self._count(name, kind),
                                                               count)

    # How a question becomes octets. All of this runs on the server's thread, slow answers on their
    # timer's.

    def _rule(self, query):
        keys = [(query.name, query.type), query.name]
        keys += sorted((key for key in self.rules if isinstance(key, str) and "*" in key and
                        fnmatch.fnmatch(query.name, key)), key=len, reverse=True)
        for key in keys:
            what = self.rules.get(key)
            if isinstance(what, list):
                turn = self.turns.get(key, 0)
                self.turns[key] = turn + 1
                what = what[min(turn, len(what) - 1)] if what else None
            if what is not None:
                return what
        return None

    def _truth(self, query):
        if self.upstream is not None and query.name not in self.names:
            try:
                return ask_raw(self.upstream.endpoint, query.raw, query.tcp, 5)
            except OSError:
                return query.reply(RCODES["servfail"])
        owner, found = query.name, []
        for _ in range(8):
            alias = self.records.get((owner, "CNAME"))
            if alias is None or query.type == "CNAME":
                break
            found += alias
            owner = decode_name(alias[0], len(encode_name(owner)) + 10)[0]
        found += self.records.get((owner, query.type), [])
        rcode = RCODES["noerror" if query.name in self.names else "nxdomain"]
        message = query.reply(rcode, found, [] if found else [self._soa(query)])
        if not query.tcp and len(message) > query.limit:
            return query.reply(flags=TC)
        return message

    def _soa(self, query):
        zone = query.name.rpartition(".")[2]
        return encode_record(zone, "SOA", self.ttl,
                             encode_data("SOA", "ns.invalid hostmaster.invalid 1 3600 600 86400 %d"
                                         % self.ttl))

    def _loop(self, query):
        other = "loop." + query.name
        return query.reply(0, [encode_record(query.name, "CNAME", self.ttl, encode_name(other)),
                               encode_record(other, "CNAME", self.ttl, encode_name(query.name))])

    def _lie(self, query):
        """Something that would do harm if it were believed."""
        return [encode_record(query.name, "A", self.ttl, encode_data("A", "192.0.2.66")),
                encode_record(query.name, "MX", self.ttl, encode_data("MX", "0 evil.invalid"))]

    def _messages(self, query, what):
        """The octets to send for this word, in their order."""
        if callable(what):
            what = what(query)
            if what is None or isinstance(what, bytes):
                return [what] if what else []
        if what in ("silence", "silence-udp") and (what == "silence" or not query.tcp):
            return []
        if what == "formerr":
            return [query.reply(RCODES["formerr"],
                                opt=False)] if query.edns else [self._truth(query)]
        if what in RCODES and what != "noerror":
            return [query.reply(RCODES[what], [], [self._soa(query)] if what == "nxdomain" else [])]
        if what == "nodata":
            return [query.reply(0, [], [self._soa(query)])]
        if what == "truncate-always" or (what in ("truncate", "refuse-tcp") and not query.tcp):
            return [query.reply(flags=TC)]
        if what == "refuse-tcp":
            return []
        if what == "garbage":
            return [query.raw[:2] + b"this is not a message of the domain name system"]
        if what == "malformed":
            return [query.reply(0, [encode_record(query.name, query.type, self.ttl, b"\1\2\3")])]
        if what == "short":
            truth = self._truth(query)
            return [truth[:max(12 + len(query.question), len(truth) // 2)]]
        if what in ("wrong-id", "then-right"):
            lie = query.reply(0, self._lie(query), id=query.id ^ 0x1234)
            return [lie, self._truth(query)] if what == "then-right" else [lie]
        if what == "wrong-question":
            return [query.reply(0, self._lie(query),
                                question=encode_name("other.invalid") + query.question[-4:])]
        if what == "cname-loop":
            return [self._loop(query)]
        if what not in (None, "truncate", "silence-udp"):
            raise ValueError("no such rule: %r" % (what,))
        return [self._truth(query)]

    def _answer(self, query, send):
        with self.arrived:
            self.queries.append((query.name, query.type, "tcp" if query.tcp else "udp"))
            self.arrived.notify_all()
        what = self._rule(query)
        if not isinstance(what, str) or not what.startswith("slow:"):
            for message in self._messages(query, what):
                send(message)
            return

        def later():
            try:
                send(self._truth(query))
            except OSError:
                pass            # the one who asked, or the server, is gone
            self.timers.discard(timer)
        timer = threading.Timer(float(what[5:]), later)
        self.timers.add(timer)
        timer.start()

    def _on_datagram(self):
        message, sender = self.datagrams.recvfrom(65535)
        try:
            query = Query(message)
        except (ValueError, struct.error):
            return
        self._answer(query, lambda octets: self.datagrams.sendto(octets, sender))

    def _on_stream(self, stream):
        """One question of a connection. False: close it."""
        try:
            query = Query(receive_exactly(stream,
                                          struct.unpack(">H", receive_exactly(stream, 2))[0]),
                          tcp=True)
            self._answer(query, lambda octets: stream.sendall(struct.pack(">H", len(octets))
                                                              + octets))
            return self._rule_keeps_connection(query)
        except (OSError, ValueError, struct.error):
            return False

    def _rule_keeps_connection(self, query):
        return (self.rules.get(query.name) != "refuse-tcp"
                and self.rules.get((query.name, query.type)) != "refuse-tcp")

    def _serve(self):
        streams = []
        while True:
            ready = select.select([self.wake_read, self.datagrams, self.listener, *streams], [],
                                  [])[0]
            if self.wake_read in ready:
                break
            for one in ready:
                if one is self.datagrams:
                    self._on_datagram()
                elif one is self.listener:
                    stream = self.listener.accept()[0]
                    stream.settimeout(5)
                    streams.append(stream)
                elif not self._on_stream(one):
                    streams.remove(one)
                    one.close()
        for stream in streams:
            stream.close()
