"""A raw client that can do TLS: octet for octet, with the handshake and each record in the test's
hands."""
import ssl

from harness import SmtpRaw

VERSIONS = {"1.0": ssl.TLSVersion.TLSv1, "1.1": ssl.TLSVersion.TLSv1_1,
            "1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def context(ca=None, version=None, pair=None, ciphers=None):
    """version: "1.1" … "1.3": this one alone ("1.0" too). Names are not checked: tests ask whose
    certificate it is."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    if ca is None:
        made.verify_mode = ssl.CERT_NONE
    else:
        made.load_verify_locations(ca)
    if version:
        made.minimum_version = made.maximum_version = VERSIONS[version]
    if ciphers or version in ("1.0", "1.1"):
        made.set_ciphers(ciphers or "DEFAULT@SECLEVEL=0")
    if pair:
        made.load_cert_chain(*pair)
    return made


class TlsRaw(SmtpRaw):
    """An SmtpRaw that can begin TLS. An end without close_notify is an error (ssl.SSLEOFError)."""

    def __init__(self, host, port, greet=True, on_connect=None, name=None, session=None, **how):
        super().__init__(host, port, greet=False, **how)
        if on_connect:
            self.wrap(on_connect, name, session)
        self.greeting = self.reply(220) if greet else None

    def wrap(self, ctx, name=None, session=None):
        assert not self.pending, "behind the reply to STARTTLS came %r" % self.pending
        self.socket = ctx.wrap_socket(self.socket, server_hostname=name, session=session,
                                      suppress_ragged_eofs=False)

    def start_tls(self, ctx, name=None, session=None, hello=True):
        if hello:
            self.hello()
        self.command("STARTTLS", 220)
        self.wrap(ctx, name, session)

    def names(self):
        """Of the server's certificate."""
        return [value for _, value in self.socket.getpeercert()["subjectAltName"]]


class Records:
    """A TLS client whose octets go out only as the test says: what it wants to say comes from
    out()."""

    def __init__(self, raw, ctx):
        self.raw, self.incoming, self.outgoing = raw, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = ctx.wrap_bio(self.incoming, self.outgoing)

    def out(self):
        return self.outgoing.read()

    def hear(self):
        got = self.raw.socket.recv(1 << 16)
        self.incoming.write(got) if got else self.incoming.write_eof()
        return got

    def shake(self, send):
        """send(octets) has each flight."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                send(self.out())
                self.hear()
        send(self.out())

    def record(self, data):
        self.tls.write(data)
        return self.out()

    def any_reply(self):
        """One or more."""
        text = b""
        while not (text.endswith(b"\r\n") and text.splitlines()[-1][3:4] != b"-"):
            try:
                text += self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                assert self.hear(), "the connection was closed"
        return text

    def reply(self, code):
        text = self.any_reply()
        assert text[:3] == b"%d" % code, text
        return text
