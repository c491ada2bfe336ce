"""What users of psycopg 3 do on connections of their own: psycopg_suite.py [STEP…]

Its pools are in psycopg_pool_suite.py; what is told to it, and how it ends, in suite.py.
"""

import asyncio
import random
import threading
import time
from contextlib import ExitStack

import psycopg
from psycopg import pq, sql
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Jsonb

from suite import CLIENTS, MODE, ROUNDS, expect, lengths, main, raises, step


def connect(**named):
    named.setdefault("autocommit", True)
    return psycopg.connect("", **named)


def one(connection, query, *arguments, **named):
    """The first value of the first row."""
    return connection.execute(query, arguments or None, **named).fetchone()[0]


def clients(stack, count=CLIENTS, **named):
    """Several connections that stay open until the stack ends."""
    return [stack.enter_context(connect(**named)) for _ in range(count)]


def everybody(count, work):
    """Runs `work(number)` in as many threads; ends with the first error of any of them."""
    errors = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def prepare():
    with connect() as connection:
        connection.execute("drop schema if exists psycopg_suite cascade")
        connection.execute("create schema psycopg_suite")


@step
def settings_stay_with_their_connection():
    with ExitStack() as stack:
        opened = []
        for number in range(CLIENTS):
            connection = stack.enter_context(
                connect(
                    application_name=f"client {number}",
                    options=f"-c statement_timeout={100 + number}s" if number % 2 else None,
                )
            )
            zone = ["UTC", "Asia/Tokyo", "America/New_York"][number % 3]
            style = ["ISO, DMY", "SQL, MDY", "German"][number % 3]
            connection.execute(sql.SQL("set search_path to {}, public").format(sql.Identifier(f'odd "{number}" name')))
            connection.execute(sql.SQL("set timezone to {}").format(zone))
            connection.execute(sql.SQL("set datestyle to {}").format(style))
            connection.execute("select set_config('app.tenant_id', %s, false)", (f"tenant {number}",))
            opened.append((number, connection, zone))
        for _ in range(ROUNDS):
            random.shuffle(opened)
            for number, connection, zone in opened:
                row = connection.execute(
                    "select current_setting('application_name'), current_setting('search_path'),"
                    " current_setting('timezone'), current_setting('app.tenant_id'),"
                    " current_setting('statement_timeout'), '2024-02-01 12:00Z'::timestamptz::text"
                ).fetchone()
                shown = {
                    "UTC": "2024-02-01 12:00:00+00",
                    "Asia/Tokyo": "02/01/2024 21:00:00 JST",
                    "America/New_York": "01.02.2024 07:00:00 EST",
                }[zone]
                limit = f"{100 + number}s" if number % 2 else "0"
                path = f'"odd ""{number}"" name", public'
                wanted = (f"client {number}", path, zone, f"tenant {number}", limit, shown)
                expect(row, wanted, f"settings of {number}")
                expect(str(connection.info.timezone), zone, "what the driver was told")


@step
def settings_end_with_their_transaction():
    with connect(application_name="first") as first, connect(application_name="second") as second:
        first.execute("set timezone to 'Asia/Tokyo'")
        with first.transaction():
            first.execute("set local timezone to 'Europe/Paris'")
            first.execute("set local application_name to 'for now'")
            expect(one(first, "show timezone"), "Europe/Paris")
            expect(one(second, "show application_name"), "second")
        expect(one(first, "show timezone"), "Asia/Tokyo", "after SET LOCAL")
        with raises(psycopg.errors.DivisionByZero), first.transaction():
            first.execute("set timezone to 'Europe/Berlin'")
            first.execute("select 1/0")
        expect(one(first, "show timezone"), "Asia/Tokyo", "after a rollback")
        with first.transaction():
            first.execute("set timezone to 'Europe/Berlin'")
        expect(one(second, "show timezone") == "Europe/Berlin", False, "a stranger's time zone")
        expect(one(first, "show timezone"), "Europe/Berlin", "after a commit")
        first.execute("reset timezone")
        expect(one(first, "show timezone"), one(second, "show timezone"), "after RESET")
        first.execute("set application_name to 'changed'")
        first.execute("reset all")
        expect(one(first, "show application_name"), "first", "after RESET ALL")
        first.execute("set application_name to 'changed'")
        first.execute("discard all")
        expect(one(first, "show application_name"), "first", "after DISCARD ALL")
        expect(first.info.parameter_status("application_name"), "first", "what the driver was told")


@step
def custom_settings_of_strangers_do_not_exist():
    with connect() as setter, connect() as reader:
        with setter.transaction():
            setter.execute("set local psycopg.never_elsewhere to 'x'")
        expect(one(setter, "select current_setting('psycopg.never_elsewhere', true)"), "", "its own, after SET LOCAL")
        expect(one(reader, "select current_setting('psycopg.never_elsewhere', true)"), None, "a stranger's")
        with raises(psycopg.errors.UndefinedObject):
            reader.execute("show psycopg.never_elsewhere")


@step
def prepared_statements_serve_many_transactions():
    with ExitStack() as stack:
        opened = clients(stack)
        for turn in range(ROUNDS):
            random.shuffle(opened)
            for connection in opened:
                with connection.transaction():
                    found = one(connection, "select %s::int + 1", turn, prepare=True, binary=turn % 2 == 0)
                    expect(found, turn + 1)
                expect(one(connection, "select %s::text || 'x'", "y", prepare=True), "yx")
        # Through transaction pooling a server session has the statements of all who use it.
        if MODE != "transaction":
            for connection in opened:
                expect(one(connection, "select count(*) from pg_prepared_statements where not from_sql"), 2)


@step
def prepared_statements_are_evicted_and_come_back():
    with ExitStack() as stack:
        opened = clients(stack, 4)
        for connection in opened:
            connection.prepare_threshold = 0
            connection.prepared_max = 3
        for turn in range(ROUNDS * 3):
            for connection in opened:
                number = random.randrange(8)
                expect(one(connection, f"select %s::int * {number}", turn), turn * number)
        if MODE != "transaction":
            for connection in opened:
                count = one(connection, "select count(*) from pg_prepared_statements", prepare=False)
                expect(count <= 3, True, f"{count} statements")


@step
def deallocated_statements_are_gone():
    with connect() as connection, connect() as other:
        for client in (connection, other):
            expect(one(client, "select %s::int", 1, prepare=True), 1)
        # The driver's own name of its first one.
        connection.execute("deallocate _pg3_0")
        with raises(psycopg.errors.InvalidSqlStatementName, "26000"):
            connection.execute("select %s::int", (1,), prepare=True)
        expect(one(other, "select %s::int", 2, prepare=True), 2, "a stranger deallocated")
        # The driver sees this one and prepares again.
        connection.execute("deallocate all")
        for turn in range(3):
            expect(one(connection, "select %s::int", turn, prepare=True), turn)
            expect(one(other, "select %s::int", turn, prepare=True), turn)


@step
def sql_statements_of_one_name_are_not_mixed_up():
    with ExitStack() as stack:
        opened = list(enumerate(clients(stack)))
        for number, connection in opened:
            connection.execute(f"prepare mine (int) as select $1 * {number}")
        for turn in range(ROUNDS):
            random.shuffle(opened)
            for number, connection in opened:
                expect(one(connection, f"execute mine ({turn})"), turn * number)
        for number, connection in opened:
            connection.execute("deallocate mine")
            with raises(psycopg.errors.InvalidSqlStatementName, "26000"):
                connection.execute("execute mine (1)")
        with opened[0][1].transaction(force_rollback=True):
            opened[0][1].execute("prepare rolled_back as select 'still here'")
        expect(one(opened[0][1], "execute rolled_back"), "still here", "PREPARE does not roll back")


@step
def changed_tables_invalidate_plans():
    with connect() as connection, connect() as other:
        other.execute("create table psycopg_suite.changing (id int, note text)")
        other.execute("insert into psycopg_suite.changing values (1, 'one')")
        query = "select * from psycopg_suite.changing where id = %s"
        for _ in range(2):
            expect(connection.execute(query, (1,), prepare=True).fetchall(), [(1, "one")])
        other.execute("alter table psycopg_suite.changing add column extra int default 7")
        with raises(psycopg.errors.FeatureNotSupported, "0A000") as refused:
            connection.execute(query, (1,), prepare=True)
        expect("cached plan must not change result type" in str(refused.error), True, str(refused.error))
        # The driver's own recovery: a statement that drops what it knows of its statements.
        connection.execute("alter table psycopg_suite.changing alter column extra set default 8")
        for _ in range(2):
            expect(connection.execute(query, (1,), prepare=True).fetchall(), [(1, "one", 7)])


@step
def types_are_fixed_when_a_statement_is_prepared():
    with connect() as european, connect() as american:
        european.execute("set datestyle to 'ISO, DMY'")
        american.execute("set datestyle to 'ISO, MDY'")
        for _ in range(3):
            expect(str(one(european, "select '01/02/2024'::date", prepare=True)), "2024-02-01")
            expect(str(one(american, "select '01/02/2024'::date", prepare=True)), "2024-01-02")
        for number, connection in enumerate([european, american]):
            connection.execute(f"create schema psycopg_suite_{number}")
            connection.execute(f"create table psycopg_suite_{number}.same_name as select {number} as number")
            connection.execute(f"set search_path to psycopg_suite_{number}")
        for _ in range(3):
            for number, connection in enumerate([european, american]):
                expect(one(connection, "select number from same_name", prepare=True), number, "another's table")
        for number, connection in enumerate([european, american]):
            connection.execute(f"drop schema psycopg_suite_{number} cascade")


@step
def transactions_and_savepoints():
    with connect(autocommit=False) as connection, connect() as other:
        connection.execute("create table psycopg_suite.steps (id int primary key)")
        connection.commit()
        connection.execute("insert into psycopg_suite.steps values (1)")
        with raises(psycopg.errors.UniqueViolation):
            connection.execute("insert into psycopg_suite.steps values (1)")
        expect(connection.info.transaction_status, pq.TransactionStatus.INERROR)
        with raises(psycopg.errors.InFailedSqlTransaction, "25P02"):
            connection.execute("select 1")
        expect(one(other, "select count(*) from psycopg_suite.steps"), 0)
        connection.rollback()
        with connection.transaction():
            connection.execute("insert into psycopg_suite.steps values (2)")
            with raises(psycopg.errors.DivisionByZero), connection.transaction():
                connection.execute("insert into psycopg_suite.steps values (3)")
                connection.execute("select 1/0")
            with connection.transaction("named") as named:
                connection.execute("insert into psycopg_suite.steps values (4)")
                raise psycopg.Rollback(named)
            connection.execute("insert into psycopg_suite.steps values (5)")
        expect(other.execute("select array_agg(id order by id) from psycopg_suite.steps").fetchone()[0], [2, 5])
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = True
        connection.deferrable = True
        levels = "select current_setting('transaction_isolation'), current_setting('transaction_read_only')"
        expect(connection.execute(levels).fetchone(), ("serializable", "on"))
        with raises(psycopg.errors.ReadOnlySqlTransaction, "25006"):
            connection.execute("insert into psycopg_suite.steps values (6)")
        connection.rollback()
        expect(other.execute(levels).fetchone(), ("read committed", "off"))


@step
def transactions_in_two_phases():
    with connect(autocommit=False) as connection, connect() as other:
        other.execute("create table psycopg_suite.prepared (id int)")
        for end in ("commit", "rollback"):
            name = connection.xid(1, f"psycopg suite {end}", "branch")
            connection.tpc_begin(name)
            connection.execute("insert into psycopg_suite.prepared values (1)")
            connection.tpc_prepare()
            getattr(connection, f"tpc_{end}")()
        expect(one(other, "select count(*) from psycopg_suite.prepared"), 1)


@step
def many_clients_transfer_and_lose_nothing():
    with connect() as connection:
        connection.execute("create table psycopg_suite.accounts (id int primary key, balance int)")
        connection.execute("insert into psycopg_suite.accounts select n, 100 from generate_series(0, 9) n")

    def transfer(number):
        draw = random.Random(number)
        with connect(autocommit=False) as connection:
            for _ in range(ROUNDS * 3):
                source, target = sorted(draw.sample(range(10), 2))
                with connection.transaction():
                    update = "update psycopg_suite.accounts set balance = balance + %s where id = %s"
                    connection.execute(update, (-number, source))
                    connection.execute(update, (number, target))
                    if draw.random() < 0.2:
                        raise psycopg.Rollback()

    everybody(CLIENTS, transfer)
    with connect() as connection:
        expect(one(connection, "select sum(balance) from psycopg_suite.accounts"), 1000)


@step
def pipelines():
    with ExitStack() as stack:
        for connection in clients(stack, 3):
            with connection.pipeline():
                cursors = [
                    connection.execute("select %s::int, repeat('x', 300)", (n,), prepare=n % 2 == 0)
                    for n in range(lengths(300, 2000))
                ]
            expect([cursor.fetchone()[0] for cursor in cursors], list(range(len(cursors))))


@step
def pipelines_with_errors():
    with connect() as connection, connect() as other:
        connection.execute("create table psycopg_suite.pairs (id int primary key)")
        with raises(psycopg.errors.UniqueViolation), connection.pipeline():
            connection.execute("insert into psycopg_suite.pairs values (1)")
            connection.execute("insert into psycopg_suite.pairs values (1)")
            connection.execute("insert into psycopg_suite.pairs values (2)")
        expect(one(other, "select count(*) from psycopg_suite.pairs"), 0)
        with raises(psycopg.errors.DivisionByZero), connection.pipeline() as pipeline:
            connection.execute("insert into psycopg_suite.pairs values (1)")
            pipeline.sync()
            connection.execute("select 1/0")
            connection.execute("insert into psycopg_suite.pairs values (2)")
            pipeline.sync()
        with connection.pipeline():
            connection.execute("insert into psycopg_suite.pairs values (3)")
        expect(one(other, "select array_agg(id order by id) from psycopg_suite.pairs"), [1, 3])
        with connection.pipeline(), connection.transaction():
            connection.execute("insert into psycopg_suite.pairs values (4)")
            with raises(psycopg.errors.UniqueViolation), connection.transaction():
                connection.execute("insert into psycopg_suite.pairs values (4)")
            connection.execute("insert into psycopg_suite.pairs values (5)")
        expect(one(other, "select array_agg(id order by id) from psycopg_suite.pairs"), [1, 3, 4, 5])


@step
def cursors_and_streams():
    rows = lengths(2000, 50000)
    with connect() as connection, connect() as other:
        with connection.transaction(), connection.cursor(name="forward") as cursor:
            cursor.itersize = 500
            cursor.execute("select generate_series(1, %s)", (rows,))
            expect(sum(row[0] for row in cursor), rows * (rows + 1) // 2)
        with connection.cursor(name="held", withhold=True, scrollable=True) as cursor:
            cursor.execute("select generate_series(1, 100)")
            cursor.scroll(50)
            expect(cursor.fetchone(), (51,))
            expect(one(other, "select count(*) from pg_cursors where name = 'held'"), 0)
            cursor.scroll(0, mode="absolute")
            expect(cursor.fetchone(), (1,))
        with connection.cursor() as cursor:
            streamed = cursor.stream("select generate_series(1, %s)", (rows,), size=100)
            expect(sum(row[0] for row in streamed), rows * (rows + 1) // 2)
            for row in cursor.stream("select generate_series(1, 1000000)"):
                if row[0] == 10:
                    break
        expect(one(connection, "select 1"), 1, "after a stream that was given up")
        with raises(psycopg.errors.DivisionByZero), connection.cursor() as cursor:
            list(cursor.stream("select 1 / (500 - n) from generate_series(1, 1000) n"))


@step
def copy_in_and_out():
    rows = lengths(3000, 100000)
    with connect() as connection, connect() as other:
        connection.execute("create table psycopg_suite.copied (id int primary key, note text)")
        with connection.cursor().copy("copy psycopg_suite.copied from stdin") as copy:
            for number in range(rows):
                copy.write_row((number, "a\tb\\\n" * (number % 5)))
        with connection.cursor().copy("copy psycopg_suite.copied from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            for number in range(rows, 2 * rows):
                copy.write_row((number, None))
        with other.cursor().copy("copy (select * from psycopg_suite.copied order by id) to stdout") as copy:
            copy.set_types(["int4", "text"])
            found = list(copy.rows())
        expect([row[0] for row in found], list(range(2 * rows)))
        expect(found[4], (4, "a\tb\\\n" * 4))
        with raises(psycopg.errors.InvalidTextRepresentation):
            with connection.cursor().copy("copy psycopg_suite.copied from stdin") as copy:
                for number in range(rows * 2):
                    copy.write(f"{3 * rows + number}\tx\n" if number != 50 else "no number\tx\n")
        with raises(KeyError), connection.cursor().copy("copy psycopg_suite.copied from stdin") as copy:
            copy.write("-1\tx\n")
            raise KeyError("changed my mind")
        with raises(KeyError), connection.cursor().copy("copy psycopg_suite.copied to stdout") as copy:
            copy.read()
            raise KeyError("read enough")
        expect(one(connection, "select count(*) from psycopg_suite.copied"), 2 * rows)
        with connection.transaction(force_rollback=True):
            with connection.cursor().copy("copy psycopg_suite.copied from stdin") as copy:
                copy.write("-1\tx\n")
            expect(one(connection, "select min(id) from psycopg_suite.copied"), -1)
        expect(one(other, "select min(id) from psycopg_suite.copied"), 0)


@step
def notifications():
    with connect() as listener, connect() as sender:
        listener.execute("listen psycopg_news")
        for number in range(3):
            sender.execute("select pg_notify('psycopg_news', %s)", (f"hello {number}",))
        heard = list(listener.notifies(timeout=20, stop_after=3))
        expect([(notify.channel, notify.payload) for notify in heard], [("psycopg_news", f"hello {n}") for n in range(3)])
        expect(list(sender.notifies(timeout=0.05)), [], "heard without listening")
        with sender.transaction(force_rollback=True):
            sender.execute("notify psycopg_news, 'never'")
        listener.execute("unlisten *")
        sender.execute("notify psycopg_news, 'too late'")
        expect(list(listener.notifies(timeout=0.05)), [])
        if MODE != "transaction":
            expect(heard[0].pid, sender.info.backend_pid)


@step
def temporary_tables_are_private():
    with connect() as first, connect() as second:
        for number, connection in enumerate([first, second]):
            connection.execute("create temp table private (number int)")
            connection.execute("insert into private values (%s)", (number,))
        for _ in range(ROUNDS):
            for number, connection in enumerate([first, second]):
                expect(one(connection, "select number from private"), number)
        first.execute("drop table private")
        with raises(psycopg.errors.UndefinedTable):
            first.execute("select * from private")
        second.execute("discard temp")
        with first.transaction():
            first.execute("create temp table brief (id int) on commit drop")
            first.execute("insert into brief values (1)")
        with raises(psycopg.errors.UndefinedTable):
            first.execute("select * from brief")


@step
def advisory_locks():
    with connect() as owner, connect() as other:
        owner.execute("select pg_advisory_lock(4711)")
        expect(one(other, "select pg_try_advisory_lock(4711)"), False)
        expect(one(owner, "select pg_try_advisory_lock(4711)"), True)
        expect([one(owner, "select pg_advisory_unlock(4711)") for _ in range(2)], [True, True])
        expect(one(other, "select pg_try_advisory_lock(4711)"), True)
        other.execute("select pg_advisory_unlock_all()")
        with owner.transaction():
            owner.execute("select pg_advisory_xact_lock(4711)")
            expect(one(other, "select pg_try_advisory_xact_lock(4711)"), False)
        expect(one(other, "select pg_try_advisory_xact_lock(4711)"), True)


@step
def sequences_are_ones_own():
    with connect() as first, connect() as second:
        first.execute("create table psycopg_suite.numbered (id serial, note text)")
        for connection in (first, second):
            mine = one(connection, "insert into psycopg_suite.numbered (note) values ('x') returning id")
            expect(one(connection, "select lastval()"), mine)
            expect(one(connection, "select currval('psycopg_suite.numbered_id_seq')"), mine)


@step
def large_values():
    text = "äöü€" * lengths(100_000, 4_000_000)
    content = bytes(range(256)) * lengths(1_000, 60_000)
    with connect() as connection:
        expect(one(connection, "select %s", text), text)
        expect(one(connection, "select %b::bytea", content, binary=True), content)
        expect(one(connection, "select length(%s)", text), len(text))
        expect(one(connection, "select '" + "x" * 1_500_000 + "'", prepare=True), "x" * 1_500_000)
        oid = one(connection, "select lo_from_bytea(0, %b)", content)
        expect(one(connection, "select lo_get(%s)", oid, binary=True), content)
        connection.execute("select lo_unlink(%s)", (oid,))


@step
def cancelled_statements():
    for way in ("cancel", "cancel_safe"):
        with connect(application_name=f"cancelled by {way}") as connection, connect() as other:

            def when_it_runs():
                running = "select 1 from pg_stat_activity where application_name = %s and wait_event = 'PgSleep'"
                while not other.execute(running, (f"cancelled by {way}",)).fetchone():
                    time.sleep(0.01)
                getattr(connection, way)()

            thread = threading.Thread(target=when_it_runs)
            thread.start()
            with raises(psycopg.errors.QueryCanceled, "57014"):
                connection.execute("select pg_sleep(60)")
            thread.join()
            expect(one(connection, "select 1"), 1)
            connection.cancel_safe()
            expect(one(other, "select 1"), 1)
    with connect(options="-c statement_timeout=50") as connection:
        with raises(psycopg.errors.QueryCanceled, "57014"):
            connection.execute("select pg_sleep(60)")
        connection.execute("set statement_timeout to 0")
        connection.execute("select pg_sleep(0.1)")


@step
async def tasks_that_are_cancelled():
    async with await psycopg.AsyncConnection.connect("", autocommit=True) as connection:
        with raises(TimeoutError):
            await asyncio.wait_for(connection.execute("select pg_sleep(60)"), 0.2)
        row = await (await connection.execute("select 1")).fetchone()
        expect(row, (1,))
        async with connection.pipeline():
            cursors = [await connection.execute("select %s::int", (n,)) for n in range(200)]
        expect([(await cursor.fetchone())[0] for cursor in cursors], list(range(200)))


@step
def types_of_the_database():
    with connect() as connection, connect() as other:
        other.execute("create type psycopg_suite.mood as enum ('sad', 'ok', 'happy')")
        other.execute("create type psycopg_suite.point3 as (x int, y float8, label text)")
        register_enum(EnumInfo.fetch(connection, "psycopg_suite.mood"), connection)
        register_composite(CompositeInfo.fetch(connection, "psycopg_suite.point3"), connection)
        for binary in (False, True):
            mood = one(connection, "select array['ok', 'happy']::psycopg_suite.mood[]", binary=binary)
            expect([each.name for each in mood], ["ok", "happy"])
            point = one(connection, "select (1, 2.5, 'three')::psycopg_suite.point3", binary=binary)
            expect(tuple(point), (1, 2.5, "three"))
            row = connection.execute(
                "select 1::int2, 2::int8, 1.50::numeric, '{1,2,null}'::int[], '[1,5)'::int4range,"
                " '2024-02-29'::date, '{\"a\": [1]}'::jsonb, 'f47ac10b-58cc-4372-a567-0e02b2c3d479'::uuid, true",
                binary=binary,
            ).fetchone()
            expect([str(value) for value in row[:4]], ["1", "2", "1.50", "[1, 2, None]"])
            expect((row[4].lower, row[4].upper, row[6], row[8]), (1, 5, {"a": [1]}, True))
        expect(one(connection, "select %s::jsonb -> 'b'", Jsonb({"b": "ü"})), "ü")


@step
def simple_queries():
    with connect(cursor_factory=psycopg.ClientCursor) as connection, connect() as other:
        notices = []
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        cursor = connection.execute("select 1; select 'two'; do $$ begin raise notice 'heard'; end $$")
        expect(cursor.fetchone(), (1,))
        expect(cursor.nextset() and cursor.fetchone(), ("two",))
        expect(notices, ["heard"])
        with raises(psycopg.errors.SyntaxError):
            connection.execute("create table psycopg_suite.together (id int); selec 1")
        with raises(psycopg.errors.DivisionByZero):
            connection.execute("create table psycopg_suite.together (id int); select 1/0")
        expect(one(other, "select to_regclass('psycopg_suite.together')"), None)
        connection.execute("begin; create table psycopg_suite.together (id int); commit; select 1")
        expect(one(other, "select to_regclass('psycopg_suite.together')::text"), "psycopg_suite.together")
        expect(connection.execute("").statusmessage, None)
        expect(connection.execute("/* nothing */").statusmessage, None)


@step
def roles_within_a_session():
    with connect() as connection, connect() as other:
        connection.execute("create role psycopg_suite_lesser")
        try:
            connection.execute("set role psycopg_suite_lesser")
            for _ in range(3):
                expect(one(connection, "select current_user"), "psycopg_suite_lesser")
                expect(one(other, "select current_user"), "postgres", "a stranger's role")
            with raises(psycopg.errors.InsufficientPrivilege, "42501"):
                connection.execute("create schema psycopg_not_allowed")
            connection.execute("reset role")
            connection.execute("set session authorization psycopg_suite_lesser")
            expect(one(connection, "select session_user"), "psycopg_suite_lesser")
            expect(one(other, "select session_user"), "postgres")
            connection.execute("reset session authorization")
            expect(connection.execute("select session_user, current_user").fetchone(), ("postgres", "postgres"))
        finally:
            other.execute("drop role psycopg_suite_lesser")


@step
def roles_and_databases_of_its_own():
    with connect() as owner:
        owner.execute("drop database if exists psycopg_suite_db")
        owner.execute("drop role if exists psycopg_suite_role")
        owner.execute("create role psycopg_suite_role login password 'its own'")
        owner.execute("create database psycopg_suite_db owner psycopg_suite_role")
        named = {"user": "psycopg_suite_role", "password": "its own", "dbname": "psycopg_suite_db"}
        with connect(**named) as connection, connect(**named) as second:
            connection.execute("create table mine (id int)")
            row = second.execute("select current_user, current_database(), count(*) from mine").fetchone()
            expect(row, ("psycopg_suite_role", "psycopg_suite_db", 0))
            with raises(psycopg.errors.InsufficientPrivilege, "42501"):
                second.execute("create role psycopg_suite_more")
        owner.execute("drop database psycopg_suite_db")
        with raises(psycopg.OperationalError):
            connect(**named)
        owner.execute("drop role psycopg_suite_role")


if __name__ == "__main__":
    main(prepare)
