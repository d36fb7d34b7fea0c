"""Fixtures of the end-to-end tests; what they give is in peers/harness.py and peers/sink.py."""
import os
import shutil
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
HOST = "127.0.0.1"
sys.path[:0] = [os.path.join(HERE, "peers"), os.path.join(HERE, "crash")]

import harness  # noqa: E402
from certificates import Authority, certificate  # noqa: E402
from sink import Sink  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers",
                            "quick: part of contrib/test --quick, and of the run under "
                            "ThreadSanitizer")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    item.failed = getattr(item, "failed", False) or report.failed


@pytest.fixture(autouse=True)
def only_failures_stay(request, tmp_path):
    """A queue reserves 64 MB: hundreds of them would fill a disk. What a test that failed has left
    can be looked at."""
    yield
    if not request.node.failed:
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def sink():
    made = Sink()
    yield made
    made.close()


@pytest.fixture
def make_sink():
    """Several sinks, each with its own host, port and features."""
    made = []

    def make(*args, **how):
        made.append(Sink(*args, **how))
        return made[-1]
    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_tramd(tmp_path, request):
    """make_tramd(static=sink, …) → a started tramd; at the end each must stop with status 0 and no
    report."""
    made = []

    def make(start=True, **how):
        place = tmp_path / ("tramd%d" % len(made))
        place.mkdir()
        daemon = harness.Tramd(place, **how)
        assert os.access(daemon.program,
                         os.X_OK), "%s is not there: build, or set TRAM_BUILD" % daemon.program
        made.append(daemon)
        return daemon.start() if start else daemon
    yield make
    faults = []
    for daemon in made:
        try:
            daemon.close()
        except AssertionError as fault:
            faults.append(str(fault))
    for daemon in made:
        print("---- %s ends:\n%s" % (daemon.log_path, daemon.tail()))
    assert not faults, "\n".join(faults)


@pytest.fixture
def tramd(make_tramd, sink):
    """The usual one: everything goes to `sink`, retries come fast."""
    return make_tramd(static=sink, queue=FAST)


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def pair(ca):
    return ca.sign("mail", ["mail.test"])


@pytest.fixture
def make_secure(make_tramd, sink, pair):
    """A tramd with a certificate: a plain listener with STARTTLS on .port, TLS from the first octet
    on .tls_port."""
    def make(certificates=None, listener=None, on_connect=None, **how):
        port = harness.free_port()
        settings = dict({"address": ["%s:%d" % (HOST, port)], "tls-on-connect": "yes"},
                        **(on_connect or {}))
        extra = (certificates or certificate("mail", [pair])) + harness.block("listener", "smtps",
                                                                              settings)
        made = make_tramd(static=sink, queue=FAST, listener=listener,
                          extra=extra + how.pop("extra", ""), **how)
        made.tls_port = port
        return made
    return make


@pytest.fixture
def secure(make_secure):
    return make_secure()


@pytest.fixture
def make_postfix():
    if os.geteuid() != 0 or not shutil.which(harness.POSTFIX):
        pytest.skip("a private Postfix needs root and the package postfix")
    made = []

    def make(relay, **settings):
        made.append(harness.Postfix(relay, **settings))
        return made[-1]
    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The environment that puts fault/shim.c between tramd and its data file."""
    path = str(tmp_path_factory.mktemp("shim") / "shim.so")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", path,
                    os.path.join(HERE, "fault", "shim.c"), "-lpthread"],
                   check=True)
    return {"LD_PRELOAD": path,
            "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=1:exitcode=99"}


# Retries within a second.
FAST = {"retry-first": "200ms", "retry-max": "500ms", "probe-first": "200ms", "probe-max": "500ms"}
