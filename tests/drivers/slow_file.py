"""Keeps whoever opens a file waiting, as a disk does that does not answer: by a lease that is not given up.

Says "held", and "asked" once somebody waits; ends with its standard input.
"""

import fcntl
import os
import signal
import sys


def say(text):
    print(text, file=sys.stderr, flush=True)


signal.signal(signal.SIGIO, lambda *_: say("asked"))
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
say("held")
sys.stdin.read()
