"""Settings for Django's own tests, and a runner of them that writes one line per test, its outcome and its name, to the
file that OUTCOMES names. BINDING=yes: values are bound by the server, and connections come from psycopg's pool."""

import os
import unittest

from django.test.runner import DiscoverRunner

OUTCOMES = open(os.environ["OUTCOMES"], "w", encoding="utf-8")
BINDING = {"server_side_binding": True, "pool": {"min_size": 0, "max_size": 10}}


def database(name):
    """One that the tests make for themselves; everything else about it comes from libpq's variables."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "NAME": "postgres",
        "OPTIONS": BINDING if os.environ.get("BINDING") else {},
        "TEST": {"NAME": name},
    }


DATABASES = {"default": database("django_default"), "other": database("django_other")}
SECRET_KEY = "none"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "django_settings.Runner"


class Result(unittest.TextTestResult):
    """Writes down what becomes of each test, and of each part of one that fails."""

    def addSuccess(self, test):
        super().addSuccess(test)
        self.wrote("passed", test)

    def addError(self, test, err):
        super().addError(test, err)
        self.wrote("failed", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.wrote("failed", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.wrote("skipped", test)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.wrote("passed", test)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.wrote("failed", test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.wrote("failed", subtest)

    @staticmethod
    def wrote(outcome, test):
        # A part is named by its values, which may fill lines.
        name = " ".join(test.id().split())
        print(outcome, name, sep="\t", file=OUTCOMES, flush=True)


class Runner(DiscoverRunner):
    """Django's own, with that result."""

    def get_resultclass(self):
        return Result
