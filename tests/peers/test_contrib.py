"""What contrib/run does, apart from building: its demo, and the configuration that it writes."""
import os
import re
import subprocess
import sys

import pytest

from harness import BUILD, ROOT, TIMEOUT, program


@pytest.mark.quick
def test_demo():
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "peers", "demo.py"), BUILD],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=2 * TIMEOUT)
    text = done.stdout.decode()
    assert done.returncode == 0, text
    message_id = re.search(r"tramd answered: 250 .* ([0-9a-z]{13})\n", text)[1]
    for wanted in ("event=accept id=" + message_id, "event=delivery id=" + message_id, "event=final id=" + message_id,
                   "id " + message_id, "from <alice@example.org> to <bob@example.net>", "Good morning."):
        assert wanted in text, text


def test_first_configuration(make_tramd):
    """The one that contrib/run writes: it is valid, and relays for programs on this machine to where the MX say."""
    with open(os.path.join(ROOT, "contrib", "run"), encoding="utf-8") as f:
        text = re.search(r"<<CONF\n(.*?)\nCONF\n", f.read(), re.S)[1]
    assert set(re.findall(r"\$\w+", text)) == {"$place", "$port"}
    tramd = make_tramd(config=text.replace("%", "%%").replace("$place", "%(place)s").replace("$port", "%(port)d"))
    with tramd.client() as c:
        c.hello()
        c.command("MAIL FROM:<me@example.org>", 250)
        c.command("RCPT TO:<you@example.net>", 250)
    done = subprocess.run([program("tramd"), "-n", "-c", tramd.config_path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout
