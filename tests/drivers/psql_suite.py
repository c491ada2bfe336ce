"""What users of psql do: psql_suite.py [STEP…]

What is told to it, and how it ends, stands in suite.py.
"""

import os
import random
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack

from suite import CLIENTS, PROGRAMS, ROUNDS, expect, lengths, main, step

PSQL = os.path.join(PROGRAMS, "psql")
END = "-- end of the answer --"


def run(script, *arguments, status=0, **variables):
    """What psql says to a script on its standard input; its errors belong to it."""
    ended = subprocess.run(
        [PSQL, "-X", "-q", "-A", "-t", "-v", "VERBOSITY=sqlstate", *arguments],
        input=script, text=True, timeout=110, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, **variables},
    )
    expect(ended.returncode, status, f"exit status after {ended.stdout[-2000:]!r}")
    return ended.stdout


class Psql:
    """A psql that is spoken to."""

    def __init__(self, *arguments, **variables):
        self.process = subprocess.Popen(
            [PSQL, "-X", "-q", "-A", "-t", "-v", "VERBOSITY=sqlstate", *arguments],
            text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()

    def say(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self):
        lines = []
        for line in self.process.stdout:
            if line.rstrip("\n") == END:
                return "\n".join(lines)
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"psql ended: {lines}")

    def ask(self, line):
        self.say(line)
        self.say(f"\\echo '{END}'")
        return self.hear()


def prepare():
    run("set client_min_messages to warning; drop schema if exists psql_suite cascade; create schema psql_suite;")


@step
def settings_stay_with_their_session():
    with ExitStack() as stack:
        opened = []
        for number in range(CLIENTS):
            named = {"PGAPPNAME": f"psql {number}", "PGTZ": "Asia/Tokyo", "PGOPTIONS": f"-c work_mem={1000 + number}kB"}
            session = stack.enter_context(Psql(**(named if number % 2 else {"PGAPPNAME": f"psql {number}"})))
            session.ask(f"set search_path to \"schema {number}\"; set app.tenant_id to 'tenant {number}';")
            opened.append((number, session))
        for _ in range(ROUNDS):
            random.shuffle(opened)
            for number, session in opened:
                found = session.ask(
                    "select current_setting('application_name'), current_setting('search_path'),"
                    " current_setting('app.tenant_id'), current_setting('timezone') = 'Asia/Tokyo';"
                )
                zone = "t" if number % 2 else "f"
                expect(found, f'psql {number}|"schema {number}"|tenant {number}|{zone}')
                if number % 2:
                    expect(session.ask("show work_mem;"), f"{1000 + number}kB")


@step
def transactions_of_psql():
    script = r"""
        create table psql_suite.steps (id int primary key);
        \set ON_ERROR_ROLLBACK on
        begin;
        insert into psql_suite.steps values (1);
        insert into psql_suite.steps values (1);
        insert into psql_suite.steps values (2);
        commit;
        \set ON_ERROR_ROLLBACK off
        begin;
        select 1/0;
        select 'not reached';
        rollback;
        \set AUTOCOMMIT off
        insert into psql_suite.steps values (3);
        rollback;
        select string_agg(id::text, ',') from psql_suite.steps;
        commit;
        \set AUTOCOMMIT on
        begin; insert into psql_suite.steps values (4); commit;
        insert into psql_suite.steps values (5)\; select 1/0;
        select string_agg(id::text, ',') from psql_suite.steps;
        \set FETCH_COUNT 100
        select count(*), sum(n) from (select generate_series(1, 5000) n) s;
        select n from generate_series(1, 1000) n where n % 250 = 0;
    """
    expect(
        run(script).splitlines(),
        ["ERROR:  23505", "ERROR:  22012", "ERROR:  25P02", "1,2", "ERROR:  22012", "1,2,4", "5000|12502500",
         "250", "500", "750", "1000"],
    )
    expect(run("select 1/0; select 1", "-1", "-v", "ON_ERROR_STOP=1", status=3), "ERROR:  22012\n")


@step
def deferred_begins():
    with Psql() as session, Psql() as other:
        other.ask("create table psql_suite.deferred (id int);")
        for begin in ("begin;", "BEGIN WORK;", "start transaction;", "begin isolation level repeatable read;"):
            session.ask(begin)
            # Others work meanwhile.
            expect(other.ask("select 1;"), "1")
            session.ask("insert into psql_suite.deferred values (1);")
            expect(other.ask("select count(*) from psql_suite.deferred;"), "0")
            expect(session.ask("rollback;"), "")
            session.ask(begin)
            expect(session.ask("commit;"), "")
        session.ask("begin;")
        expect(session.ask("begin;"), "WARNING:  25001")
        expect(session.ask("commit;"), "")
        expect(session.ask("commit;"), "WARNING:  25P01")
        session.ask("begin;")
        expect(session.ask("selec 1;"), "ERROR:  42601")
        expect(session.ask("select 1;"), "ERROR:  25P02")
        session.ask("rollback and chain;")
        session.ask("insert into psql_suite.deferred values (2);")
        session.ask("commit;")
        expect(other.ask("select id from psql_suite.deferred;"), "2")
        expect(session.ask("select now() = statement_timestamp();"), "t")


@step
def commands_of_psql():
    directory = tempfile.mkdtemp()
    path = os.path.join(directory, "lines")
    rows = lengths(2000, 100000)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{n}\tline {n}\n" for n in range(rows))
    script = rf"""
        create table psql_suite.copied (id int primary key, note text);
        \copy psql_suite.copied from '{path}'
        \copy psql_suite.copied from '{path}'
        \copy (select * from psql_suite.copied order by id) to '{path}.out'
        select count(*) from psql_suite.copied;
        copy psql_suite.copied from stdin;
-1	here
\.
        select note from psql_suite.copied where id = -1 \gset
        \echo :note
        select format('create table psql_suite.made_%s (id int)', n) from generate_series(1, 3) n \gexec
        \dt psql_suite.made*
        select 'a' as v, 'b' as h, 1 as n \crosstabview
        \lo_import '{path}' 'a comment'
        select (:LASTOID > 0)::text;
        \lo_unlink :LASTOID
        select 1 as one, 'x'::text as two \gdesc
        \errverbose
        prepare mine (int) as select $1 * 2;
        execute mine (21);
        explain (costs off) execute mine (21);
        deallocate mine;
        execute mine (21);
        declare too_late cursor for select 1;
        begin; declare held cursor with hold for select generate_series(1, 10); commit;
        fetch 2 from held;
        move 5 from held;
        fetch next from held;
        close held;

    """
    found = run(script)
    wanted = f"""ERROR:  23505
{rows}
here
psql_suite|made_1|table|postgres
psql_suite|made_2|table|postgres
psql_suite|made_3|table|postgres
a|1
true
one|integer
two|text
"""
    expect(found[: len(wanted)], wanted)
    rest = found[len(wanted):].splitlines()
    expect([line for line in rest if line in ("42", "Result", "1", "2", "8")], ["42", "Result", "1", "2", "8"], found)
    expect([line[:13] for line in rest if line.startswith("ERROR")][:3], ["ERROR:  23505", "ERROR:  26000", "ERROR:  25P01"])
    with open(path, "rb") as one, open(f"{path}.out", "rb") as other:
        expect(one.read() == other.read(), True, "what was copied out")


@step
def interrupted_statements():
    with Psql() as other:
        for _ in range(lengths(2, 10)):
            with Psql() as session:
                session.say("select pg_sleep(60);")
                sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep';"
                while other.ask(sleeping) != "1":
                    time.sleep(0.01)
                session.process.send_signal(signal.SIGINT)
                # It stops its script there, since nobody types it.
                expect(session.process.stdout.read(), "Cancel request sent\nERROR:  57014\n")
            expect(other.ask("select 2;"), "2")


@step
def other_databases_and_roles():
    script = r"""
        create role psql_suite_role login password 'its own';
        create database psql_suite_db owner psql_suite_role;
        \c "dbname=psql_suite_db user=psql_suite_role password='its own'"
        select current_user, current_database();
        create table mine (id int);
        \c
        select count(*) from mine;
        \c "dbname=postgres user=postgres password='%s'"
        select current_user, current_database();
        drop database psql_suite_db;
        drop role psql_suite_role;
        set role pg_monitor;
        select current_user, session_user;
        reset role;
    """ % os.environ["PGPASSWORD"].replace("'", "\\'")
    wanted = "psql_suite_role|psql_suite_db\n0\npostgres|postgres\npg_monitor|postgres\n"
    expect(run(script), wanted)


@step
def notifications_and_temporary_tables():
    with Psql() as session, Psql() as other:
        session.ask("listen psql_news;")
        other.ask("notify psql_news, 'hello';")
        found = session.ask("select 1;")
        expect(found.splitlines()[0], "1")
        expect('Asynchronous notification "psql_news" with payload "hello" received' in found, True, found)
        session.ask("unlisten *;")
        for number, each in enumerate([session, other]):
            each.ask(f"create temp table private as select {number} as number;")
        for _ in range(ROUNDS):
            for number, each in enumerate([session, other]):
                expect(each.ask("select number from private;"), str(number))
        session.ask("discard all;")
        expect(session.ask("select number from private;"), "ERROR:  42P01")
        expect(other.ask("drop table private;"), "")


@step
def many_short_sessions():
    running = [
        subprocess.Popen([PSQL, "-X", "-A", "-t", "-c", f"select {number}"], text=True, stdout=subprocess.PIPE)
        for number in range(lengths(12, 60))
    ]
    for number, process in enumerate(running):
        said, _ = process.communicate(timeout=100)
        expect((process.returncode, said), (0, f"{number}\n"))


if __name__ == "__main__":
    main(prepare)
