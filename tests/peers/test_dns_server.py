"""The name servers of dns_server.py themselves: NSD serves what it was given, and the broken one
breaks as told."""
import os
import socket
import time

import pytest

import dns_server
from dns_server import BrokenDns, Nsd, RCODES, TC


@pytest.fixture(scope="module")
def nsd():
    with Nsd(dns_server.INTEROP_ZONES) as server:
        yield server


def exchanges(answer):
    """MX records as (preference, host)."""
    found = []
    for _, kind, _, data in answer.records:
        if kind == "MX":
            at = answer.raw.index(data)         # the host's name may point back into the message
            found.append((int.from_bytes(data[:2], "big"),
                          dns_server.decode_name(answer.raw, at + 2)[0]))
    return found


def test_zones_are_served(nsd):
    assert exchanges(nsd.ask("plain.interop.test", "MX")) == [(10, "mail.interop.test")]
    assert exchanges(nsd.ask("null.interop.test", "MX")) == [(0, "")]
    assert nsd.ask("mail.interop.test").records[0][3] == socket.inet_aton("127.0.0.1")
    assert [r[1] for r in nsd.ask("alias.interop.test", "MX").records] == ["CNAME", "MX"]
    assert nsd.ask("relay.test").rcode == 0
    implicit = nsd.ask("implicit.interop.test", "MX")
    assert implicit.rcode == 0 and implicit.records == []
    assert nsd.ask("nobody.knows.it").rcode == RCODES["nxdomain"]


def test_large_answer_needs_tcp(nsd):
    assert nsd.ask("many-host.interop.test").flags & TC
    assert len(nsd.ask("many-host.interop.test", tcp=True).records) == 100


def test_without_root_other_names_are_refused():
    with Nsd(["$ORIGIN a.test.\nmail A 127.0.0.1"], root=False) as server:
        assert server.ask("mail.a.test").records[0][1] == "A"
        assert server.ask("b.test").rcode == RCODES["refused"]


def test_zone_changes_while_it_runs_and_it_ends():
    server = Nsd({"a.test": "@ MX 10 old"}).start()
    try:
        for host in ("new", "newer"):
            server.set_zone("a.test", "@ MX 10 %s" % host)
            assert exchanges(server.ask("a.test", "MX")) == [(10, host + ".a.test")]
        pid, place = server.process.pid, server.place
    finally:
        server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not os.path.exists(place)
    server.stop()       # again does no harm


def test_bad_zone_is_reported():
    with pytest.raises(AssertionError, match="nsd does not start"):
        Nsd({"a.test": "@ MX ten mail"}).start()
    with Nsd({"a.test": "@ MX 10 mail"}) as server, pytest.raises(AssertionError):
        server.set_zone("a.test", "@ MX ten mail")
    with pytest.raises(ValueError):
        Nsd(["@ A 127.0.0.1"])


@pytest.fixture
def broken():
    with BrokenDns("""
            mail.test     A     127.0.0.1
            a.test        MX    10 mail.test    ; a comment
            b.test        CNAME a.test
            c.a.test      MX    10 mail.test
            """) as server:
        yield server


def silent(server, *what, **how):
    with pytest.raises(OSError):
        server.ask(*what, timeout=0.2, **how)
    return True


def test_records(broken):
    assert broken.ask("mail.test").records[0][3] == socket.inet_aton("127.0.0.1")
    assert exchanges(broken.ask("A.test", "MX", tcp=True)) == [(10, "mail.test")]
    assert [r[1] for r in broken.ask("b.test", "MX").records] == ["CNAME", "MX"]
    assert broken.ask("a.test", "A").rcode == 0
    assert broken.ask("other.test").rcode == RCODES["nxdomain"]
    assert broken.count("a.test", "MX") == 1 and broken.queries[0] == ("mail.test", "A", "udp")
    broken.wait_for("other.test")


@pytest.mark.parametrize("what", ["servfail", "refused", "notimp", "nxdomain"])
def test_rcodes(broken, what):
    broken.rules["a.test"] = what
    assert broken.ask("a.test", "MX").rcode == RCODES[what]
    assert broken.ask("mail.test").rcode == 0


def test_formerr_is_for_edns_only(broken):
    broken.rules["a.test"] = "formerr"
    assert broken.ask("a.test", "MX").rcode == RCODES["formerr"]
    assert broken.ask("a.test", "MX", edns=False).rcode == 0


def test_silence(broken):
    broken.rules.update({"a.test": "silence", "b.test": "silence-udp"})
    assert silent(broken, "a.test") and silent(broken, "a.test", tcp=True) and silent(broken,
                                                                                      "b.test")
    assert broken.ask("b.test", tcp=True).rcode == 0


def test_truncation(broken):
    broken.rules.update({"a.test": "truncate", "b.test": "truncate-always",
                         "mail.test": "refuse-tcp"})
    assert broken.ask("a.test", "MX").flags & TC
    assert exchanges(broken.ask("a.test", "MX", tcp=True)) == [(10, "mail.test")]
    assert broken.ask("b.test", tcp=True).flags & TC
    assert broken.ask("mail.test").flags & TC and silent(broken, "mail.test", tcp=True)


def test_octets_that_are_no_answer(broken):
    address = broken.endpoint
    query = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + dns_server.encode_name("a.test") + b"\0\x0f\0\1"

    def raw(what):
        broken.rules["a.test"] = what
        return dns_server.ask_raw(address, query)
    assert raw("garbage")[:2] == query[:2] and b"not a message" in raw("garbage")
    assert raw("malformed")[-3:] == b"\1\2\3"
    assert len(raw("short")) < len(raw(None))
    assert raw("wrong-id")[:2] != query[:2]
    assert b"other" in raw("wrong-question")
    assert raw("cname-loop").count(b"\0\5\0\1") == 2
    assert raw(lambda query: b"anything") == b"anything"
    assert dns_server.Answer(raw(lambda query: "servfail")).rcode == RCODES["servfail"]


def test_patterns_types_and_turns(broken):
    broken.rules.update({"*.a.test": ["servfail", "refused", None], ("a.test", "A"): "notimp"})
    assert [broken.ask("c.a.test", "MX").rcode for _ in range(4)] == [2, 5, 0, 0]
    assert broken.ask("a.test", "MX").rcode == 0
    assert broken.ask("a.test", "A").rcode == RCODES["notimp"]


def test_slow_answer(broken):
    broken.rules["a.test"] = "slow:0.3"
    began = time.monotonic()
    assert broken.ask("a.test", "MX").rcode == 0
    assert time.monotonic() - began >= 0.29
    assert silent(broken, "a.test")
    broken.rules["a.test"] = "slow:60"
    assert silent(broken, "a.test")
    assert broken.ask("mail.test").rcode == 0			# nobody else waits


def test_in_front_of_a_real_one(nsd):
    with BrokenDns("mine.test A 127.0.0.1", {"order.interop.test": "servfail"},
                   upstream=nsd) as server:
        assert exchanges(server.ask("plain.interop.test", "MX")) == [(10, "mail.interop.test")]
        assert len(server.ask("many-host.interop.test", tcp=True).records) == 100
        assert server.ask("order.interop.test", "MX").rcode == RCODES["servfail"]
        assert server.ask("mine.test").rcode == 0
        assert server.ask("nobody.knows.it").rcode == RCODES["nxdomain"]


def test_nonsense_does_not_stop_it(broken):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for junk in (b"", b"x", os.urandom(11), os.urandom(300), b"\0" * 12,
                     b"\0\0\0\0\0\1\0\0\0\0\0\0\xc0\x0c"):
            s.sendto(junk, broken.endpoint)
    with socket.create_connection(broken.endpoint) as s:
        s.sendall(b"\0\5hello")
        assert s.recv(1) == b""
    assert broken.ask("mail.test").rcode == 0
