"""A clock for tramd that the test sets: fault/clock.c shifts what it shows, wall and monotonic
alike."""
import mmap
import os
import struct
import subprocess
import time

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault",
                      "clock.c")


class Clock:
    """What tramd's clocks show (clock.c)."""

    def __init__(self, place):
        library, path = str(place / "clock.so"), str(place / "clock")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-lpthread"],
                       check=True)
        with open(path, "wb") as f:
            f.write(bytes(8))
        with open(path, "r+b") as f:
            self.shared = mmap.mmap(f.fileno(), 8)
        self.env = {"LD_PRELOAD": library, "TRAM_CLOCK": path,
                    "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=1:exitcode=99"}
        self.ahead = 0.0
        self.began = self.now()

    def forward(self, seconds):
        """Timers that are due by then run once something wakes it: a question of tramctl does."""
        self.ahead += seconds
        struct.pack_into("@q", self.shared, 0, int(self.ahead * 1e9))

    def now(self):
        return time.time() + self.ahead

    def age(self):
        """Seconds since this life began."""
        return self.now() - self.began
