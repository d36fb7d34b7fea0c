"""DNSSEC for the end-to-end tests: NSD with zones signed by ldns-signzone, and an Unbound that
validates them.

    zones = {"dane.test": "@ MX 10 mx\\nmx A 127.0.1.1\\n_25._tcp.mx TLSA 3 1 1 …", "plain.test": "@
    MX 10 mx.dane.test."} with SignedNsd(zones, signed=["dane.test"], broken={"bad.dane.test TLSA"})
    as nsd: # no validation: no AD
        with Unbound(nsd) as resolver:                                                      # AD, SERVFAIL for the broken
            … resolver = "%s" % resolver.address …

`broken`: of these records the signature is spoilt. Both live until stop(), on free ports of
127.0.0.1. Unbound keeps answers for a second at most, so that a zone may change (nsd.set_zone).
"""
import glob
import hashlib
import os
import re
import shutil
import subprocess
import tempfile

from dns_server import AD, BrokenDns, Nsd, Program, ask_raw, free_sockets, wait_until_answered

PROGRAMS = ("nsd", "unbound", "ldns-signzone", "ldns-keygen")


def missing():
    """Which of the programs is not installed, or None."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    return next((name for name in PROGRAMS if not shutil.which(name, path=path)), None)


def run(*args, cwd=None):
    return subprocess.run(args, cwd=cwd, check=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout


def spki_digest(certificate):
    """What stands in a TLSA record with selector 1, matching type 1: SHA-256 of the public key, in
    hex."""
    pem = run("openssl", "x509", "-in", certificate, "-noout", "-pubkey")
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem, check=True,
                         stdout=subprocess.PIPE).stdout
    return hashlib.sha256(der).hexdigest()


class SignedNsd(Nsd):
    """As Nsd; the zones named in `signed` are. anchors() are the DS records that a validator
    needs."""

    def __init__(self, zones, signed=(), broken=(), **how):
        super().__init__(zones, **how)
        self.signed, self.keys = list(signed), {}
        self.broken = {tuple(entry.lower().split()) for entry in broken}

    def _key(self, name):
        if name not in self.keys:
            made = run("ldns-keygen", "-r", "/dev/urandom", "-a", "ECDSAP256SHA256", "-k", name,
                       cwd=self.place)
            self.keys[name] = os.path.join(self.place, made.decode("ascii").strip())
        return self.keys[name]

    def _spoil(self, line):
        words = line.split()
        if len(words) < 13 or words[3] != "RRSIG" or (words[0].rstrip(".").lower(),
                                                      words[4].lower()) not in self.broken:
            return line
        return re.sub(r"\S+\s*$", lambda end: "AAAAAAAA" + end[0][8:], line)

    def _write(self, name):
        super()._write(name)
        if name not in self.signed:
            return
        made = self._file(name) + ".signed"
        run("ldns-signzone", "-n", "-f", made, self._file(name), self._key(name))
        with open(made, encoding="utf-8") as f:
            lines = [self._spoil(line) for line in f]
        os.unlink(made)
        with open(self._file(name), "w", encoding="utf-8") as f:
            f.writelines(lines)

    def anchors(self):
        return [path for key in self.keys.values() for path in glob.glob(key + ".ds")]


class Unbound(Program):
    """A validating resolver of what `nsd` serves, and of nothing else."""

    LOG = "unbound.log"

    CONFIG = """
server:
    interface: %(host)s@%(port)d
    username: ""
    chroot: ""
    directory: "%(place)s"
    pidfile: ""
    use-syslog: no
    logfile: ""
    num-threads: 1
    do-ip6: no
    do-not-query-localhost: no
    module-config: "validator iterator"
    qname-minimisation: no
    aggressive-nsec: no
    cache-max-ttl: 1
    cache-max-negative-ttl: 1
    val-bogus-ttl: 1
    local-zone: "test." nodefault
%(anchors)sremote-control:
    control-enable: no
%(stubs)s"""

    def __init__(self, nsd, host="127.0.0.1", port=None):
        super().__init__(host)
        self.nsd, self.wanted = nsd, port

    def _config(self):
        stubs = "".join('stub-zone:\n    name: "%s"\n    stub-addr: %s@%d\n' % (name, self.nsd.host,
                                                                                self.nsd.port)
                        for name in self.nsd.zones)
        anchors = "".join('    trust-anchor-file: "%s"\n' % path for path in self.nsd.anchors())
        return self.CONFIG % {"host": self.host, "port": self.port, "place": self.place,
                              "stubs": stubs, "anchors": anchors}

    def _run(self):
        datagrams, listener = free_sockets(self.host)
        self.port = self.wanted or datagrams.getsockname()[1]
        datagrams.close()
        listener.close()
        path = os.path.join(self.place, "unbound.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write(self._config())
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([shutil.which("unbound") or "/usr/sbin/unbound", "-d",
                                             "-p", "-c", path],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start(self):
        self.place = tempfile.mkdtemp(prefix="tram-unbound-")
        try:
            for attempt in range(5):
                self._run()
                try:
                    for name in self.nsd.zones:
                        want = AD if name in self.nsd.signed else 0
                        wait_until_answered(self.endpoint, name,
                                            alive=lambda: self.process.poll() is None,
                                            good=lambda a, want=want: a.rcode == 0
                                            and a.flags & AD == want)
                    return self
                except AssertionError:
                    # Somebody may have taken the port between our look and Unbound's.
                    if attempt == 4 or "in use" not in self.log():
                        raise AssertionError("unbound does not start:\n" + self.log()) from None
                    self._end()
        except BaseException:
            self.stop()
            raise


def without_ad(upstream):
    """A resolver in front of `upstream` (start it) that takes the AD flag off every answer, as some
    boxes do."""
    def strip(query):
        answer = bytearray(ask_raw(upstream.endpoint, query.raw, query.tcp, 5))
        answer[3] &= ~AD & 0xff
        return bytes(answer)
    return BrokenDns(upstream=upstream, rules={"*": strip})
