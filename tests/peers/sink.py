#!/usr/bin/env python3
"""A scriptable SMTP server: the next hop of the end-to-end tests.

It keeps every message byte for byte, and does what its rules say at any step of a dialogue: another
reply, raw octets, a delay, a pause until the test lets go, a dropped connection. Standard library
only; a thread for each session.

    sink = Sink()                                      # 127.0.0.1, a free port
    sink.rule("RCPT", "550 5.1.1 no such user", match="bad@")
    sink.rule("DOT", DROP, times=1)                    # after the final dot was read, before its reply
    sink.wait(1)[0].data                               # the content, dots un-stuffed
    sink.close()

With tls=(chain, key) it has STARTTLS (step STARTTLS; a rule TLS with DROP hangs up in the
handshake); with tls_on_connect=True TLS comes first.

Steps: BANNER, EHLO, HELO, MAIL, RCPT, DATA (before 354), BODY (354 was said, nothing read yet), DOT
(all of the message was read), BDAT, RSET, NOOP, QUIT. As a program it prints what it gets: sink.py
[--host H] [--port P].
"""
import argparse
import base64
import re
import socket
import ssl
import struct
import sys
import threading
import time

from harness import TIMEOUT, free_port

DROP = object()			# close the connection without a reply
RESET = object()		# the same, with a TCP reset
SILENT = object()		# read on, never reply

FEATURES = ("PIPELINING", "SIZE 104857600", "8BITMIME", "CHUNKING", "DSN", "SMTPUTF8",
            "ENHANCEDSTATUSCODES")


class Message:
    """One message as it came."""

    def __init__(self, session, helo, sender, mail_params, recipients, data, bdat):
        self.session = session			# number of the session, from 1
        self.helo = helo
        self.sender = sender			# without the angle brackets
        self.mail_params = mail_params		# list of words, as they came
        self.recipients = [address for address, _ in recipients]
        self.rcpt_params = {address: params for address, params in recipients}
        # octets, un-stuffed; ends with the CRLF before the dot
        self.data = data
        self.bdat = bdat			# came by BDAT
        self.tls, self.user = None, None	# or "TLSv1.3", who has logged in
        self.resumed = False			# the session of an earlier connection
        self.peer = None			# the address it came from
        self.time = time.time()

    @property
    def headers(self):
        return self.data.partition(b"\r\n\r\n")[0] + b"\r\n"

    @property
    def body(self):
        return self.data.partition(b"\r\n\r\n")[2]


class Rule:
    def __init__(self, step, reply, match, times, delay, hold):
        self.step, self.reply, self.match, self.times, self.delay, self.hold = (step, reply, match,
                                                                                times, delay, hold)
        self.used = 0

    def fits(self, step, line):
        if step != self.step or (self.times is not None and self.used >= self.times):
            return False
        if self.match is None:
            return True
        return bool(self.match(line)) if callable(self.match) else re.search(self.match,
                                                                             line) is not None


class Ended(Exception):
    """The session is over."""


class Session:
    """One connection; its own thread."""

    def __init__(self, sink, conn, number):
        self.sink, self.conn, self.number = sink, conn, number
        self.pending = b""
        self.out = []
        self.helo = ""
        self.tls, self.user, self.resumed = None, None, False
        self.reset()

    def reset(self):
        self.sender, self.mail_params, self.recipients, self.chunks = None, [], [], []

    # ---- octets

    def fill(self):
        if self.out:
            self.flush()
        got = self.conn.recv(1 << 18)
        if not got:
            raise Ended
        return got

    def flush(self):
        data, self.out = b"".join(self.out), []
        self.conn.sendall(data)

    def line(self):
        while True:
            at = self.pending.find(b"\n")
            if at >= 0:
                line, self.pending = self.pending[:at + 1], self.pending[at + 1:]
                return line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
            self.pending += self.fill()

    def octets(self, count):
        parts, have = [self.pending], len(self.pending)
        while have < count:
            got = self.fill()
            parts.append(got)
            have += len(got)
        whole = b"".join(parts)
        self.pending = whole[count:]
        return whole[:count]

    def content(self):
        """Reads to CRLF.CRLF and takes the stuffing off."""
        # the CRLF of the DATA line counts: an empty message is ".CRLF"
        parts, tail = [b"\r\n"], b"\r\n"
        chunk = self.pending
        while True:
            at = (tail + chunk).find(b"\r\n.\r\n")
            if at >= 0:
                break
            parts.append(chunk)
            tail = (tail + chunk)[-4:]
            chunk = self.fill()
        parts.append(chunk)
        whole = b"".join(parts)
        at = whole.find(b"\r\n.\r\n")
        self.pending = whole[at + 5:]
        return whole[:at + 2].replace(b"\r\n..", b"\r\n.")[2:]

    # ---- replies

    def say(self, step, line, default):
        """Replies as the first fitting rule says; True if that was a positive reply."""
        rule = self.sink.find_rule(step, line)
        reply = default
        if rule is not None:
            reply = rule.reply(self, line) if callable(rule.reply) else rule.reply
            if reply is None:
                reply = default
            if rule.delay or rule.hold:
                self.flush()
            if rule.delay:
                self.sink.stopping.wait(rule.delay)
            while rule.hold is not None and not rule.hold.wait(0.05):
                if self.sink.stopping.is_set():
                    raise Ended
        if reply is DROP:
            raise Ended
        if reply is RESET:
            self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise Ended
        if reply is SILENT:
            return False
        if isinstance(reply, bytes):
            self.out.append(reply)
            return reply[:1] in b"23"
        if reply is not None:
            self.out.append(reply.encode("utf-8", "surrogateescape") + b"\r\n")
            if reply.startswith("421"):
                self.flush()
                raise Ended
            return reply[0] in "23"
        return True

    # ---- the dialogue

    def start_tls(self):
        rule = self.sink.find_rule("TLS", "")
        if rule is not None and rule.reply is DROP:
            raise Ended
        self.conn = self.sink.context.wrap_socket(self.conn, server_side=True)
        self.tls, self.resumed = self.conn.version(), self.conn.session_reused

    def do_starttls(self, line):
        if self.sink.context is None or self.tls:
            self.do_unknown(line)
        elif self.say("STARTTLS", line, "220 2.0.0 go on"):
            self.flush()
            self.pending = b""
            self.reset()
            self.start_tls()

    def run(self):
        try:
            if self.sink.tls_on_connect:
                self.start_tls()
            if not self.say("BANNER", "", self.sink.banner):
                self.flush()
            while True:
                line = self.line()
                self.sink.note(self.number, line)
                verb = line.split(" ", 1)[0].upper()
                getattr(self, "do_" + verb.lower(), self.do_unknown)(line)
        except (Ended, OSError):
            pass
        finally:
            try:
                if self.out:
                    self.flush()
            except OSError:
                pass
            self.conn.close()

    def do_unknown(self, line):
        self.out.append(b"500 5.5.1 what?\r\n")

    def do_ehlo(self, line):
        self.reset()
        self.helo = line[5:]
        lines = [self.sink.name] + list(self.sink.features)
        if self.sink.context is not None and not self.tls:
            lines.append("STARTTLS")
        if self.tls:
            lines.extend(self.sink.tls_features)
        self.say("EHLO", line, "\r\n".join(
            "250%s%s" % ("-" if i + 1 < len(lines) else " ", text) for i, text in enumerate(lines)))

    def do_helo(self, line):
        self.reset()
        self.helo = line[5:]
        self.say("HELO", line, "250 " + self.sink.name)

    def ask(self, challenge):
        self.out.append(b"334 " + base64.b64encode(challenge) + b"\r\n")
        return base64.b64decode(self.line())

    def do_auth(self, line):
        """PLAIN, LOGIN, XOAUTH2 and OAUTHBEARER against sink.users, {name: password or token};
        self.user is who it was."""
        words = line.split(" ")
        first = base64.b64decode(words[2]) if len(words) > 2 else None
        if words[1] == "PLAIN":
            _, user, secret = (first if first is not None else self.ask(b"")).split(b"\0")
        elif words[1] == "LOGIN":
            user = first if first is not None else self.ask(b"Username:")
            secret = self.ask(b"Password:")
        else:
            parts = (first if first is not None else self.ask(b"")).split(b"\1")
            user = parts[0].removeprefix(b"user=").removeprefix(b"n,a=").rstrip(b",")
            secret = next(p for p in parts if p.startswith(b"auth=")).removeprefix(b"auth=Bearer ")
        good = self.sink.users.get(user.decode()) == secret.decode()
        if not good and words[1] in ("XOAUTH2", "OAUTHBEARER"):
            self.ask(b'{"status":"401"}')
        if self.say("AUTH", line, "235 2.7.0 welcome" if good else "535 5.7.8 no") and good:
            self.user = user.decode()

    def path(self, line):
        found = re.match(r"(?i)(?:MAIL FROM|RCPT TO):\s*<([^>]*)>\s*(.*)$", line)
        return (found[1], found[2].split()) if found else (None, [])

    def do_mail(self, line):
        sender, params = self.path(line)
        default = ("501 5.5.4 syntax" if sender is None else "503 5.5.1 nested"
                   if self.sender is not None else \
            "250 2.1.0 ok")
        if self.say("MAIL", line, default) and sender is not None:
            self.sender, self.mail_params = sender, params

    def do_rcpt(self, line):
        address, params = self.path(line)
        default = ("503 5.5.1 MAIL first" if self.sender is None else "501 5.5.4 syntax"
                   if address is None else \
            "250 2.1.5 ok")
        if self.say("RCPT", line, default) and address is not None and self.sender is not None:
            self.recipients.append((address, params))

    def do_data(self, line):
        default = "354 go on" if self.recipients else "554 5.5.1 no valid recipients"
        if not self.say("DATA", line, default):
            return
        self.say("BODY", line, None)
        self.finish(self.content(), False)

    def do_bdat(self, line):
        words = line.split()
        self.chunks.append(self.octets(int(words[1])))
        if not self.recipients:
            self.say("BDAT", line, "503 5.5.1 no valid recipients")
        elif len(words) > 2 and words[2].upper() == "LAST":
            self.finish(b"".join(self.chunks), True)
        else:
            self.say("BDAT", line, "250 2.0.0 ok")

    def finish(self, data, bdat):
        message = Message(self.number, self.helo, self.sender, self.mail_params, self.recipients,
                          data, bdat)
        message.tls, message.user, message.resumed = self.tls, self.user, self.resumed
        message.peer = self.conn.getpeername()[0]
        if self.say("DOT", message.data.decode("latin-1") if len(data) < 65536 else "",
                    "250 2.0.0 kept"):
            self.sink.keep(message)
        self.reset()

    def do_rset(self, line):
        self.reset()
        self.say("RSET", line, "250 2.0.0 ok")

    def do_noop(self, line):
        self.say("NOOP", line, "250 2.0.0 ok")

    def do_quit(self, line):
        self.say("QUIT", line, "221 2.0.0 bye")
        raise Ended


class Sink:
    def __init__(self, host="127.0.0.1", port=0, features=FEATURES, name="sink.test", log=None,
                 tls=None, tls_on_connect=False):
        self.host, self.features, self.name, self.log = host, features, name, log
        self.context, self.tls_on_connect, self.users = None, tls_on_connect, {}
        self.tls_features = ()				# offered in TLS only
        if tls is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        self.banner = "220 %s ESMTP sink" % name
        self.rules, self.messages, self.lines = [], [], []	# lines: (session, command line)
        self.sessions = 0
        self.changed = threading.Condition()
        self.stopping = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port or free_port(host)))
        self.listener.listen(512)
        self.port = self.listener.getsockname()[1]
        self.open = set()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            if self.stopping.is_set():
                conn.close()
                return
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.changed:
                self.sessions += 1
                number = self.sessions
                self.open.add(conn)
                self.changed.notify_all()
            threading.Thread(target=self.run_session, args=(conn, number), daemon=True).start()

    def run_session(self, conn, number):
        Session(self, conn, number).run()
        with self.changed:
            self.open.discard(conn)
            self.changed.notify_all()

    # ---- for the test

    def rule(self, step, reply, match=None, times=None, delay=0, hold=None):
        """The first rule that fits decides. reply: text, octets, DROP, RESET, SILENT, None (the
        usual one), or a function of (session, line). match: a regular expression on the command
        line (on the content for DOT), or a function. hold: a threading.Event that the reply waits
        for."""
        made = Rule(step, reply, match, times, delay, hold)
        with self.changed:
            self.rules.append(made)
        return made

    def clear_rules(self):
        with self.changed:
            self.rules.clear()

    def find_rule(self, step, line):
        with self.changed:
            for rule in self.rules:
                if rule.fits(step, line):
                    rule.used += 1
                    self.changed.notify_all()
                    return rule
        return None

    def note(self, number, line):
        with self.changed:
            self.lines.append((number, line))
            self.changed.notify_all()

    def keep(self, message):
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()
        if self.log:
            self.log(message)

    def wait_until(self, condition, timeout, what):
        """condition() is asked again whenever anything happens here."""
        with self.changed:
            if not self.changed.wait_for(condition, timeout):
                raise AssertionError("%s: not within %g s; %d messages, %d sessions, last lines %r"
                                     % (
                                         what, timeout, len(self.messages), self.sessions,
                                         self.lines[-5:]))

    def wait(self, count, timeout=TIMEOUT):
        """The messages, once there are at least so many."""
        self.wait_until(lambda: len(self.messages) >= count, timeout, "%d messages" % count)
        return list(self.messages)

    def wait_rule(self, rule, count=1, timeout=TIMEOUT):
        self.wait_until(lambda: rule.used >= count, timeout,
                        "%s rule used %d times" % (rule.step, count))

    def wait_sessions(self, count, timeout=TIMEOUT):
        self.wait_until(lambda: self.sessions >= count, timeout, "%d sessions" % count)

    def lines_of(self, session):
        with self.changed:
            return [line for number, line in self.lines if number == session]

    def commands(self, verb):
        with self.changed:
            return [line for _, line in self.lines if line.upper().startswith(verb)]

    def recipients(self):
        """How often each address was delivered to."""
        count = {}
        with self.changed:
            for message in self.messages:
                for address in message.recipients:
                    count[address] = count.get(address, 0) + 1
        return count

    def close(self):
        self.stopping.set()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.changed:
            for conn in self.open:
                try:
                    conn.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.thread.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def main():
    parser = argparse.ArgumentParser(description="an SMTP server that takes everything and prints "
                                                 "it")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--headers", action="store_true",
                        help="print only the header of each message")
    options = parser.parse_args()

    def show(message):
        print("from=<%s> to=%s octets=%d" % (message.sender,
                                             ",".join("<%s>" % r for r in message.recipients),
                                            len(message.data)))
        text = message.headers if options.headers else message.data
        print(text.decode("utf-8", "replace").replace("\r\n", "\n"), flush=True)

    sink = Sink(options.host, options.port, log=show)
    print("listening on %s port %d" % (sink.host, sink.port), flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        sink.close()


if __name__ == "__main__":
    sys.exit(main())
