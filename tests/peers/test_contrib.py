"""What contrib/ holds: the demo, the first configuration, the examples, what is installed, the
systemd unit."""
import os
import re
import shutil
import subprocess
import sys

import pytest

from certificates import Authority
from conftest import FAST
from dns_server import Nsd
from harness import BUILD, ROOT, TIMEOUT, program
from test_what_if import step, steps, what_if


@pytest.mark.quick
def test_demo():
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "peers", "demo.py"), BUILD],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=2 * TIMEOUT)
    text = done.stdout.decode()
    assert done.returncode == 0, text
    message_id = re.search(r"tramd answered: 250 .* ([0-9a-z]{13})\n", text)[1]
    for wanted in ("event=accept id=" + message_id, "event=delivery id=" + message_id,
                   "event=final id=" + message_id,
                   "id " + message_id, "from <alice@example.org> to <bob@example.net>",
                   "Good morning."):
        assert wanted in text, text


def test_first_configuration(make_tramd):
    """The one that contrib/run writes: it is valid, and relays for programs on this machine to
    where the MX say."""
    with open(os.path.join(ROOT, "contrib", "run"), encoding="utf-8") as f:
        text = re.search(r"<<CONF\n(.*?)\nCONF\n", f.read(), re.S)[1]
    assert set(re.findall(r"\$\w+", text)) == {"$place", "$port"}
    tramd = make_tramd(config=text.replace("%",
                                           "%%").replace("$place", "%(place)s").replace("$port",
                                                                                        "%(port)d"))
    assert tramd.ctl_json("stats")["window_sites"] == 0 and "sites 0 " in tramd.ctl("top", "--once")
    with tramd.client() as c:
        c.hello()
        c.command("MAIL FROM:<me@example.org>", 250)
        c.command("RCPT TO:<you@example.net>", 250)
    done = subprocess.run([program("tramd"), "-n", "-c", tramd.config_path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout


def installed(tmp_path):
    """ninja install, into a directory: {path below the prefix: where it is}."""
    done = subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild"],
                          env=dict(os.environ, DESTDIR=str(tmp_path)),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=4 * TIMEOUT)
    if b"could not be found" in done.stdout:
        pytest.skip("not all of %s is built" % BUILD)
    assert done.returncode == 0, done.stdout
    found = {}
    for place, _, names in os.walk(tmp_path):
        for name in names:
            path = os.path.join(place, name)
            found[re.sub(r"^usr/(local/)?", "", os.path.relpath(path, tmp_path))] = path
    return found


@pytest.mark.skipif(not shutil.which("meson"), reason="needs meson")
def test_install(tmp_path):
    found = installed(tmp_path)
    wanted = {"sbin/tramd", "bin/tramctl", "sbin/tram-sendmail", "lib/systemd/system/tram.service",
              "lib/sysusers.d/tram.conf", "share/doc/tram/examples/smarthost.conf"}
    if shutil.which("scdoc"):
        wanted |= {"share/man/man8/tramd.8", "share/man/man8/tramctl.8",
                   "share/man/man8/tram-sendmail.8",
                   "share/man/man5/tram.conf.5", "share/man/man7/tram-shaping.7"}
    assert wanted <= set(found)
    for name in ("sbin/tramd", "bin/tramctl", "sbin/tram-sendmail"):
        done = subprocess.run([found[name], "-V" if name.endswith("tramd") else "--version"],
                              stdout=subprocess.PIPE, timeout=TIMEOUT)
        assert done.returncode == 0 and re.match(rb"[a-z-]+ \d+\.\d+", done.stdout), name
        assert os.stat(found[name]).st_mode & 0o7777 == 0o755		# no set-uid
    with open(found["lib/systemd/system/tram.service"], encoding="utf-8") as f:
        unit = f.read()
    assert "Type=notify\n" in unit and "@" not in unit.replace("@system-service", "")
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "User=tram",
                 "MemoryDenyWriteExecute=yes"):
        assert line + "\n" in unit
    assert re.search(r"^ExecStart=/usr/(local/)?sbin/tramd -c /etc/tram/tram.conf$", unit, re.M)
    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "verify",
                               found["lib/systemd/system/tram.service"]],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT)
        wrong = [line for line in done.stdout.decode().splitlines()
                 if "tram.service" in line and "is not executable" not in line
                 and "'man " not in line]
        assert wrong == []


def allowed_calls():
    """What the unit's filter lets through."""
    groups, name = {}, None
    text = subprocess.run(["systemd-analyze", "syscall-filter"], stdout=subprocess.PIPE,
                          timeout=TIMEOUT).stdout.decode()
    for line in text.splitlines():
        if line.startswith("@"):
            name = line.strip()
            groups[name] = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            groups[name].append(line.strip())

    def calls(word):
        return set().union(*map(calls, groups[word])) if word.startswith("@") else {word}
    with open(os.path.join(ROOT, "contrib", "tram.service"), encoding="utf-8") as f:
        words = re.search(r"^SystemCallFilter=(.*)$", f.read(), re.M)[1].split()
    return set().union(*map(calls, words))


@pytest.mark.skipif(not (shutil.which("systemd-analyze") and shutil.which("strace")),
                    reason="needs systemd-analyze and strace")
def test_the_unit_allows_what_tramd_does(make_tramd, sink, tmp_path):
    trace = str(tmp_path / "trace")
    with open(program("tramd"), "rb") as f:
        if re.search(rb"__[at]san_init", f.read()):
            pytest.skip("a sanitizer has calls of its own")
    tramd = make_tramd(static=sink, queue=FAST, wrapper=["strace", "-f", "-c", "-o", trace])
    tramd.send(b"Subject: small\r\n\r\nx\r\n")
    tramd.send(b"Subject: large\r\n\r\n" + b"%s\r\n" % (b"y" * 70) * 20000)
    sink.wait(2)
    tramd.wait_empty()
    for command in (["reload"], ["queue", "hold", "--all"], ["drain"], ["drain", "--off"],
                    ["stop"]):
        tramd.ctl(*command)
    tramd.end()
    with open(trace, encoding="utf-8") as f:
        used = {line.split()[-1] for line in f if re.match(r"\s*[\d.]+\s", line)} - {"total"}
    assert "fdatasync" in used and used - allowed_calls() == set()


EXAMPLES = os.path.join(ROOT, "contrib", "examples")


def test_example_of_rules(make_tramd):
    """The rules that are built in are good as an operator's own, too: who changes them begins with
    a copy."""
    make_tramd(static=("127.0.0.1", 9), extra="".join(
        '%s-rules = "%s"\n' % (name, os.path.join(EXAMPLES, name + ".rules"))
        for name in ("classify", "response")))


SHAPING = "shaping.conf"			# what others include


@pytest.mark.parametrize("name", sorted(name for name in os.listdir(EXAMPLES)
                                        if name.endswith(".conf") and name != SHAPING))
def test_examples(tmp_path, name):
    """They are valid as they stand, but for what names files and users of another machine."""
    with open(os.path.join(ROOT, "contrib", "examples", name), encoding="utf-8") as f:
        text = f.read()
    path = tmp_path / name
    chain, key = Authority(tmp_path / "ca").sign("mail", ["relay.example.org"])
    os.rename(chain, tmp_path / "fullchain.pem")
    os.rename(key, tmp_path / "privkey.pem")
    (tmp_path / "passwords").write_text("")
    (tmp_path / "senders").write_text("anna: anna@example.org\n")
    shutil.copy(os.path.join(EXAMPLES, SHAPING), tmp_path)
    text = re.sub(r'(?m)^user\s*=.*$', "", text).replace("/etc/tram", str(tmp_path))
    # the way that a comment shows
    other = re.sub(r"(?m)^#(?=route|    |})", "", text)
    ways = [text] if other == text else [text, re.sub(r'(?m)^route "\*" *{.*}$', "", other)]
    for way in ways:
        path.write_text(way)
        done = subprocess.run([program("tramd"), "-n", "-c", str(path)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=TIMEOUT)
        assert done.returncode == 0, done.stdout.decode()
    assert len(ways) == (2 if name == "smarthost.conf" else 1)
    for folder in re.findall(r'/var/(?:lib|log)/(\w+)/', text):
        assert folder == "tram", "what the unit may write to"


def test_the_readme_is_true(make_tramd, tmp_path):
    """Its configuration is valid, its commands exist, its folders and files are there."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        text = f.read()
    config = "\n".join(line[4:] for line in re.search(r"# A configuration\n\n(.*?)\n\n", text,
                                                      re.S)[1].splitlines())
    path = tmp_path / "tram.conf"
    path.write_text(config + "\n")
    done = subprocess.run([program("tramd"), "-n", "-c", str(path)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout.decode()
    listed = subprocess.run([program("tramctl"), "--list-options"], stdout=subprocess.PIPE,
                            timeout=TIMEOUT).stdout.decode().splitlines()
    for command in re.findall(r"\btramctl(?: -c \S+)? ([a-z]+(?:-[a-z]+)*(?: "
                              r"(?:list|show|cat|hold|release|retry|bounce|remove|export|"
                              r"import|check|salvage))?)", text):
        assert command in listed, command
    for name in re.findall(r"(?m)^((?:mta|dns|queue|policy|tests|contrib)/[a-z/]*) ", text):
        assert os.path.isdir(os.path.join(ROOT, name)), name
    for name in re.findall(r"`((?:mta|dns|queue|policy|tests|contrib)/[a-zA-Z/._-]+)`", text):
        here = os.path.join(ROOT, name)
        assert os.path.exists(here) or os.path.exists(here + ".c"), name


def test_the_manual_of_shaping(tmp_path):
    """Its example is a configuration, but for what says where mail comes in."""
    with open(os.path.join(ROOT, "contrib", "man", "tram-shaping.7.scd"), encoding="utf-8") as f:
        block = re.search(r"(?s)\n# AN EXAMPLE\n.*?\n```\n(.*?\n)```\n", f.read())[1]
    path = tmp_path / "tram.conf"
    path.write_text('hostname = "out.example.org"\nlistener smtp { address = "127.0.0.1:2525" }\n'
                    'relay-from = "127.0.0.1"\n' + block)
    done = subprocess.run([program("tramd"), "-n", "-c", str(path)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout.decode()


# domain → its host, the provider, the shapes that limit mail to it, connections at most; messages
# over one connection
LARGE = {
    "gmail.com": ("gmail-smtp-in.l.google.com", "google", {"google": 20}, 100),
    "company.test": ("aspmx.l.google.com", "google", {"google": 20}, 100),
    "hotmail.com": ("hotmail-com.olc.protection.outlook.com", "outlook", {"outlook": 10}, 50),
    "office.test": ("office-test.mail.protection.outlook.com", "microsoft365",
                    {"microsoft365": 40, "a customer of microsoft365": 5}, 30),
    "yahoo.com": ("mta5.am0.yahoodns.net", "yahoo", {"yahoo": 10}, 20),
    "web.de": ("mx-ha02.web.de", "gmx", {"german portals": 8}, 50),
    "orange.fr": ("smtp-in.orange.fr", "orange", {"french portals": 2}, 50),
    "small.test": ("mx.small.test", None, {"others": 10}, 50),
}


@pytest.fixture(scope="module")
def large_nsd():
    zones = {domain: "@ MX 10 %s." % host for domain, (host, *_) in LARGE.items()}
    for host, *_ in LARGE.values():
        zone = next((zone for zone in zones if host.endswith("." + zone)), host)
        zones[zone] = zones.get(zone, "") + "\n%s A 127.0.0.9" % (host[:-len(zone) - 1] or "@")
    with Nsd(zones) as nsd:
        yield nsd


def test_shaping_of_large_providers(make_tramd, large_nsd):
    """app-relay.conf as it is, on ports of ours: whose hosts each provider has, and which shapes
    limit its mail."""
    with open(os.path.join(EXAMPLES, "app-relay.conf"), encoding="utf-8") as f:
        text = f.read()
    for pattern, new in ((r"(?m)^user .*$",
                          'allow-private = yes resolver-test = "off" control = "%(place)s/control"'),
                         (r"/var/(lib|log)/tram", "%(place)s"),
                         (r'"127.0.0.1:53"', '"%s"' % large_nsd.address),
                         (r"address = {.*}", 'address = "127.0.0.1:%(port)d"'),
                         (r"192\.0\.2\.", "127.0.0."),
                         (r'include "', 'include "%s/' % EXAMPLES),
                         (r'format = json file = ".*"', "format = logfmt")):
        text, changes = re.subn(pattern, new, text)
        assert changes > 0, pattern
    tramd = make_tramd(config=text)
    for domain, (_, provider, shapes, messages) in LARGE.items():
        status, found = what_if(tramd, "anna@" + domain, "--from", "no-reply@accounts.example.org")
        assert status == 0 and step(found, "source")["source"] == "c"
        assert [row["provider"] for row in steps(found, "provider")] == ([provider]
                                                                         if provider else [])
        assert {row["shape"]: row["most"] for row in steps(found, "limit")
                if row.get("limit") == "connections" and "shape" in row} == shapes, domain
        assert [row["messages_per_connection"] for row in steps(found, "limit")
                if "messages_per_connection" in row] == [messages]
        assert not provider or all("source c" in row["text"]
                                   for row in steps(found, "limit") if "shape" in row)
        assert step(found,
                    "tenant")["weight"] == 10 and step(found,
                                                       "result")["text"].startswith("it would be taken, and go")
