"""Certificates for the tests: a CA of their own, and what it signs. Made by the openssl command,
one set per test run."""
import os
import subprocess


def openssl(*args, stdin=None):
    subprocess.run(("openssl",) + args, check=True, input=stdin, stdout=subprocess.PIPE,
                   stderr=subprocess.PIPE)


class Authority:
    """ca = Authority(folder); chain, key = ca.sign("mail", ["mail.example.org"]); ca.path is its
    own certificate."""

    def __init__(self, folder, name="test authority"):
        self.folder, self.signed = str(folder), 0
        os.makedirs(self.folder, exist_ok=True)
        self.path, self.key = self.at("ca.pem"), self.at("ca.key")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", "30", "-subj", "/CN=" + name, "-keyout", self.key, "-out", self.path)

    def at(self, name):
        return os.path.join(self.folder, name)

    def sign(self, name, hosts, kind="ec", days=30, email=None, common_name=None):
        """hosts: names in the certificate; none: common_name only. days < 0: it has expired.
        (chain, key): paths, for this call alone, whoever else asks for the name."""
        self.signed += 1
        chain, key, request, extra = (self.at("%s-%d%s" % (name, self.signed, end))
                                      for end in (".pem", ".key", ".csr", ".ext"))
        new = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256") if kind == "ec" else ("rsa:2048",)
        openssl("req", "-new", "-newkey", *new, "-nodes", "-subj",
                "/CN=" + (common_name or hosts[0]), "-keyout", key, "-out", request)
        names = ["DNS:" + host for host in hosts] + (["email:" + email] if email else [])
        with open(extra, "w", encoding="ascii") as f:
            f.write("extendedKeyUsage=serverAuth,clientAuth\n")
            f.write("subjectAltName=%s\n" % ",".join(names) if names else "")
        when = ("-days", str(days)) if days > 0 else ("-days", "1")
        faked = [] if days > 0 else ["faketime", "-f", "%dd" % (days - 2)]
        subprocess.run(faked + ["openssl", "x509", "-req", "-in", request, "-CA", self.path,
                                "-CAkey", self.key,
                                "-CAcreateserial", "-extfile", extra, "-out", chain, *when],
                       check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return chain, key

    def ocsp(self, name, chain, days=1):
        """A response about the certificate, good for so many days; days < 0: it has expired. Its
        path."""
        index, out = self.at(name + ".index"), self.at(name + ".ocsp")
        shown = subprocess.run(["openssl", "x509", "-in", chain, "-noout", "-serial"], check=True,
                               stdout=subprocess.PIPE)
        serial = shown.stdout.decode("ascii").strip().split("=")[1]
        with open(index, "w", encoding="ascii") as f:
            f.write("V\t400101000000Z\t\t%s\tunknown\t/CN=%s\n" % (serial, name))
        faked = [] if days > 0 else ["faketime", "-f", "%dd" % (days - 2)]
        subprocess.run(faked + ["openssl", "ocsp", "-index", index, "-rsigner", self.path, "-rkey",
                                self.key,
                                "-CA", self.path, "-issuer", self.path, "-cert", chain, "-ndays",
                                str(abs(days)),
                                "-respout", out, "-noverify"], check=True, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE)
        return out


def certificate(name, pairs, ocsp=()):
    """The section of tram.conf. pairs: [(chain, key), …]"""
    def listed(paths):
        return "{%s}" % ", ".join('"%s"' % path for path in paths)
    return "certificate %s {\n\tchain = %s\n\tkey = %s\n%s}\n" % (
        name, listed(p[0] for p in pairs), listed(p[1] for p in pairs),
        "\tocsp = %s\n" % listed(ocsp) if ocsp else "")
