"""Power cuts: what is on the disk then, is what the syncs promised and any part of the rest.

Two ways. A preload shim (../fault/shim.c) notes each write and sync of the data file; from the
notes come the files that a power cut could have left: any prefix of the writes, and what was synced
with any of the pages that were not, torn between pages and in any order. And the kernel's own: a
loop-mounted ext4 that is shut down by ioctl.

TRAM_POWER_IMAGES: how many files of each sort are tried (40), at places chosen by a fixed seed.
"""
import fcntl
import os
import random
import shutil
import struct
import subprocess
import threading

import pytest

from harness import TIMEOUT, wait_for
from load import Load, count, judge

IMAGES = int(os.environ.get("TRAM_POWER_IMAGES", "40"))
QUEUE = {"retry-first": "1h", "retry-max": "1h", "probe-first": "1h", "probe-max": "1h",
         "min-free": "0"}
PAGE = 4096
NOTE = struct.Struct("<QQIIQQ")
WRITE, LENGTH, ALLOCATE, SYNC, MSYNC, NAME = range(1, 7)


# ---- what was noted ------------------------------------------------------------------------------

class Note:
    def __init__(self, begin, kind, durable, offset, length, data):
        self.begin, self.kind, self.durable = begin / 1e9, kind, durable
        self.offset, self.length, self.data = offset, length, data

    def pieces(self):
        """The pages of a write: a power cut may leave some of them."""
        if self.kind != WRITE:
            return [self]
        cuts = list(range(0, self.length,
                          PAGE - self.offset % PAGE
                          if self.length < PAGE else PAGE)) + [self.length]
        return [Note(self.begin * 1e9, WRITE, self.durable, self.offset + a, b - a, self.data[a:b])
                for a, b in zip(cuts, cuts[1:])]


def read_notes(path):
    notes = []
    with open(path, "rb") as f:
        while True:
            head = f.read(NOTE.size)
            if len(head) < NOTE.size:
                break
            begin, _, kind, durable, offset, length = NOTE.unpack(head)
            data = f.read(length) if kind == WRITE else b""
            assert kind != MSYNC, "the data file is written through a map"
            if kind != WRITE or len(data) == length:
                notes.append(Note(begin, kind, durable, offset, length, data))
    return notes


class Image:
    """A sparse file in memory; it is made under another name and gets its own when it is on
    disk."""

    def __init__(self):
        self.pages, self.size, self.name = {}, 0, "data.new"

    def apply(self, note):
        if note.kind == NAME:
            self.name = "data.mdb"
        elif note.kind == LENGTH:
            self.size = note.length
            self.pages = {n: p for n, p in self.pages.items() if n * PAGE < self.size}
        elif note.kind == ALLOCATE:
            self.size = max(self.size, note.offset + note.length)
        elif note.kind == WRITE:
            self.size = max(self.size, note.offset + note.length)
            at = 0
            while at < note.length:
                n, within = divmod(note.offset + at, PAGE)
                part = note.data[at:at + PAGE - within]
                old = self.pages.get(n, bytes(PAGE))
                self.pages[n] = old[:within] + part + old[within + len(part):]
                at += len(part)

    def store(self, directory):
        with open(os.path.join(directory, self.name), "wb",
                  opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            for n in sorted(self.pages):
                f.seek(n * PAGE)
                f.write(self.pages[n])
            f.truncate(self.size)


def torn_image(notes, k, chance):
    """What was synced before the k-th note, and some of the pages that were not, in any order."""
    image, pending = Image(), []
    for note in notes[:k]:
        if note.kind == SYNC:
            for late in pending:
                image.apply(late)
            pending = []
        elif note.durable or note.kind == NAME:
            image.apply(note)
        else:
            pending.append(note)
    pieces = [piece for note in pending for piece in note.pieces()]
    share = chance.choice((0.1, 0.5, 0.9))
    kept = [piece for piece in pieces if chance.random() < share]
    # a length behind its writes would say more
    for piece in sorted(kept, key=lambda piece: piece.kind == WRITE):
        image.apply(piece)
    return image, len(pieces), len(kept)


# ---- the recording -------------------------------------------------------------------------------

class Recording:
    """A lively hour of a queue: accepts small and large, deliveries, deferrals, reports, edits; and
    its notes."""

    def __init__(self, make_tramd, make_sink, shim, place):
        sink = make_sink()
        sink.rule("RCPT", "450 4.2.1 later", match=r"[13579]-1@")
        sink.rule("RCPT", "550 5.1.1 nobody", match="bad")
        tramd = make_tramd(static=sink, queue=QUEUE, start=False)
        log = os.path.join(tramd.queue_path, "notes")           # the sandbox lets it write there
        tramd.env = dict(shim, TRAM_SHIM_LOG=log)
        tramd.start()
        self.load = Load(tramd.port, senders=3, sizes=(500, 4000, 150000), recipients=2).start()
        for i in range(6):
            wanted = 15 * (i + 1)
            wait_for(lambda: len(self.load.acknowledged) >= wanted, what="%d messages" % wanted)
            tramd.send(b"Subject: bounces\r\nX-Number: 0\r\n\r\n", to=["bad@dst.test"])
            if i == 3:
                tramd.ctl("queue", "hold", "--all")
            if i == 4:
                tramd.ctl("queue", "release", "--all")
        self.load.stop()
        tramd.kill9()
        self.delivered = set(count(self.load, [m for m in sink.messages if numbered(m)]))
        self.notes = read_notes(log)

    def due(self, k):
        """The recipients that a file made of the first k notes must hold."""
        before = self.notes[k].begin if k < len(self.notes) else float("inf")
        return [(n, "r%d-%d@dst.test" % (n, i))
                for n, when in self.load.when.items() if when < before
                for i in range(self.load.recipients)
                if (n, "r%d-%d@dst.test" % (n, i)) not in self.delivered]


def numbered(message):
    return b"X-Digest: " in message.headers


class Bench:
    """Tries files: each must be sound, start, and deliver all that it must hold."""

    def __init__(self, make_tramd, make_sink, recording):
        self.sink, self.recording = make_sink(), recording
        self.tramd = make_tramd(static=self.sink, queue=QUEUE, start=False)

    def check(self, what):
        done = self.tramd.ctl("queue", "check", check=False)
        assert done.returncode == 0 and done.stdout.endswith(b", no fault\n"), "%s: %r %r" % (
            what, done.stdout, done.stderr)

    def try_file(self, image, k, what):
        for name in os.listdir(self.tramd.queue_path):
            os.unlink(os.path.join(self.tramd.queue_path, name))
        image.store(self.tramd.queue_path)
        if k % 2:                               # each of the two must cope with what it finds
            self.check(what)
        with self.sink.changed:
            self.sink.messages.clear()
        self.tramd.start()
        self.tramd.ctl("queue", "release", "--all")
        self.tramd.ctl("queue", "retry", "--all")
        wait_for(lambda: self.tramd.queue_ids() == [], 2 * TIMEOUT, what + ": the queue is empty")
        self.tramd.stop()
        self.check(what)
        seen = count(self.recording.load, [m for m in self.sink.messages if numbered(m)])
        lost = [key for key in self.recording.due(k) if key not in seen]
        assert not lost, "%s: acknowledged and lost: %r" % (what, lost[:10])


def test_every_cut_opens(make_tramd, make_sink, shim, tmp_path):
    recording = Recording(make_tramd, make_sink, shim, tmp_path)
    notes, chance = recording.notes, random.Random(11)
    assert sum(note.kind == SYNC for note in notes) > 20 and len(recording.due(len(notes))) > 10
    bench = Bench(make_tramd, make_sink, recording)
    first = next(k for k, note in enumerate(notes) if note.kind == SYNC)
    whole = Image()
    places = set(chance.sample(range(len(notes)),
                               min(IMAGES, len(notes)))) | set(range(first + 2)) | {len(notes)}
    for k in range(len(notes) + 1):
        if k in places:
            bench.try_file(whole, k, "the first %d of %d notes" % (k, len(notes)))
        if k < len(notes):
            whole.apply(notes[k])
    syncs = [k for k, note in enumerate(notes) if note.kind == SYNC]
    for k in chance.sample(syncs, min(IMAGES, len(syncs))) + [first] * 12:
        image, pieces, kept = torn_image(notes, k, chance)
        bench.try_file(image, k, "%d of %d unsynced pages before note %d" % (kept, pieces, k))


# ---- the kernel's own ----------------------------------------------------------------------------

FS_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587d, 2


class Disk:
    """An ext4 in a file."""

    def __init__(self, place):
        self.file, self.path = str(place / "disk.img"), str(place / "disk")
        os.mkdir(self.path)
        with open(self.file, "wb") as f:
            f.truncate(400 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.file], check=True, stdout=subprocess.DEVNULL)
        self.mounted = False

    def mount(self):
        done = subprocess.run(["mount", "-o", "loop", self.file, self.path], capture_output=True,
                              text=True)
        self.mounted = done.returncode == 0
        return done

    def cut(self):
        fd = os.open(self.path, os.O_RDONLY)
        fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(fd)

    def umount(self):
        if self.mounted:
            subprocess.run(["umount", self.path], check=True)
            self.mounted = False


@pytest.fixture
def disk(tmp_path):
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("a file system of its own needs root and mkfs.ext4")
    made = Disk(tmp_path)
    done = made.mount()
    if done.returncode:
        pytest.skip("loop mounts are not possible here: %s" % done.stderr.strip())
    yield made
    made.umount()


def test_power_cut(disk, make_tramd, sink):
    pause, chance = threading.Event(), random.Random(12)
    queue = dict(QUEUE, **{"retry-first": "1s", "retry-max": "1s", "probe-first": "1s",
                           "probe-max": "1s"})
    tramd = make_tramd(static=sink, queue=queue, start=False)
    os.rmdir(tramd.queue_path)
    os.symlink(disk.path, tramd.queue_path)
    load, acknowledged = Load(tramd.port).start(), 0
    for _ in range(5):
        tramd.start()
        wait_for(lambda: len(load.acknowledged) > acknowledged + 20, what="mail comes in")
        pause.wait(chance.uniform(0, 0.2))          # the moment is the point
        disk.cut()
        # 75, or the signal of a page that cannot be read any more
        assert tramd.end() != 0
        acknowledged = len(load.acknowledged)
        disk.umount()
        assert disk.mount().returncode == 0
        assert tramd.ctl("queue", "check").endswith(", no fault\n")
    tramd.start()
    load.stop()
    wait_for(lambda: tramd.queue_ids() == [], 4 * TIMEOUT, "the queue is empty")
    judge(load, sink.messages)
    tramd.stop()
    assert tramd.ctl("queue", "check").endswith(", no fault\n")
