#!/usr/bin/env python3
"""The demo of contrib/run: one message through tramd to a sink of its own, and the way it took.

    demo.py BUILD     uses BUILD/mta/tramd; free ports, a temporary directory, nothing left behind
"""
import os
import smtplib
import sys
import tempfile
from email.message import EmailMessage
from email.policy import SMTP

if len(sys.argv) > 1:
    os.environ["TRAM_BUILD"] = sys.argv[1]
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
from sink import Sink  # noqa: E402


def title(text):
    print("\n== " + text)


def main():
    with (tempfile.TemporaryDirectory(prefix="tram-demo-") as place,
          Sink(name="sink.demo.test") as sink):
        daemon = harness.Tramd(place, static=sink, hostname="tram.demo.test")
        title("configuration")
        print(daemon.text().strip())
        daemon.start()
        try:
            title("client to tramd, 127.0.0.1 port %d" % daemon.port)
            message = EmailMessage()
            message["From"], message["To"], message["Subject"] = ("alice@example.org",
                                                                  "bob@example.net", "first")
            message.set_content("Good morning.\n")
            with smtplib.SMTP("127.0.0.1", daemon.port, timeout=harness.TIMEOUT) as client:
                client.ehlo("laptop.example.org")
                client.mail("alice@example.org")
                client.rcpt("bob@example.net")
                code, text = client.data(message.as_bytes(policy=SMTP))
            print("tramd answered: %d %s" % (code, text.decode()))
            message_id = harness.queue_id(harness.Reply(code, [text.decode()]))
            arrived = sink.wait(1)[0]
            daemon.wait_log(id=message_id, event="final")
            title("tramd's log of %s" % message_id)
            for line in list(daemon.lines):
                if message_id in line:
                    print(line)
            title("arrived at the sink, 127.0.0.1 port %d, from <%s> to <%s>" % (
                sink.port, arrived.sender, ", ".join(arrived.recipients)))
            print(arrived.data.decode().replace("\r\n", "\n"), end="")
        finally:
            daemon.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
