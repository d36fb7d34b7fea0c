"""An HTTPS host on the loopback network that answers as it is told, well or badly.

    with HttpsHost(chain, key, host="127.0.3.1", port=443) as host:
        host.answers["/x"] = Answer(200, "text/plain", b"body")
        host.requests                   # [(method, path, headers, body), …], as they came

A key of answers may begin with a host name: "a.test/x" is for that one. An answer may be a function
of the connection (a TLS socket) instead, which does what it likes. No port: a free one.
"""
import collections
import os
import socket
import ssl
import threading
import warnings

import pytest

TIMEOUT = float(os.environ.get("TRAM_TEST_TIMEOUT", "60"))
Answer = collections.namedtuple("Answer", "status type body headers", defaults=("",))
NOTHING = Answer(404, "text/plain", b"nothing here")


def needs_port_443(host="127.0.3.1"):
    """Skips the test if this user may not listen there."""
    try:
        with socket.create_server((host, 443)):
            pass
    except OSError as fault:
        pytest.skip("cannot listen on %s:443: %s" % (host, fault))


def drip(conn):
    """A header that never ends, an octet at a time, until the client has had enough."""
    conn.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    try:
        while True:
            conn.sendall(b"a")
            threading.Event().wait(0.02)
    except OSError:
        pass


def hang(conn):
    """Says nothing, until the client goes."""
    conn.settimeout(TIMEOUT)
    try:
        conn.recv(1)
    except OSError:
        pass


class HttpsHost:
    def __init__(self, chain, key, host="127.0.0.1", port=0, newest=None):
        self.host, self.answers, self.requests = host, {}, []
        self.arrived = threading.Condition()
        self.use(chain, key, newest)
        self.listener = socket.create_server((host, port))
        self.port = self.listener.getsockname()[1]
        self.stopped, self.open = False, set()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def use(self, chain, key, newest=None):
        """This certificate from now on. newest: the newest version of TLS."""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain, key)
        if newest:
            self.context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                self.context.minimum_version = ssl.TLSVersion.TLSv1
                self.context.maximum_version = newest

    def count(self, path=None, host=None):
        return sum(path in (None, r[1]) and host in (None, r[2]["host"]) for r in self.requests)

    def wait_for(self, count, path=None):
        with self.arrived:
            assert self.arrived.wait_for(lambda: self.count(path) >= count, TIMEOUT), self.requests

    def _serve(self):
        while True:
            conn = self.listener.accept()[0]
            if self.stopped:
                conn.close()
                return
            threading.Thread(target=self._connection, args=(conn,), daemon=True).start()

    def _connection(self, plain):
        plain.settimeout(TIMEOUT)
        self.open.add(plain)
        try:
            with self.context.wrap_socket(plain, server_side=True) as conn:
                self.open.add(conn)
                try:
                    self._answer(conn)
                finally:
                    self.open.discard(conn)
        except (OSError, ValueError):
            pass
        finally:
            self.open.discard(plain)
            plain.close()

    def _answer(self, conn):
        with conn.makefile("rb") as stream:
            method, path, _ = stream.readline().decode("ascii").split(" ", 2)
            headers = {}
            for line in iter(stream.readline, b"\r\n"):
                name, value = line.decode("latin-1").split(":", 1)
                headers[name.lower()] = value.strip()
            body = stream.read(int(headers.get("content-length", 0)))
        with self.arrived:
            self.requests.append((method, path, headers, body))
            self.arrived.notify_all()
        answer = self.answers.get(headers["host"].split(":")[0] + path) or self.answers.get(path,
                                                                                            NOTHING)
        if callable(answer):
            answer(conn)
            return
        kind = "Content-Type: %s\r\n" % answer.type if answer.type else ""
        conn.sendall(("HTTP/1.1 %d as asked\r\n%s%sContent-Length: %d\r\n\r\n" % (
            answer.status, kind, answer.headers, len(answer.body))).encode("latin-1") + answer.body)

    def stop(self):
        if self.stopped:
            return
        self.stopped = True
        try:
            socket.create_connection((self.host, self.port), 5).close()
        except OSError:
            pass
        self.thread.join()
        self.listener.close()
        for conn in list(self.open):
            try:
                conn.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
