"""The HTTPS client (mta/https) against hosts that behave and hosts that do not."""
import os
import ssl
import subprocess

import pytest

import harness
from certificates import Authority
from dns_server import BrokenDns
from https_host import Answer, HttpsHost, drip, hang

RECORDS = """
    good.test       A       127.0.3.1
    both.test       A       127.0.3.1
    both.test       AAAA    ::1
    dead.test       A       127.0.3.9
    dead.test       A       127.0.3.1
    other.test      A       127.0.3.1
"""


@pytest.fixture(scope="module")
def dns():
    with BrokenDns(RECORDS, rules={"silent.test": "silence"}) as server:
        yield server


@pytest.fixture(scope="module")
def pair(ca):
    return ca.sign("good", ["good.test", "both.test", "dead.test", "silent.test"])


@pytest.fixture
def host(pair):
    with HttpsHost(*pair, host="127.0.3.1") as server:
        server.answers["/"] = Answer(200, "text/plain; charset=utf-8", b"body")
        yield server


@pytest.fixture
def ask(dns, ca):
    """ask(url) → one line of the client, or as many as there are requests."""
    def run(url, *more, trust=ca.path, where="private", ms=20000, env=None, stdin=b""):
        program = os.path.join(os.path.dirname(os.path.dirname(harness.program("tramd"))), "tests",
                               "https_client")
        done = subprocess.run([program, dns.address, trust, where, str(ms), url, *map(str, more)],
                              timeout=60, input=stdin,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=dict(os.environ, **(env or {})))
        assert done.returncode == 0, done.stderr.decode()
        lines = done.stdout.decode().splitlines()
        return lines[0] if len(lines) == 1 else lines
    return run


def test_what_is_asked_for_is_answered(ask, host, tmp_path):
    at = ":%d" % host.port
    assert ask("https://good.test" + at + "/") == 'answered 200 4 "text/plain; charset=utf-8" ""'
    method, path, headers, body = host.requests[0]
    assert (method, path, body) == ("GET", "/", b"") and headers["host"] == "good.test" + at
    assert ask("https://both.test" + at + "/").startswith("answered 200"), "nobody listens on ::1"
    assert ask("https://dead.test" + at + "/").startswith("answered 200"), "the second address"
    assert ask("https://good.test" + at + "/none").startswith('answered 404 12 "text/plain"')
    many = ask("https://good.test" + at + "/", 40)
    assert len(many) == 40 and all(line.startswith("answered 200") for line in many)
    report = tmp_path / "report"
    report.write_bytes(os.urandom(100000))
    del host.requests[:]
    assert ask("https://good.test" + at + "/", 1, "application/tlsrpt+gzip",
               report).startswith("answered 200")
    method, path, headers, body = next(r for r in host.requests if r[3])
    assert method == "POST" and body == report.read_bytes()
    assert headers["content-type"] == "application/tlsrpt+gzip" and "expect" not in headers
    report.write_bytes(b"")
    del host.requests[:]
    assert ask("https://good.test" + at + "/", 1, "text/plain", report,
               stdin=b"not for them").startswith("answered 200")
    method, path, headers, body = host.requests[0]
    assert (method, body, headers["content-length"]) == ("POST", b"",
                                                         "0") and "transfer-encoding" not in headers


def test_nobody_leads_it_astray(ask, host, dns):
    """Redirects, proxies, schemes, addresses: the URL and the answer are a stranger's."""
    at = ":%d" % host.port
    host.answers["/moved"] = Answer(301, "text/plain", b"",
                                    "Location: https://good.test%s/\r\n" % at)
    assert ask("https://good.test" + at + "/moved").startswith("answered 301 0")
    assert host.count("/") == 0
    proxy = dict.fromkeys(("https_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    assert ask("https://good.test" + at + "/", env=proxy).startswith("answered 200")
    for url in ("http://good.test/", "ftp://good.test/", "file:///etc/passwd",
                "https://u:p@good.test/",
                "https://127.0.3.1" + at + "/", "https://0x7f000301/", "https://[::1]/", "https://",
                "nonsense", "https://good.test:0/", "https://good.test:99999/"):
        assert ask(url).startswith("no-host 0 0"), url
    before = len(host.requests)
    assert ask("https://good.test" + at + "/", where="public").startswith("no-host 0 0")
    assert ask("https://localhost" + at + "/").startswith("no-host 0 0")
    assert ask("https://nowhere.test/").startswith("no-host 0 0")
    assert len(host.requests) == before and dns.count("localhost") > 0


def test_the_certificate_must_be_good(ask, host, ca, tmp_path):
    url = "https://good.test:%d/" % host.port
    stranger = Authority(tmp_path / "other")
    refused = 'not-trusted 0 0 "" "SSL'
    assert ask(url, trust=stranger.path).startswith(refused)
    assert ask("https://other.test:%d/" % host.port).startswith(refused), "the name is another"
    host.use(*ca.sign("past", ["good.test"], days=-1))
    assert ask(url).startswith(refused) and "expired" in ask(url)
    assert not host.requests
    host.use(*ca.sign("again", ["good.test"]), newest=ssl.TLSVersion.TLSv1_1)
    assert ask(url).startswith('failed 0 0 "" "') and not host.requests
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "ca.pem").write_bytes(open(ca.path, "rb").read())
    subprocess.run(["openssl", "rehash", str(folder)], check=True)
    host.use(*ca.sign("new", ["good.test"]))
    assert ask(url, trust=str(folder)).startswith("answered 200")


def test_all_is_bounded(ask, host):
    """Time, octets, headers: whatever the host does, an answer comes."""
    url = "https://good.test:%d/" % host.port
    host.answers["/huge"] = Answer(200, "text/plain", b"x" * 3000000)
    assert ask(url + "huge").startswith('answered 200 65537 "text/plain"')
    host.answers["/full"] = Answer(200, "text/plain", b"x" * 65536)
    assert ask(url + "full").startswith('answered 200 65536 "text/plain"')
    host.answers["/headers"] = Answer(200, "text/plain", b"", "X: %s\r\n" % ("x" * 60000) * 3)
    assert ask(url + "headers") == 'failed 0 0 "" "the header of its answer is too long"'
    host.answers["/short"] = lambda conn: conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: "
                                                       b"9\r\n\r\nabc")
    assert ask(url + "short").startswith("failed 0 0")
    host.answers["/junk"] = lambda conn: conn.sendall(b"\0\1\2 not HTTP\r\n\r\n" * 10)
    assert ask(url + "junk").startswith("failed 0 0")
    host.answers["/hang"], host.answers["/drip"] = hang, drip
    many = ask(url + "hang", 20, ms=700)
    assert len(many) == 20 and all(line.startswith("timed-out 0 0") for line in many)
    assert host.count("/hang") <= 16
    assert ask(url + "drip", ms=700).startswith("timed-out 0 0")
    assert ask("https://silent.test/",
               ms=700) == 'timed-out 0 0 "" "its address was not found in time"'
