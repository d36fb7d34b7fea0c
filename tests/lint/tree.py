"""What the checks of this folder share: the project's files, C without comments, and how faults are
told."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOKENS = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)


def files(*endings):
    """Paths from the root of all files of the project with these endings, those not committed yet
    as well."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others",
                             "--exclude-standard"],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if listed.returncode == 0:
        paths = listed.stdout.decode().split("\0")
    else:				# no git here: a source archive
        paths = [os.path.relpath(os.path.join(folder, name), ROOT)
                 for folder, _, names in os.walk(ROOT) for name in names]
        paths = [p for p in paths if not p.startswith("build") and "/." not in "/" + p]
    return sorted(p for p in paths if p.endswith(endings) and os.path.isfile(os.path.join(ROOT, p)))


def text(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def code(path, keep_strings=False):
    """C source with its comments (and the insides of its strings) blanked; line numbers stay."""
    def blank(found):
        token = found[0]
        if token[0] in "\"'":
            return token if keep_strings else token[0] + " " * (len(token) - 2) + token[0]
        return re.sub(r"[^\n]", " ", token)
    return TOKENS.sub(blank, text(path))


def line_of(source, at):
    return source.count("\n", 0, at) + 1


def folders():
    """The folders in the order of dependency: the subdir() lines of meson.build."""
    return re.findall(r"(?m)^subdir\('([^']+)'\)", text("meson.build"))


def folder_of(path, known):
    """The folder whose library a file belongs to, or None (tests/unit/x.c → tests)."""
    fitting = [f for f in known if path.startswith(f + "/")]
    return max(fitting, key=len) if fitting else None


def finish(faults, what):
    """Prints the faults and ends the check: 0 if there were none."""
    for fault in faults:
        print(fault)
    if faults:
        print("%d faults: %s" % (len(faults), what))
    sys.exit(1 if faults else 0)
