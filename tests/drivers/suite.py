"""What the suites of this folder share: where to connect to, the register of steps, how differences are told.

A suite is a list of steps; each does what users of a driver do and checks every answer. A step that ends with an
exception is a difference from Postgres without pgwake. In short form the first one ends the suite; in long form the
other steps still run. The last line is "all well" or how many steps differ, and then it ends with 1.

Told by environment variables: libpq's own, and SUITE_MODE (direct, session or transaction), SUITE_SESSIONS (server
sessions that there are), SUITE_LENGTH (short or long), SUITE_PROGRAMS (the folder of psql).
"""

import asyncio
import faulthandler
import inspect
import os
import signal
import ssl
import sys
import time
import traceback

MODE = os.environ["SUITE_MODE"]
SESSIONS = int(os.environ["SUITE_SESSIONS"])
LONG = os.environ.get("SUITE_LENGTH", "short") == "long"
PROGRAMS = os.environ["SUITE_PROGRAMS"]

HOST = os.environ["PGHOST"]
ADDRESS = os.environ["PGHOSTADDR"]
PORT = int(os.environ["PGPORT"])
USER = os.environ["PGUSER"]
PASSWORD = os.environ["PGPASSWORD"]
DATABASE = os.environ["PGDATABASE"]

# More clients than the fewest sessions that a suite runs with.
CLIENTS = 12 if LONG else 6
ROUNDS = 20 if LONG else 4
# Seconds; a step that takes longer hangs.
STEP_LIMIT = 120

STEPS = []


def step(function):
    """Registers one step, a function or a coroutine function without parameters."""
    STEPS.append(function)
    return function


def lengths(short, long):
    """The one that belongs to this run."""
    return long if LONG else short


def expect(found, wanted, what=""):
    """Ends the step where the two are not equal."""
    if found != wanted:
        raise AssertionError(f"{what}: found {found!r}, wanted {wanted!r}")


class raises:
    """A block that must end with an error, of this type and with this SQLSTATE."""

    def __init__(self, kind, sqlstate=None):
        self.kind = kind
        self.sqlstate = sqlstate
        self.error = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            raise AssertionError(f"no {self.kind.__name__}: the error got lost")
        if not isinstance(error, self.kind):
            return False
        self.error = error
        if self.sqlstate is not None:
            expect(sqlstate(error), self.sqlstate, f"SQLSTATE of {error!r}")
        return True


def sqlstate(error):
    """The SQLSTATE of an error of any driver here."""
    for seen in (error, getattr(error, "orig", None), getattr(error, "__cause__", None)):
        found = getattr(seen, "sqlstate", None)
        if found is not None:
            return found
        arguments = getattr(seen, "args", ())
        if arguments and isinstance(arguments[0], dict):
            return arguments[0].get("C")
    return None


class Named(ssl.SSLContext):
    """Verifies and sends the server's name though the connection goes by address: the name resolves nowhere."""

    def wrap_socket(self, *arguments, **named):
        named["server_hostname"] = HOST
        return super().wrap_socket(*arguments, **named)

    def wrap_bio(self, *arguments, **named):
        named["server_hostname"] = HOST
        return super().wrap_bio(*arguments, **named)


def tls():
    """A context for drivers that speak TLS through Python's ssl."""
    context = Named(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(os.environ["PGSSLROOTCERT"])
    return context


def hangs(*_):
    raise TimeoutError(f"the step hangs: not done after {STEP_LIMIT} s")


def run_one(function):
    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(STEP_LIMIT)
    # Threads that hang are shown, too.
    faulthandler.dump_traceback_later(STEP_LIMIT + 10, exit=True)
    try:
        if inspect.iscoroutinefunction(function):
            asyncio.run(function())
        else:
            function()
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()


def main(prepare=None):
    """Runs `prepare`, then all steps, or those that are named by the arguments."""
    if prepare is not None:
        run_one(prepare)
    differences = 0
    for function in STEPS:
        name = function.__name__
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        began = time.monotonic()
        try:
            run_one(function)
        except Exception as error:
            differences += 1
            print(f"DIFFERS {name}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc(limit=-4)
            if not LONG:
                break
        else:
            print(f"ok {name} {time.monotonic() - began:.1f} s", flush=True)
    print("all well" if differences == 0 else f"{differences} steps differ", flush=True)
    sys.exit(1 if differences else 0)
