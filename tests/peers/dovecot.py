"""Dovecot as the keeper of users: its auth service alone, on a Unix socket (protocol 1.2).

    with Dovecot({"anna": "pw"}) as dovecot:
        … dovecot.socket …

It lives in a directory of its own until stop(). Standard library only. Nothing sleeps: it is ready
when the socket has said its handshake. log() is what it logged, with each failed login.
"""
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TIMEOUT = float(os.environ.get("TRAM_TEST_TIMEOUT", "60"))

CONFIG = """
base_dir = %(place)s/run
state_dir = %(place)s/run
log_path = %(place)s/dovecot.log
protocols =
ssl = no
disable_plaintext_auth = no
auth_mechanisms = %(mechanisms)s
auth_verbose = yes
auth_failure_delay = 0 secs
default_internal_user = %(internal)s
default_internal_group = %(group)s
default_login_user = %(login)s
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%%u %(place)s/users
}
userdb {
  driver = static
  args = uid=%(uid)d gid=%(gid)d home=%(place)s/mail
}
service auth {
  user = %(me)s
  chroot =
  unix_listener auth-client {
    mode = 0666
  }
}
service auth-worker {
  user = %(me)s
}
service anvil {
  chroot =
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
%(extra)s
"""


class Dovecot:
    def __init__(self, users, mechanisms="plain login scram-sha-256", extra=""):
        """users: name → password, or → a whole field of a passwd-file ("{SCRAM-SHA-256}…"); extra:
        more configuration."""
        self.place = tempfile.mkdtemp(prefix="tram-dovecot-")
        os.chmod(self.place, 0o755)
        me = pwd.getpwuid(os.geteuid())
        root = me.pw_uid == 0
        with open(os.path.join(self.place, "users"), "w", encoding="utf-8") as f:
            f.writelines("%s:%s::::::\n" % user for user in users.items())
        with open(os.path.join(self.place, "dovecot.conf"), "w", encoding="utf-8") as f:
            f.write(CONFIG % {"place": self.place, "mechanisms": mechanisms, "extra": extra,
                              "me": me.pw_name, "internal": "dovecot" if root else me.pw_name,
                              "group": "dovecot" if root else str(me.pw_gid),
                              "login": "dovenull" if root else me.pw_name,
                              "uid": 65534 if root else me.pw_uid,
                              "gid": 65534 if root else me.pw_gid})
        self.socket = os.path.join(self.place, "run", "auth-client")
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen([shutil.which("dovecot") or "/usr/sbin/dovecot", "-F", "-c",
                                         os.path.join(self.place, "dovecot.conf")],
                                        start_new_session=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT
        while not self.ready():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError("dovecot does not start:\n" + self.log())
            time.sleep(0.02)

    def ready(self):
        """The handshake came whole."""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(TIMEOUT)
                s.connect(self.socket)
                s.sendall(b"VERSION\t1\t2\nCPID\t%d\n" % (os.getpid() + (1 << 30)))
                heard = b""
                while b"\nDONE\n" not in heard:
                    more = s.recv(4096)
                    if not more:
                        return False
                    heard += more
                return True
        except OSError:
            return False

    def log(self):
        try:
            with open(os.path.join(self.place, "dovecot.log"), encoding="utf-8",
                      errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def halt(self):
        """Ends it; start() makes it anew."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def stop(self):
        self.halt()
        shutil.rmtree(self.place, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()
