"""Users log in with access tokens, which Dovecot asks their issuer about (RFC 7662): XOAUTH2 and
OAUTHBEARER, with Python's client."""
import base64
import http.server
import json
import os
import smtplib
import tempfile
import threading
import urllib.parse

import pytest

from dovecot import Dovecot
from harness import quoted, wait_for
from test_auth import HOST, client, entry, make_server  # noqa: F401

USER = "anna@src.test"
DATA = "From: anna@src.test\r\nSubject: way\r\n\r\nbody\r\n"
# the second is more than Dovecot takes in a line, not more than we do
LONG, TOO_LONG = "a" * 12000, "a" * 12150

TOKENS = {
    "valid": {"active": True, "username": USER, "scope": "openid smtp", "expires_in": 300},
    LONG: {"active": True, "username": USER, "scope": "smtp"},
    "expired": {"active": False},
    "other-scope": {"active": True, "username": USER, "scope": "openid calendar"},
    "others": {"active": True, "username": "bert@src.test", "scope": "smtp"},
}

CONFIG = """
introspection_mode = post
introspection_url = http://127.0.0.1:%d/introspect
active_attribute = active
active_value = true
username_attribute = username
scope = smtp
timeout_msecs = 60000
"""


class Issuer(http.server.ThreadingHTTPServer):
    """Answers for each token what TOKENS has; hold: it answers nobody until that is set."""

    daemon_threads = True

    def __init__(self):
        super().__init__((HOST, 0), Answer)
        self.hold, self.broken, self.asked = None, False, []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        token = form["token"][0]
        self.server.asked.append(token)
        if self.server.hold is not None:
            self.server.hold.wait(60)
        text = json.dumps(TOKENS.get(token, {"active": False})).encode()
        self.send_response(500 if self.server.broken else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def issuer():
    with Issuer() as one:
        yield one
        one.shutdown()


@pytest.fixture(scope="module")
def dovecot(issuer):
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
        f.write(CONFIG % issuer.server_address[1])
        f.flush()
        os.chmod(f.name, 0o644)
        with Dovecot({}, mechanisms="plain xoauth2 oauthbearer",
                     extra="passdb {\n  driver = oauth2\n"
                     "  mechanisms = xoauth2 oauthbearer\n  args = %s\n}\n" % f.name) as one:
            yield one


@pytest.fixture
def daemon(make_server, dovecot):  # noqa: F811
    return make_server(backend="auth-socket = %s\n" % quoted(dovecot.socket),
                       limits={"auth-delay": "1s"})


def message(mechanism, token, user=USER):
    if mechanism == "XOAUTH2":
        return "user=%s\1auth=Bearer %s\1\1" % (user, token)
    return "n,a=%s,\1host=mail.src.test\1port=587\1auth=Bearer %s\1\1" % (user, token)


def log_in(daemon, ca, mechanism, token, initial=True, user=USER):
    """The code, and what the server said of the token in JSON, if it did."""
    said = []

    def answer(challenge=None):
        # none yet, or the empty one in place of an initial response
        if not challenge:
            return message(mechanism, token, user)
        said.append(json.loads(challenge))
        return "" if mechanism == "XOAUTH2" else "\1"
    with client(daemon, ca) as c:
        # Dovecot says what it can do when it has been connected to: soon after the start
        wait_for(lambda: c.ehlo("src.test")[0] == 250
                 and mechanism in c.esmtp_features["auth"].split(), what="an offer")
        try:
            code = c.auth(mechanism, answer, initial_response_ok=initial)[0]
        except smtplib.SMTPAuthenticationError as refused:
            return refused.smtp_code, said
        c.sendmail(user, ["b@dst.test"], DATA)
        return code, said


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_tokens(daemon, issuer, ca, sink, mechanism):
    for number, (token, initial) in enumerate([("valid", True), ("valid", False), (LONG, True),
                                               (LONG, False)]):
        assert log_in(daemon, ca, mechanism, token, initial) == (235, [])
        sink.wait(number + 1)
    bad = ["expired", "other-scope", "others",
           "nobody-knows-it"][0 if mechanism == "XOAUTH2" else 3:]
    for token in bad:		# each is answered later than the one before
        code, said = log_in(daemon, ca, mechanism, token, initial=token == "expired")
        assert code == 535
        assert len(said) == 1 and "status" in said[0], said
    assert issuer.asked[-1] == "nobody-knows-it"
    assert len(sink.messages) == 4
    failed = daemon.events(event="auth", result="failed")
    assert [e["user"] for e in failed] == [USER] * len(bad) and all(e["mechanism"] == mechanism
                                                                    for e in failed)
    with open(daemon.log_path, encoding="utf-8") as log:
        assert LONG not in log.read()


@pytest.mark.parametrize("answer", [b"*", base64.b64encode(b"{}"), b"%%%"],
                         ids=["cancel", "words", "nonsense"])
def test_what_a_client_says_to_the_error(daemon, ca, answer):
    """Whatever it is, the login has failed, and the session goes on."""
    with client(daemon, ca) as c:
        first = base64.b64encode(message("OAUTHBEARER", "expired").encode()).decode()
        assert c.docmd("AUTH", "OAUTHBEARER " + first)[0] == 334
        assert c.docmd(answer.decode())[0] == 535
        assert c.docmd("AUTH", "OAUTHBEARER "
                       + base64.b64encode(message("OAUTHBEARER",
                                                  "valid").encode()).decode())[0] == 235


def test_an_issuer_that_is_slow_or_broken(daemon, issuer, ca):
    """Others log in meanwhile; what nobody can tell is no refusal."""
    issuer.hold = threading.Event()
    result = []
    slow = threading.Thread(target=lambda: result.append(log_in(daemon, ca, "XOAUTH2", "valid")))
    try:
        slow.start()
        wait_for(lambda: issuer.asked and issuer.asked[-1] == "valid", what="the issuer is asked")
        with client(daemon, ca) as c:
            c.user, c.password = "anna@src.test", "wrong"
            with pytest.raises(smtplib.SMTPAuthenticationError):
                c.auth("PLAIN", c.auth_plain)
        # nor does it cost others what they have asked
        assert log_in(daemon, ca, "OAUTHBEARER", TOO_LONG) == (454, [])
        issuer.hold.set()
        slow.join(60)
        assert result == [(235, [])]
    finally:
        issuer.hold.set()
        issuer.hold = None
    issuer.broken = True
    try:
        assert log_in(daemon, ca, "XOAUTH2", "some")[0] in (454, 535)
    finally:
        issuer.broken = False
    assert log_in(daemon, ca, "XOAUTH2", "valid") == (235, [])
