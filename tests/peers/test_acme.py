"""certbot renews from pebble, an ACME server for tests, while clients come and go: no handshake
fails, nobody is told."""
import json
import os
import socket
import ssl
import subprocess
import threading

import pytest

from certificates import Authority, certificate
from conftest import FAST
from harness import TIMEOUT, free_port, wait_for
from test_clients import need
from tls_client import TlsRaw, context

HOST = "127.0.0.1"
DATA = b"From: a@src.test\r\nSubject: way\r\n\r\nbody\r\n"


def answers(port):
    try:
        socket.create_connection((HOST, port), timeout=5).close()
        return True
    except OSError:
        return False


@pytest.fixture
def pebble(tmp_path):
    """Its directory's address. It takes every challenge for met."""
    chain, key = Authority(tmp_path / "pebble").sign("acme", ["localhost"])
    port, config = free_port(), str(tmp_path / "pebble.json")
    with open(config, "w", encoding="ascii") as f:
        json.dump({"pebble": {"listenAddress": "%s:%d" % (HOST, port), "certificate": chain,
                              "privateKey": key,
                              "managementListenAddress": "%s:%d" % (HOST, free_port()),
                              "httpPort": free_port(), "tlsPort": free_port()}}, f)
    with open(str(tmp_path / "pebble.log"), "wb") as log:
        process = subprocess.Popen([need("pebble"), "-config", config], stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log,
                                   env=dict(os.environ, PEBBLE_VA_ALWAYS_VALID="1",
                                            PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT="0"))
    wait_for(lambda: answers(port), TIMEOUT, "pebble answers")
    yield "https://%s:%d/dir" % (HOST, port)
    process.terminate()
    process.wait(TIMEOUT)


def certbot(place, server, *args):
    folders = [word for name in ("config", "work", "logs")
               for word in ("--%s-dir" % name, str(place / name))]
    done = subprocess.run([need("certbot"), *args, "-n", "--server", server, "--no-verify-ssl",
                           *folders],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=4 * TIMEOUT)
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")


def leaf(path):
    with open(path, encoding="ascii") as f:
        return ssl.PEM_cert_to_DER_cert(f.read().split("-----END CERTIFICATE-----")[0]
                                        + "-----END CERTIFICATE-----\n")


def test_certbot_renews_under_load(make_tramd, sink, pebble, tmp_path):
    place = tmp_path / "certbot"
    certbot(place, pebble, "certonly", "--agree-tos", "--register-unsafely-without-email",
            "--standalone",
            "--http-01-port", str(free_port()), "-d", "mail.test", "--key-type", "ecdsa")
    live = str(place / "config" / "live" / "mail.test") + "/"
    daemon = make_tramd(static=sink, queue=FAST,
                        extra="threads = 2\n" + certificate("mail", [(live + "fullchain.pem",
                                                                      live + "privkey.pem")]))
    done, errors, seen, sent = threading.Event(), [], [], []

    def work(version):
        try:
            while not done.is_set():
                with TlsRaw(HOST, daemon.port) as c:
                    c.start_tls(context(version=version))
                    seen.append(c.socket.getpeercert(binary_form=True))
                    c.hello()
                    sent.append(c.message(DATA))
                    c.quit()
        except Exception as error:		# told by the main thread
            errors.append(error)
    workers = [threading.Thread(target=work, args=(version,)) for version in ("1.2", "1.3")]
    for worker in workers:
        worker.start()
    try:
        for count in (1, 2):
            certbot(place, pebble, "renew", "--force-renewal", "--no-random-sleep-on-renew")
            daemon.wait_log(event="certificate-read", count=count)
            new = leaf(live + "fullchain.pem")
            wait_for(lambda: new in seen, TIMEOUT, "the new certificate is shown")
    finally:
        done.set()
        for worker in workers:
            worker.join(TIMEOUT)
    assert not errors, errors
    assert len(set(seen)) == 3
    sink.wait(len(sent))
