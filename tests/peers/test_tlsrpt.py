"""TLS reports (RFC 8460): sessions counted by domain and day, kept over a restart and a kill, and
told by mail and HTTPS."""
import datetime
import email
import email.policy
import gzip
import json
import os
import re
import signal
import shutil
import threading

import pytest

from conftest import FAST
from dns_server import BrokenDns, Nsd
from harness import free_port_on, quoted, wait_for
from https_host import Answer, HttpsHost, hang
from clock import Clock
from sink import DROP, Sink

DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nbody\r\n"
SECURE, PLAIN, BROKEN, REPORTS, POSTS = ("127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4",
                                         "127.0.1.5")

ZONE = """
    secure      A     127.0.1.1
    plain       A     127.0.1.2
    broken      A     127.0.1.3
    takes       A     127.0.1.4
    posts       A     127.0.1.5
    good        MX    10 secure
    also        MX    10 secure
    bare        MX    10 plain
    bad         MX    10 broken
    quiet       MX    10 secure
    both        MX    10 secure
    away        MX    10 secure
    reports     MX    10 takes
    _smtp._tls.good     TXT  "v=TLSRPTv1; rua=mailto:tls@reports.rpt.test,mailto:two@reports.rpt.test"
    _smtp._tls.bare     TXT  "v=TLSRPTv1; rua=https://posts.rpt.test:%(https)d/v1"
    _smtp._tls.bad      TXT  "v=TLSRPTv1; rua=mailto:tls@reports.rpt.test"
    _smtp._tls.both     TXT  "v=TLSRPTv1; rua=mailto:tls@reports.rpt.test,https://posts.rpt.test:%(https)d/both"
    _smtp._tls.reports  TXT  "v=TLSRPTv1; rua=mailto:self@reports.rpt.test"
    _smtp._tls.away     TXT  "unrelated"
"""


class World:
    """A relay that reports, its name server, hosts for mail with and without TLS, one for reports
    by mail and by HTTPS."""

    def __init__(self, make_tramd, ca, pair, host, **how):
        port = free_port_on([SECURE, PLAIN, BROKEN, REPORTS])
        self.sinks = {where: Sink(where, port, tls=None if where == PLAIN else pair)
                      for where in (SECURE, PLAIN, BROKEN, REPORTS)}
        self.reports, self.host = self.sinks[REPORTS], host
        self.sinks[BROKEN].rule("TLS", DROP)
        extra = ("allow-private = yes\ndelivery-ca = %s\ntls-report-contact = \"tls@tram.test\"\n"
                 "tls-report-organization = \"Tram & Sons\"\ntls-report-spread = 0s\n"
                 % quoted(ca.path))
        self.tramd = make_tramd(routes={"*": "mx:%d" % port}, queue=FAST, extra=extra, **how)

    def send(self, *domains):
        for domain in domains:
            sent = self.tramd.send(DATA, to="b@%s.rpt.test" % domain)
            assert self.tramd.wait_log(event="final", id=sent)["outcome"] == "delivered"

    def rows(self):
        return {row["domain"].split(".")[0]: row
                for row in self.tramd.ctl_json_lines("tls-reports") if "domain" in row}

    def counts(self):
        return {domain: (row["successes"], row["failures"]) for domain, row in self.rows().items()}

    def report(self):
        return json.loads(self.tramd.ctl("--json", "tls-reports", "send").splitlines()[-1])

    def close(self):
        for sink in self.sinks.values():
            sink.close()


@pytest.fixture(scope="module")
def https_port():
    return free_port_on([POSTS])


@pytest.fixture(scope="module")
def nsd(https_port):
    if not shutil.which("nsd") and not shutil.which("/usr/sbin/nsd"):
        pytest.skip("needs the package nsd")
    with Nsd({"rpt.test": ZONE % {"https": https_port}}) as real:
        yield real


@pytest.fixture
def make_world(make_tramd, nsd, ca, https_port):
    made = []
    pair = ca.sign("posts", ["posts.rpt.test"])
    with HttpsHost(*pair, host=POSTS, port=https_port) as host:
        def make(**how):
            made.append(World(make_tramd, ca, pair, host, **dict({"resolver": nsd.address}, **how)))
            return made[-1]
        yield make
        for world in made:
            world.close()


@pytest.fixture
def world(make_world):
    return make_world()


def unpack(message):
    """The mail's JSON, after a look at all that RFC 8460 §5.3 says of the mail itself."""
    mail = email.message_from_bytes(message.data, policy=email.policy.default)
    assert message.sender == ""
    assert mail["From"] == "tls@tram.test" and mail["TLS-Required"] == "No"
    assert (mail.get_content_type() == "multipart/report"
            and mail.get_param("report-type") == "tlsrpt")
    domain, submitter = mail["TLS-Report-Domain"], mail["TLS-Report-Submitter"]
    assert submitter == "tram.test" and mail["Subject"].startswith("Report Domain: %s Submitter: "
                                                                   "tram.test" % domain)
    text, attached = mail.iter_parts()
    assert text.get_content_type() == "text/plain" and domain in text.get_content()
    assert attached.get_content_type() == "application/tlsrpt+gzip"
    assert re.fullmatch(r"tram\.test!%s!\d+!\d+!\S+\.json\.gz" % domain, attached.get_filename())
    report = json.loads(gzip.decompress(attached.get_payload(decode=True)))
    assert report["report-id"] in mail["Subject"] and report["report-id"] in attached.get_filename()
    return check(report, domain)


def check(report, domain):
    """Every member of RFC 8460 §4.4 that there is, and none else."""
    assert set(report) == {"organization-name", "date-range", "contact-info", "report-id",
                           "policies"}
    assert (report["organization-name"] == "Tram & Sons"
            and report["contact-info"] == "tls@tram.test")
    dates = report["date-range"]
    assert set(dates) == {"start-datetime", "end-datetime"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", dates["start-datetime"])
    assert dates["end-datetime"] == dates["start-datetime"][:10] + "T23:59:59Z"
    for policy in report["policies"]:
        assert set(policy) - {"failure-details"} == {"policy", "summary"}
        assert policy["policy"]["policy-domain"] == domain
        assert policy["policy"]["policy-type"] in ("tlsa", "sts", "no-policy-found")
        assert set(policy["policy"]) <= {"policy-type", "policy-string", "policy-domain", "mx-host"}
        assert set(policy["summary"]) == {"total-successful-session-count",
                                          "total-failure-session-count"}
        failures = policy.get("failure-details", [])
        for failure in failures:
            assert {"result-type", "failed-session-count"} <= set(failure) <= {
                "result-type", "sending-mta-ip", "receiving-mx-hostname", "receiving-mx-helo",
                "receiving-ip",
                "failed-session-count", "additional-information", "failure-reason-code"}
        assert policy["summary"]["total-failure-session-count"] == sum(f["failed-session-count"]
                                                                       for f in failures)
    return report


def only_policy(report):
    assert len(report["policies"]) == 1
    return report["policies"][0]


def test_counted_kept_and_told(world):
    """Counters of all kinds over a stop and a kill; then what each domain asked for, and nothing
    twice."""
    world.send("good", "bare", "bad", "quiet", "away")
    assert world.counts() == {"good": (1, 0), "bare": (0, 1), "bad": (0, 1), "quiet": (1, 0),
                              "away": (1, 0)}
    world.tramd.restart()
    world.send("good", "also")
    assert world.counts()["good"] == (2, 0)             # to list them also writes them
    world.tramd.restart(kill=True)
    assert world.counts() == {"good": (2, 0), "bare": (0, 1), "bad": (0, 1), "quiet": (1, 0),
                              "away": (1, 0), "also": (1, 0)}
    row = world.rows()["bad"]
    assert (row["results"] == "validation-failure 1"
            and row["failure_details"][0]["host"] == "broken.rpt.test")
    assert re.search(r"bare\.rpt\.test +no-policy-found +0 +1 .*starttls-not-supported 1",
                     world.tramd.ctl("tls-reports"))

    world.host.answers["/v1"] = Answer(201, "", b"")
    told = world.report()
    assert (told["sent"], told["unwanted"], told["later"]) == (4, 3, 0)
    by_domain = {unpack(m)["policies"][0]["policy"]["policy-domain"]: m
                 for m in world.reports.wait(2)}
    assert sorted(by_domain) == ["bad.rpt.test", "good.rpt.test"]
    assert sorted(by_domain["good.rpt.test"].recipients) == ["tls@reports.rpt.test",
                                                             "two@reports.rpt.test"]

    good = only_policy(unpack(by_domain["good.rpt.test"]))
    assert good["policy"] == {"policy-type": "no-policy-found", "policy-domain": "good.rpt.test"}
    assert good["summary"] == {"total-successful-session-count": 2,
                               "total-failure-session-count": 0}
    assert "failure-details" not in good
    (bad,) = only_policy(unpack(by_domain["bad.rpt.test"]))["failure-details"]
    assert bad["result-type"] == "validation-failure" and bad["failed-session-count"] == 1
    assert bad["receiving-mx-hostname"] == "broken.rpt.test" and bad["receiving-ip"] == BROKEN
    assert bad["sending-mta-ip"].startswith("127.") and bad["failure-reason-code"]

    world.host.wait_for(1, "/v1")
    (request,) = world.host.requests
    assert request[0] == "POST" and request[2]["content-type"] == "application/tlsrpt+gzip"
    (bare,) = only_policy(check(json.loads(gzip.decompress(request[3])),
                                "bare.rpt.test"))["failure-details"]
    assert bare["result-type"] == "starttls-not-supported" and bare["receiving-mx-helo"]

    # What carried the reports is not reported on, though its domain wants reports; and all is told.
    world.tramd.wait_empty()
    assert world.counts() == {}
    assert world.tramd.ctl("tls-reports").strip() == "Nothing has been counted."
    world.tramd.restart()
    assert world.report()["sent"] == 0
    assert len(world.reports.messages) == 2 and len(world.host.requests) == 1


def test_after_the_end_of_the_day(make_world, tmp_path):
    """By itself, on the next day; what cannot be posted waits over a restart, while its mail is not
    sent again."""
    clock = Clock(tmp_path)
    world = make_world(env=clock.env)
    now = datetime.datetime.now(datetime.timezone.utc)
    world.send("both")
    world.host.answers["/both"] = Answer(503, "", b"")
    assert world.counts() == {"both": (1, 0)}
    clock.forward((now.replace(hour=3, minute=0)
                   + datetime.timedelta(days=1) - now).total_seconds())
    wait_for(lambda: world.rows().get("both", {}).get("tries") == 1,
             what="it was posted, and was refused")
    report = unpack(world.reports.wait(1)[0])
    assert report["date-range"]["start-datetime"][:10] == now.strftime("%Y-%m-%d")
    world.tramd.wait_log(event="tls-report", outcome="later", reply="status 503")
    row = world.rows()["both"]
    assert row["post"].endswith("/both") and row["next_ms"] > clock.now() * 1000
    world.tramd.wait_empty()

    world.tramd.restart(kill=True)
    world.host.answers["/both"] = Answer(200, "", b"")
    clock.forward(600)                                  # its next try is due
    wait_for(lambda: world.counts() == {}, what="it was posted")
    posted = check(json.loads(gzip.decompress(world.host.requests[-1][3])), "both.rpt.test")
    assert posted == report and len(world.host.requests) == 2
    assert len(world.reports.messages) == 1


def test_dropped_after_a_day(make_world, tmp_path):
    """Who does not take it within a day does not get it."""
    clock = Clock(tmp_path)
    world = make_world(env=clock.env)
    world.send("bare")
    assert world.report() == {"end": True, "sent": 0, "unwanted": 0, "later": 1}
    clock.forward(25 * 3600)
    wait_for(lambda: world.counts() == {}, what="it is dropped")
    world.tramd.wait_log(event="tls-report", outcome="dropped", level="warning", reply="status 404")


def test_off_by_default(make_tramd, sink):
    """Without a contact nothing is counted."""
    tramd = make_tramd(static=sink, queue=FAST)
    tramd.send(DATA)
    sink.wait(1)
    assert [row for row in tramd.ctl_json_lines("tls-reports") if "domain" in row] == []
    assert "tls-report-contact" in tramd.ctl("tls-reports", "send", check=False).stderr.decode()


def test_what_has_no_answer_is_told_later(make_world, nsd):
    """A name server that fails is no word about the record."""
    with BrokenDns(upstream=nsd, rules={"_smtp._tls.good.rpt.test": "servfail"}) as dns:
        world = make_world(resolver=dns.address)
        world.send("good")
        assert world.report() == {"end": True, "sent": 0, "unwanted": 0, "later": 1}
        assert world.counts() == {"good": (1, 0)}
        dns.rules.clear()
        assert world.report() == {"end": True, "sent": 2, "unwanted": 0, "later": 0}
        world.reports.wait(1)


def test_a_stop_while_several_are_posted(world):
    """All are let go of at once, and tried again after the next start."""
    world.host.answers["/v1"] = world.host.answers["/both"] = hang
    world.send("bare", "both")
    world.tramd.ctl("tls-reports")
    asking = threading.Thread(target=world.tramd.ctl, args=("tls-reports", "send"),
                              kwargs={"check": False}, daemon=True)
    asking.start()
    world.host.wait_for(1, "/v1")
    world.host.wait_for(1, "/both")
    world.tramd.stop()
    asking.join(10)
    world.host.answers["/v1"] = world.host.answers["/both"] = Answer(201, "text/plain", b"")
    world.tramd.start()
    world.host.wait_for(2, "/v1")
    world.host.wait_for(2, "/both")


@pytest.mark.parametrize("point, kept, reports", [
    ("note-before-commit:1", 0, 0), ("note-after-commit:1", 1, 0), ("accept-before-commit:2", 1, 0),
    ("accept-after-commit:2", 0, 1)])
def test_killed_at_point(make_world, point, kept, reports):
    """The counters are there, or the report: never both, never neither, once they were written."""
    faults = os.environ.get("TRAM_FAULTS_BUILD")
    if not faults:
        pytest.skip("needs a build with -Dfaults=true (TRAM_FAULTS_BUILD)")
    world = make_world(program_path=os.path.join(faults, "mta", "tramd"))
    world.tramd.stop()				# a new queue's first note is its key of verp
    world.tramd.env = {"TRAM_CRASH_AT": point}
    world.tramd.start()
    world.send("bad")
    world.tramd.ctl("tls-reports", "send", check=False)
    assert world.tramd.end() == -signal.SIGKILL
    world.tramd.env = {}
    world.tramd.start()
    assert world.counts() == ({"bad": (0, 1)} if kept else {})
    if reports:
        world.reports.wait(1)
    assert world.report()["sent"] == (kept and not reports)
    assert len(world.reports.wait(kept + reports)
               if kept + reports else world.reports.messages) == kept + reports
    world.tramd.wait_empty()
