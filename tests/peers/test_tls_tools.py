"""What the operator is told about TLS: with each try in explain, and by tls-check and dns-records."""
import pytest

from certificates import Authority
from harness import quoted, wait_for
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
