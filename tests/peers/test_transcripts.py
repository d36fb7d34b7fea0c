"""Plays the dialogues of tests/transcripts/server to the daemon. Their language is described in
tests/transcripts/README.md; what it can only be asked in process (policies, TLS, early talk) is
left out here."""
import glob
import os
import re

import pytest

from conftest import FAST
from harness import ROOT, SmtpRaw, split_received
from sink import FEATURES

FILES = sorted(glob.glob(os.path.join(ROOT, "tests", "transcripts", "server", "*.txt")))
NOT_HERE = re.compile(r"(?m)^(policy |play *= *process|early$|listener *(local|starttls))")
LIMITS = {"message-size": 100000, "recipients": 100, "line-length": 65536, "command-length": 4096,
          "messages-per-session": 1000, "errors-per-session": 20, "junk-commands": 100}
SIZES = ("message-size", "line-length", "command-length")
LETTERS = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


def unescape(text):
    out, at = [], 0
    while at < len(text):
        repeat = re.compile(r"\{([^}]*)\*(\d+)\}").match(text, at)
        escape = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([rnt0\\]))").match(text, at)
        if repeat:
            out.append(unescape(repeat[1]) * int(repeat[2]))
            at = repeat.end()
        elif escape:
            out.append(bytes([int(escape[1], 16)]) if escape[1] else LETTERS[escape[2]])
            at = escape.end()
        else:
            out.append(text[at].encode())
            at += 1
    return b"".join(out)


def line_of(text):
    """A C: or M: line with its CRLF, unless it ends in a lone backslash."""
    if text.endswith("\\") and not text.endswith("\\\\"):
        return unescape(text[:-1])
    return unescape(text) + b"\r\n"


class Transcript:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.source = f.read()
        self.limits, self.listener, self.steps = dict(LIMITS), {"mt-priority": "no"}, []
        for number, line in enumerate(self.source.split("\n"), 1):
            if line and not line.startswith("#"):
                self.read(line, number)

    def read(self, line, number):
        setting = re.match(r"(limits|listener) +([a-z-]+) *= *(\S+)$", line)
        if setting:
            (self.limits if setting[1] == "limits" else self.listener)[setting[2]] = setting[3]
        elif line[:2] in ("C:", "S:", "M:"):
            text = line[3:] if line[2:3] == " " else line[2:]
            kind = line[0]
            self.add(kind, number, text if kind == "S" else line_of(text))
        elif line == "M.":
            self.add("M", number, b"")
        elif line == "ehlo":
            self.add("C", number, b"EHLO client.example.org\r\n")
            self.steps.append(("ehlo", number, None))
        elif line in ("close", "tls"):
            self.steps.append((line, number, None))
        else:
            assert re.match(r"(policy |client |play|cut|early)", line), "line %d: %s" % (number,
                                                                                         line)

    def add(self, kind, number, value):
        if kind == "S":
            self.steps.append((kind, number, value))
        elif self.steps and self.steps[-1][0] == kind:
            self.steps[-1] = (kind, self.steps[-1][1], self.steps[-1][2] + value)
        else:
            self.steps.append((kind, number, value))


class Player:
    def __init__(self, tramd, sink):
        self.client = SmtpRaw("127.0.0.1", tramd.port, greet=False)
        self.tramd, self.sink, self.id, self.closed = tramd, sink, None, False

    def line(self):
        """The next line that the server sends; None at the end of the connection."""
        c = self.client
        while b"\r\n" not in c.pending:
            try:
                got = c.socket.recv(65536)
            except ConnectionResetError:
                got = b""
            if not got:
                return None
            c.pending += got
        line, _, c.pending = c.pending.partition(b"\r\n")
        return line.decode("utf-8", "replace")

    def send(self, data):
        try:
            self.client.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            # closed before all was said; its last words can still be read
            pass

    def expect(self, number, text):
        line = self.line()
        wanted = unescape(text[:-1] if text.endswith("*") else text).decode("utf-8", "replace")
        good = line is not None and (line.startswith(wanted)
                                     if text.endswith("*") else line == wanted)
        assert good, "line %d: wanted %r, got %r" % (number, text, line)
        queued = re.search(r" queued as ([0-9a-hjkmnp-tv-z]{13})", line)
        self.id = queued[1] if queued else self.id

    def message(self, number, wanted):
        """What was accepted last has arrived at the sink: the same, behind a Received field."""
        self.tramd.wait_log(event="final", id=self.id)
        found = [m for m in self.sink.messages if self.id.encode() in split_received(m.data)[0]]
        assert len(found) == 1
        rest = split_received(found[0].data)[1]
        # then a blank line parts it from the Received field
        headless = not re.match(rb"[!-9;-~]+:", wanted)
        assert rest == wanted or (headless and rest == b"\r\n" + wanted), "line %d" % number

    def step(self, kind, number, value):
        if kind == "C":
            assert not self.client.pending, "line %d: nobody waits for %r" % (number,
                                                                              self.client.pending)
            self.send(value)
        elif kind == "S":
            self.expect(number, value)
        elif kind == "ehlo":
            while True:
                line = self.line()
                assert line is not None and line.startswith("250"), "line %d: %r" % (number, line)
                if line[3] == " ":
                    break
        elif kind == "M":
            self.message(number, value)
        elif kind == "close":
            line = self.line()
            assert line is None, "line %d: not closed, but %r" % (number, line)


@pytest.mark.parametrize("path", FILES, ids=[os.path.basename(p)[:-4] for p in FILES])
def test_transcript(make_tramd, make_sink, path):
    transcript = Transcript(path)
    if NOT_HERE.search(transcript.source):
        pytest.skip("is for the test in process only")
    sink = make_sink(features=FEATURES + ("BINARYMIME",))
    limits = {name: "%s%s" % (value, "B" if name in SIZES else "")
              for name, value in transcript.limits.items()}
    tramd = make_tramd(static=sink, hostname="mx.example.net", queue=FAST,
                       listener=transcript.listener, limits=dict(limits, **{"error-delay": "0s"}))
    player = Player(tramd, sink)
    for step in transcript.steps:
        player.step(*step)
    assert not player.client.pending, "left over: %r" % player.client.pending
    player.client.close()
