"""A plugin of pytest: writes one line per test, its outcome and its name, to the file that OUTCOMES names."""

import os

FILE = open(os.environ["OUTCOMES"], "w", encoding="utf-8")


def pytest_runtest_logreport(report):
    """The test itself, and what failed or was skipped before or after it."""
    if report.when == "call" or report.outcome != "passed":
        print(report.outcome, report.nodeid, sep="\t", file=FILE, flush=True)


def pytest_unconfigure():
    """At the end of all."""
    FILE.close()
