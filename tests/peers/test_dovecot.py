"""The unit test of Dovecot's auth protocol again, against a real one."""
import os
import subprocess

import harness
from dovecot import Dovecot


def test_real_backend():
    with Dovecot({"anna": "pw"}) as dovecot:
        done = subprocess.run([os.path.join(harness.BUILD, "tests", "test_dovecot")],
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=harness.TIMEOUT, check=False,
                              env=dict(os.environ, TRAM_DOVECOT_AUTH=dovecot.socket))
        said = done.stdout.decode()
        assert done.returncode == 0, said + dovecot.log()
        assert "SKIPPED" not in said
        assert "anna,192.0.2.7" in dovecot.log(), "the address was not passed on: " + dovecot.log()
