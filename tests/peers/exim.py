"""A private Exim on loopback: logins and TLS at both sides. It needs root, and unshare(1).

The package excludes Postfix's, so it is enough that it has been unpacked: program() looks in its
usual place, then in /opt/tram-test (contrib/test puts it there), then where $TRAM_EXIM says. The
account that it wants is made up in a namespace of its own.

    with Exim(chain, key, ca, user, password, relay=("127.0.0.1", port)) as exim: … exim.port …
"""
import os
import shutil
import socket
import subprocess
import tempfile

from harness import TIMEOUT, free_port, wait_for

PLACES = (os.environ.get("TRAM_EXIM", ""), "/usr/sbin/exim4", "/opt/tram-test/usr/sbin/exim4")
UID = 64990

CONFIG = """\
primary_hostname = exim.test
exim_path = %(program)s
spool_directory = %(place)s/spool
log_file_path = %(place)s/log/%%slog
pid_file_path = %(place)s/pid
daemon_smtp_ports = %(port)d
local_interfaces = 127.0.0.1
keep_environment =
deliver_drop_privilege = true
tls_advertise_hosts = *
tls_certificate = %(place)s/chain.pem
tls_privatekey = %(place)s/key.pem
smtputf8_advertise_hosts = *
chunking_advertise_hosts = *
accept_8bitmime = true
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
begin acl
rcpt:
  accept authenticated = *
         encrypted = *
  deny   message = log in first
begin routers
out:
  driver = manualroute
  transport = out
  route_list = * %(relay_host)s::%(relay_port)d
  self = send
begin transports
out:
  driver = smtp
  hosts_require_tls = *
  hosts_require_auth = *
  tls_verify_certificates = %(ca)s
  tls_verify_hosts = *
  tls_verify_cert_hostnames =
  hosts_try_chunking = *
  allow_localhost
begin retry
* * F,1h,1s
begin authenticators
plain_server:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and {{eq {$auth2}{%(user)s}}{eq {$auth3}{%(password)s}}}}
  server_set_id = $auth2
  server_advertise_condition = ${if def:tls_in_cipher}
plain_client:
  driver = plaintext
  public_name = PLAIN
  client_send = ^%(user)s^%(password)s
"""


def program():
    return next((path for path in PLACES if path and os.access(path, os.X_OK)), None)


class Exim:
    def __init__(self, chain, key, ca, user, password, relay):
        self.place = tempfile.mkdtemp(prefix="tram-exim-")
        os.chmod(self.place, 0o755)
        self.port = free_port()
        for name in ("spool", "log"):
            os.mkdir(os.path.join(self.place, name))
            os.chown(os.path.join(self.place, name), UID, UID)
        for path, name in ((chain, "chain.pem"), (key, "key.pem"), (ca, "ca.pem")):
            shutil.copy(path, os.path.join(self.place, name))
            os.chown(os.path.join(self.place, name), UID, UID)
        self.write("conf", CONFIG % {
            "program": program(), "place": self.place, "port": self.port, "relay_host": relay[0],
            "relay_port": relay[1],
            "ca": os.path.join(self.place, "ca.pem"), "user": user, "password": password})
        with open("/etc/passwd", encoding="utf-8") as f:
            self.write("passwd", f.read() + "Debian-exim:x:%d:%d::/nonexistent:/bin/false\n"
                       % (UID, UID))
        with open("/etc/group", encoding="utf-8") as f:
            self.write("group", f.read() + "Debian-exim:x:%d:\n" % UID)
        with open(os.path.join(self.place, "out"), "wb") as out:
            self.process = subprocess.Popen([
                "unshare", "-m", "sh", "-c", 'mount --bind "$0/passwd" /etc/passwd && mount --bind '
                                             '"$0/group" /etc/group '
                '&& exec "$1" -C "$0/conf" -bdf -q1s', self.place, program()],
                                            stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, start_new_session=True)
        try:
            wait_for(self.is_up, TIMEOUT, "Exim answers on port %d" % self.port)
        except AssertionError as fault:
            log = self.log()
            self.close()
            raise AssertionError("%s:\n%s" % (fault, log)) from None

    def write(self, name, text):
        with open(os.path.join(self.place, name), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(os.path.join(self.place, name), 0o644)

    def is_up(self):
        assert self.process.poll() is None, self.log()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
                return s.recv(3) == b"220"
        except OSError:
            return False

    def log(self):
        text = ""
        for name in ("out", "log/mainlog", "log/paniclog"):
            path = os.path.join(self.place, name)
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as f:
                    text += f.read()
        return text

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.place, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
