"""Routes by sender and by user: who goes where, and that it stays so over restarts, reloads and
archives."""
import os
import re
import smtplib
import subprocess

import pytest

from conftest import FAST
from harness import free_port, program, quoted

DATA = b"From: a@shop.test\r\nSubject: way\r\n\r\nbody\r\n"
SHOP, ELSE, NULL = "a@shop.test", "a@else.test", ""


def to(sink):
    return "smtp:[127.0.0.1]:%d" % sink.port


@pytest.fixture
def sinks(make_sink):
    """One for each way, by name."""
    return {name: make_sink() for name in ("shop", "anna", "other", "local", "reports")}


def got(sink, count):
    return sorted(message.sender for message in sink.wait(count))


@pytest.fixture
def make_server(make_tramd, tmp_path):
    def make(routes):
        made = subprocess.run([program("tramctl"), "password", "anna"], input=b"secret 1",
                              stdout=subprocess.PIPE, check=True)
        (tmp_path / "passwords").write_bytes(made.stdout)
        os.chmod(tmp_path / "passwords", 0o600)
        port = free_port()
        daemon = make_tramd(routes=routes, queue=FAST, extra=(
            "passwords = %s\nlistener users { address = \"127.0.0.1:%d\" auth = optional "
            "auth-without-tls = yes }\n"
            % (quoted(str(tmp_path / "passwords")), port)))
        daemon.users = port
        return daemon
    return make


def send_as_anna(daemon):
    with smtplib.SMTP("127.0.0.1", daemon.users) as client:
        client.login("anna", "secret 1")
        client.sendmail(ELSE, ["b@dst.test"], DATA)


def by_sender(sinks):
    return {"*": [to(sinks["other"]),
                  {"deliver": to(sinks["shop"]), "sender": ["shop.test", "*.shop.test"]},
                  {"deliver": to(sinks["anna"]), "sender-user": ["anna"]},
                  {"deliver": to(sinks["reports"]), "sender": ["<>"]}],
            "local.test": to(sinks["local"])}


@pytest.mark.quick
def test_each_goes_its_way(make_server, sinks):
    daemon = make_server(by_sender(sinks))
    for sender in (SHOP, "a@deep.shop.test", ELSE, NULL):
        daemon.send(DATA, sender=sender)
    daemon.send(DATA, sender=SHOP, to="b@local.test")
    send_as_anna(daemon)
    assert got(sinks["shop"], 2) == ["a@deep.shop.test", SHOP]
    assert got(sinks["other"], 1) == [ELSE]
    assert got(sinks["anna"], 1) == [ELSE]
    assert got(sinks["reports"], 1) == [NULL]
    assert got(sinks["local"], 1) == [SHOP]
    daemon.wait_empty()
    assert [len(sink.messages) for sink in sinks.values()] == [2, 1, 1, 1, 1]


def test_nobody_elses_mail_is_relayed(make_server, sinks):
    daemon = make_server({"*": {"deliver": to(sinks["shop"]), "sender": ["shop.test"]}})
    with daemon.client() as c:
        c.hello()
        c.command("MAIL FROM:<%s>" % ELSE, 250)
        assert "5.4.4" in c.command("RCPT TO:<b@dst.test>", 550).text


def test_the_choice_survives(make_server, sinks, tmp_path):
    """A crash, and an archive: where each goes is judged from what is stored; and it is
    explained."""
    for sink in sinks.values():
        sink.rule("BANNER", "421 4.3.2 later")
    daemon = make_server(by_sender(sinks))
    shop, other = daemon.send(DATA, sender=SHOP), daemon.send(DATA, sender=ELSE)
    send_as_anna(daemon)
    daemon.wait_log(event="site-backoff", count=3)
    assert "sender=shop.test" in daemon.ctl("explain", shop)
    assert "*" in [row.get("route") for row in daemon.ctl_json_lines("explain", other)]
    users = [daemon.ctl_json_lines("queue", "show", one)[0]["message"].get("user")
             for one in daemon.queue_ids()]
    assert users.count("anna") == 1
    daemon.restart(kill=True)
    daemon.ctl("queue", "hold", "--all")
    archive = tmp_path / "archive"
    daemon.ctl("queue", "export", archive)
    daemon.ctl("queue", "remove", "--all")
    daemon.ctl("queue", "import", archive)
    for sink in sinks.values():
        sink.clear_rules()
    daemon.ctl("queue", "release", "--all")
    assert (got(sinks["shop"], 1), got(sinks["other"], 1),
            got(sinks["anna"], 1)) == ([SHOP], [ELSE], [ELSE])
    daemon.wait_empty()
    assert [len(sink.messages) for sink in sinks.values()] == [1, 1, 1, 0, 0]


def test_a_reload_judges_each_again(make_server, sinks):
    """What waits in one lane is taken apart by routes that ask who sends, and goes together again
    without them."""
    for name in ("other", "shop"):
        sinks[name].rule("BANNER", "421 4.3.2 later")
    daemon = make_server({"*": to(sinks["other"])})
    for sender in (SHOP, ELSE, SHOP, ELSE):
        daemon.send(DATA, sender=sender)
    send_as_anna(daemon)
    daemon.wait_log(event="site-backoff")

    def reload(routes, count):
        daemon.settings["routes"] = routes
        daemon.write_config(daemon.text())
        daemon.reload()
        daemon.wait_log(event="reload", count=count)

    reload(by_sender(sinks), 1)
    assert got(sinks["anna"], 1) == [ELSE]
    daemon.wait_log(event="reroute", msg=re.compile("sender=shop.test"))
    reload({"*": [to(sinks["local"]), {"deliver": "discard", "sender": ["shop.test"]}]}, 2)
    assert got(sinks["local"], 2) == [ELSE, ELSE]
    daemon.wait_empty()
    assert not sinks["shop"].messages and not sinks["other"].messages


def test_a_report_takes_the_route_of_nobody(make_server, sinks):
    sinks["shop"].rule("RCPT", "550 5.1.1 no such user")
    daemon = make_server(by_sender(sinks))
    daemon.send(DATA, sender=SHOP)
    report = sinks["reports"].wait(1)[0]
    assert (report.sender, report.recipients) == ("", [SHOP])
    daemon.wait_empty()
