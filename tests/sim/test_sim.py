"""Days of mail in seconds, on a clock and with hosts that are made up (tests/sim/sim.h): fixed
seeds, and some by chance.

What fails says how to have the same run again, with any build: it depends on the seed alone.
SIM_SEEDS=N runs N of each scenario by chance as well."""
import os
import random
import subprocess

import pytest

SIM = os.path.join(os.environ.get("TRAM_BUILD", "build"), "tests", "sim", "sim")
SEEDS = int(os.environ.get("SIM_SEEDS", "0"))
SCENARIOS = {
    "steady": ["-m", "2000", "-h", "10000"],
    "dead": ["-m", "1200", "-h", "4000"],
    "lives": ["-m", "800"],
    "tight": ["-m", "1500"],
    "operator": ["-m", "800"],
    "clock": ["-m", "1500"],
    "providers": ["-m", "3000"],
    "storms": ["-m", "4000"],
    "lone": ["-m", "600"],
    "busy": ["-m", "1500"],
    "shapes": ["-m", "2500", "-h", "300"],
    "fair": ["-m", "6000", "-h", "20"],
    "wide": ["-m", "3000", "-h", "2500"],
    "chaos": ["-m", "1200"],
    "rules": ["-m", "700"],
    "warm": ["-m", "800"],
    "wishes": ["-m", "800"],
    "market": ["-m", "700"],
}
# What has once gone wrong: a reload between a commit and its arrival; a later edit of a message that
# went before an earlier one; a row left behind by an edit; going along in a transaction is no
# overtaking, nor a long queue before a limit by the hour a forgotten one; a domain that was
# suspended got mail with another one's; who was on hold at the time by which it was to be there was
# not told of; a lane stayed until its only message, which was removed, would have gone.
OLD = [("operator", 1, "-m", "3000"), ("operator", 2, "-m", "1500"), ("operator", 8, "-m", "3000"),
       ("busy", 14, "-m", "1500"),
       ("shapes", 2037762828, "-m", "2500", "-h", "300"), ("rules", 13, "-m", "700"),
       ("market", 8, "-m", "700"), ("market", 2, "-m", "700")]


def run(scenario, seed, *options):
    done = subprocess.run([SIM, "-c", scenario, "-s", str(seed), *options], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=300, check=False)
    out = done.stdout.decode(errors="replace")
    print(out)
    assert done.returncode == 0, out
    return out


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_fixed_seed(scenario):
    run(scenario, 1, *SCENARIOS[scenario])


@pytest.mark.parametrize("old", OLD, ids=lambda old: "-".join(map(str, old[:2])))
def test_what_went_wrong_before(old):
    run(*old)


@pytest.mark.parametrize("scenario", SCENARIOS if SEEDS > 0 else [])
def test_seeds_by_chance(scenario):
    for _ in range(SEEDS):
        run(scenario, random.SystemRandom().getrandbits(32), *SCENARIOS[scenario])


def test_a_seed_gives_the_same_run_again():
    first, second = (summary(run("dead", 7, "-m", "500", "-h", "100")) for _ in range(2))
    assert first == second


def summary(out):
    """The line of figures, but for the CPU time at its end; a sanitizer may print before it."""
    return next(line for line in out.splitlines() if line.startswith("dead ")).rsplit(",", 1)[0]
