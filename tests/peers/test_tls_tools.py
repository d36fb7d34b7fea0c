"""What the operator is told about TLS: with each try in explain, and by tls-check and dns-records."""
import pytest

from certificates import Authority
from conftest import FAST
from harness import quoted, wait_for
from sink import DROP
from steering import BODY, NEVER, rows


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.mark.quick
def test_explain_has_the_tls_of_each_try(make_tramd, make_sink, ca, tmp_path):
    """In JSON, in words, and in an archive that another queue takes."""
    sink = make_sink(tls=ca.sign("mx", ["mx.dst.test"]))
    sink.rule("RCPT", "450 4.2.1 mailbox busy")
    routes = {"*": {"deliver": "smtp:[127.0.0.1]:%d" % sink.port, "tls": "verify", "tls-names": '"mx.dst.test"'}}
    tramd = make_tramd(routes=routes, queue=NEVER, extra="delivery-ca = %s\n" % quoted(ca.path))
    id = tramd.send(BODY, to=["a@dst.test"])
    line = tramd.wait_log(event="delivery", id=id)
    assert line["tls"].startswith("TLSv1.3 TLS_") and line["tls"].endswith(" verified") and line["tls_policy"] == "route"
    wait_for(lambda: "mailbox busy" in tramd.ctl("explain", id), what="explain has the reply")
    first = rows(tramd, "explain", id)[1]["tries"][0]
    assert first["tls"] == line["tls"] and first["tls_policy"] == "route" and "tls_resumed" not in first
    assert "TLS: %s, by policy: route\n" % line["tls"] in tramd.ctl("explain", id)
    archive = str(tmp_path / "archive")
    tramd.ctl("queue", "export", archive)
    other = make_tramd(routes=routes, queue=NEVER)
    other.ctl("queue", "import", archive)
    new = rows(other, "queue", "list")[0]["id"]
    assert rows(other, "explain", new)[1]["tries"][0] == first


def test_explain_of_a_plain_try_says_nothing_of_tls(make_tramd, sink):
    sink.rule("RCPT", "450 4.2.1 mailbox busy")
    tramd = make_tramd(static=sink, queue=NEVER)
    id = tramd.send(BODY, to=["a@dst.test"])
    wait_for(lambda: "mailbox busy" in tramd.ctl("explain", id), what="explain has the reply")
    assert not {"tls", "tls_policy"} & set(rows(tramd, "explain", id)[1]["tries"][0])


# ---- resumption

def again(tramd, sink, to="a@dst.test"):
    """Another message on another connection; the delivery line, and was it resumed, as both sides see it?"""
    got = len(sink.messages)
    line = tramd.wait_log(event="delivery", id=tramd.send(BODY, to=[to]))
    message = sink.wait(got + 1)[got]
    assert line["fate"] == "delivered" and (line.get("tls_resumed") == "yes") == message.resumed
    return line, message.resumed


@pytest.fixture
def make_resuming(make_tramd, ca):
    """make_resuming(sink, …): each message takes its own connection there."""
    def make(sink, extra="", **route):
        settings = route or {"tls": "verify", "tls-names": '"mx.dst.test"'}
        return make_tramd(routes={"*": dict(settings, deliver="smtp:[127.0.0.1]:%d" % sink.port)}, queue=FAST,
                          limits={"messages-per-connection": "1"}, extra="delivery-ca = %s\n%s" % (quoted(ca.path), extra))
    return make


@pytest.fixture
def secure(make_sink, ca):
    return make_sink(tls=ca.sign("mx", ["mx.dst.test", "other.dst.test"]))


@pytest.mark.quick
def test_the_next_connection_resumes_what_was_verified(make_resuming, secure):
    """What its first handshake has found stands; another policy, or a reload, and it is a full one again."""
    tramd = make_resuming(secure)
    seen = [again(tramd, secure) for _ in range(3)]
    assert [resumed for _, resumed in seen] == [False, True, True]
    assert len({line["tls"] for line, _ in seen}) == 1 and seen[0][0]["tls"].endswith(" verified")
    secure.rule("RCPT", "450 4.2.1 later", times=1)
    id = tramd.send(BODY, to=["a@dst.test"])
    assert tramd.wait_log(event="delivery", id=id)["tls_resumed"] == "yes"
    secure.wait(4)
    tramd.reload()
    assert [again(tramd, secure)[1] for _ in range(2)] == [False, True]
    with open(tramd.config_path, encoding="utf-8") as f:
        text = f.read()
    tramd.write_config(text.replace('"mx.dst.test"', '"other.dst.test"'))
    tramd.reload()
    assert [again(tramd, secure)[1] for _ in range(2)] == [False, True]


@pytest.mark.parametrize("extra", ["delivery-tls-sessions = 0", "delivery-tls-session-lifetime = 1s"])
def test_no_session_is_resumed_beyond_its_time(make_resuming, secure, extra):
    tramd = make_resuming(secure, extra + "\n")
    again(tramd, secure)
    if "lifetime" in extra:			# no resumption prolongs it
        wait_for(lambda: not again(tramd, secure)[1], what="a full handshake", timeout=60)
    else:
        assert not again(tramd, secure)[1]


def test_two_routes_never_share_a_session(make_tramd, secure, ca):
    """The same host and port: one route verifies it, the other does not."""
    deliver = "smtp:[127.0.0.1]:%d" % secure.port
    tramd = make_tramd(routes={"dst.test": {"deliver": deliver, "tls": "verify", "tls-names": '"mx.dst.test"'},
                               "*": {"deliver": deliver, "tls": "required"}},
                       queue=FAST, limits={"messages-per-connection": "1"}, extra="delivery-ca = %s\n" % quoted(ca.path))
    assert [again(tramd, secure, to)[1] for to in ("a@src.test", "a@dst.test", "a@src.test", "a@dst.test")] == [False, False, True, True]


def test_what_failed_its_proof_is_not_resumed(make_resuming, make_sink, ca, secure):
    """Each try is a full handshake, so that a certificate that was mended is seen at once."""
    bad, good = ca.sign("bad", ["elsewhere.test"]), ca.sign("mended", ["mx.dst.test"])
    sink = make_sink(tls=bad)
    tramd = make_resuming(sink)
    id = tramd.send(BODY, to=["a@dst.test"])
    tramd.wait_log(event="host-failed")
    sink.context.load_cert_chain(*good)
    assert tramd.wait_log(event="delivery", id=id)["fate"] == "delivered"


def test_a_host_that_cannot_resume_is_met_afresh(make_resuming, secure):
    """It hangs up when a session is offered: the same address is called again, and nothing goes in plain text."""
    tramd = make_resuming(secure, tls="may")
    again(tramd, secure)
    secure.rule("TLS", DROP, times=1)
    line, resumed = again(tramd, secure)
    assert not resumed and line["tls"].startswith("TLSv1.3")
