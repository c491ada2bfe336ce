"""What users of pg8000 do, natively and through DB-API: pg8000_suite.py [STEP…]

What is told to it, and how it ends, stands in suite.py.
"""

import io
import random
import threading
from contextlib import ExitStack, contextmanager

import pg8000
import pg8000.dbapi
import pg8000.native

from suite import (
    ADDRESS, CLIENTS, DATABASE, MODE, PASSWORD, PORT, ROUNDS, USER, expect, lengths, main, raises, step, tls
)

Error = pg8000.native.DatabaseError


def place(**named):
    return {
        "host": ADDRESS, "port": PORT, "user": USER, "password": PASSWORD, "database": DATABASE,
        "ssl_context": tls(), **named,
    }


@contextmanager
def connected(**named):
    connection = pg8000.native.Connection(**place(**named))
    try:
        yield connection
    finally:
        connection.close()


def clients(stack, count=CLIENTS):
    return [stack.enter_context(connected()) for _ in range(count)]


def one(connection, sql, **named):
    return connection.run(sql, **named)[0][0]


def prepare():
    with connected() as connection:
        connection.run("drop schema if exists pg8000_suite cascade")
        connection.run("create schema pg8000_suite")


@step
def settings_stay_with_their_connection():
    with ExitStack() as stack:
        opened = []
        for number in range(CLIENTS):
            name = f"client {number}"
            connection = stack.enter_context(
                connected(application_name=name, startup_params={"statement_timeout": f"{100 + number}s"})
            )
            connection.run(f'set search_path to "schema {number}", public')
            connection.run("select set_config('app.tenant_id', :tenant, false)", tenant=f"tenant {number}")
            opened.append((number, connection))
        for _ in range(ROUNDS):
            random.shuffle(opened)
            for number, connection in opened:
                found = connection.run(
                    "select current_setting('application_name'), current_setting('statement_timeout'),"
                    " current_setting('search_path'), current_setting('app.tenant_id')"
                )[0]
                wanted = [f"client {number}", f"{100 + number}s", f'"schema {number}", public', f"tenant {number}"]
                expect(found, wanted, f"settings of {number}")
                expect(connection.parameter_statuses["application_name"], f"client {number}")


@step
def the_unnamed_statement_and_prepared_ones():
    with ExitStack() as stack:
        opened = [
            (number, connection, connection.prepare(f"select cast(:n as integer) * {number}"))
            for number, connection in enumerate(clients(stack))
        ]
        for turn in range(ROUNDS):
            random.shuffle(opened)
            for number, connection, statement in opened:
                connection.run("start transaction")
                expect(statement.run(n=turn), [[turn * number]])
                expect(one(connection, "select cast(:a as text) || :b", a="x", b="y"), "xy")
                connection.run("commit")
                expect(statement.run(n=turn + 1), [[(turn + 1) * number]])
        for number, connection, statement in opened:
            statement.close()
            if MODE != "transaction":
                expect(one(connection, "select count(*) from pg_prepared_statements where name <> ''"), 0)


@step
def transactions():
    with connected() as connection, connected() as other:
        connection.run("create table pg8000_suite.steps (id int primary key)")
        connection.run("start transaction")
        connection.run("insert into pg8000_suite.steps values (1)")
        connection.run("savepoint here")
        with raises(Error, "23505"):
            connection.run("insert into pg8000_suite.steps values (:id)", id=1)
        with raises(Error, "25P02"):
            connection.run("select 1")
        connection.run("rollback to here")
        connection.run("insert into pg8000_suite.steps values (2)")
        expect(one(other, "select count(*) from pg8000_suite.steps"), 0)
        connection.run("commit")
        expect(other.run("select id from pg8000_suite.steps order by id"), [[1], [2]])
        for _ in range(3):
            with raises(Error, "22012"):
                connection.run("select 1 / :zero", zero=0)
            expect(one(connection, "select 1"), 1)


@step
def many_clients_transfer_and_lose_nothing():
    with connected() as owner:
        owner.run("create table pg8000_suite.accounts as select n as id, 100 as balance from generate_series(0, 9) n")
        errors = []

        def transfers(number):
            try:
                draw = random.Random(number)
                with connected() as connection:
                    for _ in range(ROUNDS * 2):
                        source, target = sorted(draw.sample(range(10), 2))
                        connection.run("begin")
                        update = "update pg8000_suite.accounts set balance = balance + :amount where id = :id"
                        connection.run(update, amount=-number, id=source)
                        connection.run(update, amount=number, id=target)
                        connection.run("commit" if draw.random() < 0.8 else "rollback")
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=transfers, args=(number,), daemon=True) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        expect(one(owner, "select sum(balance) from pg8000_suite.accounts"), 1000)


@step
def copy_in_and_out():
    rows = lengths(2000, 40000)
    with connected() as connection, connected() as other:
        connection.run("create table pg8000_suite.copied (id int primary key, note text)")
        lines = "".join(f"{number}\tsome text\n" for number in range(rows))
        connection.run("copy pg8000_suite.copied from stdin", stream=io.StringIO(lines))
        out = io.BytesIO()
        other.run("copy (select * from pg8000_suite.copied order by id) to stdout", stream=out)
        expect(out.getvalue().decode() == lines, True, "what was copied out")
        with raises(Error, "22P02"):
            connection.run("copy pg8000_suite.copied from stdin", stream=io.StringIO("no number\tx\n" + lines))
        expect(one(connection, "select count(*) from pg8000_suite.copied"), rows)


@step
def notifications():
    with connected() as listener, connected() as sender:
        listener.run("listen pg8000_news")
        for number in range(3):
            sender.run("select pg_notify('pg8000_news', :payload)", payload=str(number))
        while len(listener.notifications) < 3:
            listener.run("select 1")
        heard = list(listener.notifications)
        expect([(channel, payload) for _, channel, payload in heard], [("pg8000_news", str(n)) for n in range(3)])
        if MODE != "transaction":
            expect(heard[0][0], one(sender, "select pg_backend_pid()"))
        listener.run("unlisten *")
        expect(len(sender.notifications), 0)


@step
def temporary_tables_and_locks():
    with connected() as first, connected() as second:
        for number, connection in enumerate([first, second]):
            connection.run(f"create temp table private as select {number} as number")
        for _ in range(ROUNDS):
            for number, connection in enumerate([first, second]):
                expect(one(connection, "select number from private"), number)
        for connection in (first, second):
            connection.run("drop table private")
        first.run("select pg_advisory_lock(8000)")
        expect(one(second, "select pg_try_advisory_lock(8000)"), False)
        first.run("select pg_advisory_unlock(8000)")


@step
def the_database_api():
    with ExitStack() as stack:
        opened = []
        for number in range(4):
            connection = pg8000.dbapi.connect(**place())
            stack.callback(connection.close)
            cursor = connection.cursor()
            cursor.execute(f"create temp table brief_{number} (id int) on commit drop")
            cursor.executemany(f"insert into brief_{number} values (%s)", [(n,) for n in range(50)])
            cursor.execute(f"select count(*) from brief_{number}")
            expect(tuple(cursor.fetchone()), (50,))
            connection.rollback()
            opened.append((connection, cursor))
        for connection, cursor in opened:
            cursor.execute("select generate_series(1, %s)", (100,))
            expect(sum(row[0] for row in cursor.fetchmany(10)), 55)
            expect(len(cursor.fetchall()), 90)
            connection.commit()
            connection.autocommit = True
            cursor.execute("vacuum pg_catalog.pg_class")
            connection.autocommit = False
        connection = opened[0][0]
        xid = connection.xid(1, "pg8000 suite", "branch")
        connection.tpc_begin(xid)
        connection.cursor().execute("create table pg8000_suite.two_phases (id int)")
        connection.tpc_prepare()
        expect(xid[1] in str(connection.tpc_recover()), True)
        connection.tpc_commit(xid)


@step
def types_and_large_values():
    text = "äöü€" * lengths(50_000, 1_000_000)
    with connected() as connection, connected() as other:
        other.run("create type pg8000_suite.mood as enum ('sad', 'ok')")
        expect(one(connection, "select 'ok'::pg8000_suite.mood"), "ok")
        expect(one(connection, "select cast(:text as text)", text=text), text)
        content = bytes(range(256)) * lengths(200, 20_000)
        expect(one(connection, "select cast(:data as bytea)", data=content), content)
        row = connection.run("select 1.50::numeric, '{1,2,null}'::int[], '[1,5)'::int4range, '{\"a\": 1}'::jsonb")[0]
        expect((str(row[0]), row[1], row[2].lower, row[3]), ("1.50", [1, 2, None], 1, {"a": 1}))
        connection.run("do $$ begin raise notice 'heard'; end $$")
        expect(connection.notices[-1][b"M"], b"heard")
        expect(connection.run("select 1; select 2"), [[1], [2]])


@step
def changed_tables_invalidate_plans():
    with connected() as connection, connected() as other:
        other.run("create table pg8000_suite.changing as select 1 as id")
        statement = connection.prepare("select * from pg8000_suite.changing")
        expect(statement.run(), [[1]])
        other.run("alter table pg8000_suite.changing add column extra int default 7")
        with raises(Error, "0A000"):
            statement.run()
        again = connection.prepare("select * from pg8000_suite.changing")
        expect(again.run(), [[1, 7]])


@step
def roles_and_databases_of_its_own():
    with connected() as owner:
        owner.run("drop database if exists pg8000_suite_db")
        owner.run("drop role if exists pg8000_suite_role")
        owner.run("create role pg8000_suite_role login password 'its own'")
        owner.run("create database pg8000_suite_db owner pg8000_suite_role")
        own = {"user": "pg8000_suite_role", "password": "its own", "database": "pg8000_suite_db"}
        with connected(**own) as connection:
            found = connection.run("select current_user::text, current_database()::text")
            expect(found, [["pg8000_suite_role", "pg8000_suite_db"]])
        owner.run("drop database pg8000_suite_db with (force)")
        owner.run("drop role pg8000_suite_role")


if __name__ == "__main__":
    main(prepare)
