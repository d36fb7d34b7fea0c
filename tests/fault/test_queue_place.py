"""Where a queue may not live, and what is left of one that is damaged: what an operator sees of
it."""
import json
import os
import resource
import shutil
import struct
import subprocess

import pytest

import harness
from harness import free_port, wait_for
from test_fault import sanitized

BODY = b"Subject: x\r\n\r\nbody\r\n"
NEVER = {"retry-first": "1h", "retry-max": "1h", "probe-first": "1h", "probe-max": "1h"}
PAGE = os.sysconf("SC_PAGESIZE")


@pytest.fixture
def stopped(make_tramd):
    """A queue with three messages, one of them to two, and nobody who has it open."""
    tramd = make_tramd(static=("127.0.0.1", free_port()), queue=NEVER)
    tramd.send(BODY, "jo@src.test", ["a@one.test", "b@two.test"])
    tramd.send(BODY, "jo@src.test", ["c@one.test"])
    tramd.send(BODY + b"long\r\n" * 30000, "jo@src.test", ["d@one.test"])
    tramd.stop()
    return tramd


def refused(tramd, *words):
    """It does not start, and says in one line why, and what to do."""
    tramd.start(ready=False)
    assert tramd.end() == 71, tramd.tail()
    said = [line for line in tramd.lines[tramd.first_line:] if line.startswith("tramd: ")]
    assert len(said) == 1 and all(word in said[0] for word in words), tramd.tail()


# ---- places --------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, name",
                         [("0x6969", "NFS"), ("0xfe534d42", "SMB"), ("0x65735546", "FUSE"),
                          ("0x01021997", "9P")])
def test_network_file_system(stopped, shim, kind, name):
    stopped.env = dict(shim, TRAM_SHIM_STATFS=kind)
    refused(stopped, "is on %s" % name, "give a path on ext4")


def test_second_tramd(stopped, make_tramd, tmp_path):
    stopped.start()
    link = tmp_path / "link"
    os.symlink(stopped.queue_path, link)
    other = make_tramd(static=("127.0.0.1", free_port()),
                       queue=dict(NEVER, path=harness.quoted(str(link))), start=False)
    refused(other, "in use by another tramd", "stop it, or give another path")
    assert len(stopped.queue_ids()) == 3


def test_rights(stopped):
    data = os.path.join(stopped.queue_path, "data.mdb")
    os.chmod(data, 0o644)
    refused(stopped, "chmod 600")
    os.chmod(data, 0o600)
    os.chmod(stopped.queue_path, 0o777)
    refused(stopped, "chmod 700")
    os.chmod(stopped.queue_path, 0o700)
    os.rename(data, data + "-elsewhere")
    os.symlink(data + "-elsewhere", data)
    refused(stopped, "no file of its own")
    os.replace(data + "-elsewhere", data)
    if os.geteuid() == 0:
        os.chown(stopped.queue_path, 65534, 65534)
        refused(stopped, "belongs to user 65534", "chown it")
        os.chown(stopped.queue_path, 0, 0)
    stopped.start()
    assert len(stopped.queue_ids()) == 3


def test_foreign_files(stopped):
    data = os.path.join(stopped.queue_path, "data.mdb")
    with open(data, "r+b") as f:
        for at in (16, PAGE + 16):
            f.seek(at)
            f.write(struct.pack(">I", 0xbeefc0de))
    refused(stopped, "another byte order", "export it there")
    with open(data, "r+b") as f:
        f.write(b"\0" * 2 * PAGE)
    refused(stopped, "not a queue of tram", "tramctl queue salvage")


@pytest.mark.parametrize("options, fine", [("", True), (",volatile", False)],
                         ids=["syncs", "volatile"])
def test_overlay(stopped, tmp_path, options, fine):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    lower = str(tmp_path / "lower")
    shutil.move(stopped.queue_path, lower)
    os.mkdir(stopped.queue_path)
    done = subprocess.run(["mount", "-t", "overlay", "tram-test", "-o",
                           "lowerdir=%s,upperdir=%s,workdir=%s%s" % (
                               lower, tmp_path / "upper", tmp_path / "work", options),
                           stopped.queue_path], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no overlay can be mounted here: %r" % done.stderr)
    try:
        if fine:
            stopped.start()
            assert len(stopped.queue_ids()) == 3
            stopped.stop()
        else:
            refused(stopped, "volatile", "give a path on ext4")
    finally:
        subprocess.run(["umount", stopped.queue_path], check=True)


# ---- salvage -------------------------------------------------------------------------------------

def salvage(tramd, archive, **how):
    return subprocess.run([harness.program("tramctl"), "queue", "salvage", tramd.queue_path,
                           str(archive)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False,
                          text=True, **how)


def imported(make_tramd, sink, archive):
    """What comes out of a new queue: (what is delivered at once, what is held)."""
    other = make_tramd(static=sink, queue=NEVER)
    other.ctl("queue", "import", str(archive))
    wait_for(lambda: "waiting" not in other.ctl("queue", "list")
             and "in-flight" not in other.ctl("queue", "list"), what="all that is due went out")
    rows = [json.loads(line) for line in other.ctl("queue", "list", "--json").splitlines()]
    rows = [row for row in rows if "recipient" in row]
    assert all(row["state"] == "held" for row in rows)
    return sorted(r for m in sink.messages for r in m.recipients), sorted(row["recipient"]
                                                                          for row in rows)


EVERYBODY = ["a@one.test", "b@two.test", "c@one.test", "d@one.test"]


def test_salvage_maps_no_more_than_the_file(stopped, tmp_path):
    if sanitized():
        pytest.skip("a sanitizer needs more address space")
    most = 1 << 30
    done = salvage(stopped, tmp_path / "archive",
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)))
    assert done.returncode == 0 and "3 messages salvaged" in done.stdout, done.stderr
    done = subprocess.run([harness.program("tramctl"), "-c", stopped.config_path, "queue", "export",
                           tmp_path / "other"],
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
                          check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("damage", ["none", "metas"])
def test_salvage(stopped, make_tramd, sink, tmp_path, damage):
    data, archive = os.path.join(stopped.queue_path, "data.mdb"), tmp_path / "archive"
    if damage == "metas":
        with open(data, "r+b") as f:
            f.write(b"!" * 2 * PAGE)
    before = os.stat(data)
    done = salvage(stopped, archive)
    assert done.returncode == 0 and "3 messages salvaged" in done.stdout and not done.stderr, done
    assert ("may include messages that were delivered already" in done.stdout) == (damage == "metas"), done.stdout
    assert "held" not in done.stdout
    after = os.stat(data)
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    assert imported(make_tramd, sink, archive) == (EVERYBODY, [])


def test_what_is_in_doubt_comes_back_held(stopped, make_tramd, sink, tmp_path):
    """The tables are lost: what was in the file and is on no page that says so is not sent by
    itself."""
    data, archive = os.path.join(stopped.queue_path, "data.mdb"), tmp_path / "archive"
    with open(data, "r+b") as f:
        whole = bytearray(f.read(64 << 20))
        for at in range(0, len(whole), PAGE):       # each page that has the names of tables
            if b"lane_domain" in whole[at:at + PAGE] or at < 2 * PAGE:
                f.seek(at)
                f.write(b"!" * PAGE)
    done = salvage(stopped, archive)
    assert done.returncode == 0 and "3 messages salvaged" in done.stdout, done
    assert "3 of them may have been delivered already" in done.stdout
    assert imported(make_tramd, sink, archive) == ([], EVERYBODY)


def test_nothing_to_salvage(stopped, tmp_path):
    data = os.path.join(stopped.queue_path, "data.mdb")
    with open(data, "wb") as f:
        f.write(os.urandom(1 << 20))
    done = salvage(stopped, tmp_path / "archive")
    assert done.returncode == 0 and "0 messages salvaged" in done.stdout
    os.unlink(data)
    done = salvage(stopped, tmp_path / "archive2")
    assert done.returncode == 1 and "No such file" in done.stderr
