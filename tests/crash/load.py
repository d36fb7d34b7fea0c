"""Senders that note what was acknowledged, and the judge that compares it with what arrived.

A message carries a number and a digest of its own body. Acknowledged means: 250 to the final dot
was read.
"""
import hashlib
import os
import random
import re
import threading
import time

from harness import SmtpRaw, queue_id

NUMBER = re.compile(rb"X-Number: (\d+)\r\n")
DIGEST = re.compile(rb"X-Digest: ([0-9a-f]{64})\r\n")


def build(number, size):
    body = b"".join(b"%s\r\n" % os.urandom(30).hex().encode() for _ in range(size // 62 + 1))
    head = b"From: a@src.test\r\nX-Number: %d\r\nX-Digest: %s\r\n\r\n" % (
        number, hashlib.sha256(body).hexdigest().encode())
    return head + body


def intact(data):
    head, _, body = data.partition(b"\r\n\r\n")
    found = DIGEST.search(head + b"\r\n")
    return bool(found) and hashlib.sha256(body).hexdigest().encode() == found[1]


def weigh(message):
    """A sink's log: judges a message as it comes and keeps its header, for the bodies of a long run
    are gigabytes."""
    if message.sender != "":
        message.whole = intact(message.data)
        message.data = message.headers + b"\r\n"


class Load:
    """Several senders that go on until stop(), through any number of deaths of the server."""

    def __init__(self, port, senders=4, sizes=(500, 4000, 70000, 200000), seed=1, recipients=1):
        self.port, self.sizes, self.recipients = port, sizes, recipients
        self.lock, self.next, self.sent = threading.Lock(), 0, 0
        self.acknowledged, self.when = {}, {}       # number → queue id; → monotonic time
        self.going = True
        self.threads = [threading.Thread(target=self.run, args=(random.Random(seed + i),),
                                         daemon=True)
                        for i in range(senders)]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join(30)

    def number(self):
        with self.lock:
            self.next += 1
            return self.next

    def run(self, chance):
        pause = threading.Event()
        while self.going:
            try:
                self.session(chance)
            except (OSError, AssertionError):
                pause.wait(0.01)                    # it is down: it comes back

    def session(self, chance):
        with SmtpRaw("127.0.0.1", self.port, timeout=10) as c:
            c.hello()
            while self.going:
                number = self.number()
                to = ["r%d-%d@dst.test" % (number, i) for i in range(self.recipients)]
                c.envelope("a@src.test", to)
                c.command("DATA", 354)
                c.send(build(number, chance.choice(self.sizes)) + b".\r\n")
                self.sent += 1
                reply = c.reply()
                if reply.code == 250:
                    with self.lock:
                        self.acknowledged[number] = queue_id(reply)
                        self.when[number] = time.monotonic()


def count(load, messages):
    """(number, recipient) → how often it arrived; each must be whole. Reports are not counted."""
    seen = {}
    for message in messages:
        if message.sender == "":
            continue
        # before the question: weigh() answers it, then takes the body
        data = message.data
        assert getattr(message, "whole",
                       None) or intact(data), "a message arrived damaged: %r" % data[:300]
        number = int(NUMBER.search(message.headers)[1])
        for recipient in message.recipients:
            seen[(number, recipient)] = seen.get((number, recipient), 0) + 1
    return seen


def judge(load, messages, numbers=None):
    """Every acknowledged message (or each of these numbers) arrived, whole. Returns how many came
    more than once."""
    seen = count(load, messages)
    wanted = ((n, "r%d-%d@dst.test" % (n, i))
              for n in (load.acknowledged if numbers is None else numbers)
              for i in range(load.recipients))
    lost = [key for key in wanted if key not in seen]
    assert not lost, "acknowledged and lost: %r (of %d)" % (lost[:10], len(load.acknowledged))
    return sum(times - 1 for times in seen.values())
