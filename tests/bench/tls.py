"""TLS between two servers, and full handshakes beside OpenSSL's own server: tls-chain,
handshakes."""
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import harness
from measure import MANY, POSTFIX, Group, Sink, greeted, one_run, tram


def pair_of_trams(undo, place, sink, secure, chain, key, certificate):
    for name in "AB":
        os.makedirs(os.path.join(place, name))
    last = tram(os.path.join(place, "B"), ("127.0.0.1", sink.port), limits=MANY,
                extra=certificate("mail", [(chain, key)]) if secure else "")
    last.start()
    undo.callback(last.stop)
    first = tram(os.path.join(place, "A"), None, limits=MANY, routes={
        "*": {"deliver": "smtp:[127.0.0.1]:%d" % last.port,
              "tls": "required" if secure else "off"}})
    first.start()
    undo.callback(first.stop)
    return first.port


def pair_of_postfixes(undo, sink, secure, chain, key):
    how = {"smtpd_tls_security_level": "encrypt", "smtpd_tls_cert_file": chain,
           "smtpd_tls_key_file": key} if secure else {}
    last = harness.Postfix("[127.0.0.1]:%d" % sink.port, myhostname="last.test", **POSTFIX, **how)
    undo.callback(last.close)
    how = {"smtp_tls_security_level": "encrypt" if secure else "none",
           "smtp_tls_connection_reuse": "yes" if secure else "no"}
    first = harness.Postfix("[127.0.0.1]:%d" % last.port, **POSTFIX, **how)
    undo.callback(first.close)
    return first.port


def chain_scenario(options):
    from certificates import Authority, certificate
    many, few, results = max(50, int(10000 * options.scale)), max(50, int(2000 * options.scale)), {}
    with contextlib.ExitStack() as undo:
        sink = Sink()
        undo.callback(sink.close)
        place = undo.enter_context(tempfile.TemporaryDirectory(prefix="tram-bench-",
                                                               dir=options.place))
        chain, key = Authority(place).sign("mail", ["mail.test"])
        for who in ("tram", "postfix"):
            for secure in (False, True):
                group = Group("%s-%d" % (who, secure))
                undo.callback(group.close)
                with group:
                    port = pair_of_trams(undo, os.path.join(place, str(secure)), sink, secure,
                                         chain, key, certificate) \
                        if who == "tram" else pair_of_postfixes(undo, sink, secure, chain, key)
                results[who, secure] = group, port, []
        # each in turn, so that what else the machine does meets all of them
        for _ in range(options.rounds):
            for (who, _), (group, port, runs) in results.items():
                runs.append(one_run(port, group, sink, many if who == "tram" else few, 50, 4096,
                                    True))
    relayed = {which: statistics.median(run[1] for run in runs)
               for which, (_, _, runs) in results.items()}
    print("\n**tls-chain**: source → A → B → sink, 4096 octets, 50 sessions; medians of %d rounds\n" % options.rounds)
    print("| servers | plain, relayed/s | A → TLS → B, relayed/s | of plain | CPU µs per message, "
          "plain, TLS |")
    print("|---|---:|---:|---:|---:|")
    for who in ("tram", "postfix"):
        cpu = [[run[2] for run in results[who, secure][2]] for secure in (False, True)]
        print("| two %s | %.0f | %.0f | %.2f | %s |" % (
            who, relayed[who, False], relayed[who, True], relayed[who, True] / relayed[who, False],
            ", ".join("%.0f" % statistics.median(c) if c[0] is not None else "–" for c in cpu)))
    sys.stdout.flush()


class WrappedPostfix(harness.Postfix):
    def is_up(self):
        return greeted(self.port)


def handshakes(port, group, seconds):
    """Full handshakes per second of four clients, and the server's CPU µs for each."""
    cpu = group.cpu()
    clients = [subprocess.Popen(["openssl", "s_time", "-connect", "127.0.0.1:%d" % port, "-new",
                                 "-time", str(seconds)],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL)
               for _ in range(4)]
    said = [client.communicate()[0].decode() for client in clients]
    done = sum(int(re.search(r"(\d+) connections in \d+ real seconds", text)[1]) for text in said)
    time.sleep(0.2)
    return done / seconds, (group.cpu() - cpu) * 1e6 / done if cpu is not None else None


def handshake_scenario(options):
    from certificates import Authority, certificate
    seconds, results = max(1, int(5 * options.scale)), {"openssl s_server": [], "tram": [],
                                                        "postfix": []}
    with contextlib.ExitStack() as undo:
        place = undo.enter_context(tempfile.TemporaryDirectory(prefix="tram-bench-",
                                                               dir=options.place))
        chain, key = Authority(place).sign("mail", ["mail.test"])
        groups = {who: Group(who.split()[0]) for who in results}
        for group in groups.values():
            undo.callback(group.close)
        plain = harness.free_port()
        with groups["openssl s_server"]:
            openssl = subprocess.Popen(["openssl", "s_server", "-accept", "127.0.0.1:%d" % plain,
                                        "-cert", chain, "-key", key,
                                        "-rev"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        undo.callback(openssl.wait)
        undo.callback(openssl.kill)
        with groups["tram"]:
            daemon = tram(place, ("127.0.0.1", 9), listener={"tls-on-connect": "yes"},
                          extra=certificate("mail", [(chain, key)]))
            daemon.start(ready=False)
        undo.callback(daemon.stop)
        with groups["postfix"]:
            postfix = WrappedPostfix("[127.0.0.1]:9", **POSTFIX, smtpd_tls_security_level="encrypt",
                                     smtpd_tls_wrappermode="yes", smtpd_tls_cert_file=chain,
                                     smtpd_tls_key_file=key)
        undo.callback(postfix.close)
        ports = {"openssl s_server": plain, "tram": daemon.port, "postfix": postfix.port}
        for port in ports.values():
            harness.wait_for(lambda port=port: greeted(port), 10, "a server on port %d" % port)
        for _ in range(options.rounds):
            for who, port in ports.items():
                results[who].append(handshakes(port, groups[who], seconds))
    median = {who: [statistics.median(r[i] for r in runs) if runs[0][i] is not None else None
                    for i in range(2)]
              for who, runs in results.items()}
    print("\n**handshakes**: full, %d s with four clients (openssl s_time -new); medians of %d rounds\n" % (
        seconds, options.rounds))
    print("| server | handshakes/s | CPU µs each | × s_server's |")
    print("|---|---:|---:|---:|")
    for who, (rate, cpu) in median.items():
        print("| %s | %.0f | %s | %s |" % (who, rate, "%.0f" % cpu if cpu else "–",
                                           "%.2f" % (cpu / median["openssl s_server"][1])
                                           if cpu else "–"))
    sys.stdout.flush()


SCENARIOS = {"tls-chain": chain_scenario, "handshakes": handshake_scenario}
