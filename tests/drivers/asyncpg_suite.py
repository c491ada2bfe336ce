"""What users of asyncpg do, with connections of their own and with its pool: asyncpg_suite.py [STEP…]

What is told to it, and how it ends, stands in suite.py.
"""

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from suite import (
    ADDRESS, CLIENTS, DATABASE, MODE, PASSWORD, PORT, ROUNDS, USER, expect, lengths, main, raises, step, tls
)

TASKS = CLIENTS * 4


def place(**named):
    return {
        "host": ADDRESS, "port": PORT, "user": USER, "password": PASSWORD, "database": DATABASE, "ssl": tls(), **named
    }


@asynccontextmanager
async def connected(**named):
    connection = await asyncpg.connect(**place(**named))
    try:
        yield connection
    finally:
        await connection.close(timeout=20)


async def clients(stack, count=CLIENTS, **named):
    return [await stack.enter_async_context(connected(**named)) for _ in range(count)]


async def prepare():
    async with connected() as connection:
        await connection.execute("drop schema if exists asyncpg_suite cascade; create schema asyncpg_suite")


@step
async def settings_stay_with_their_connection():
    async with AsyncExitStack() as stack:
        opened = []
        for number in range(CLIENTS):
            settings = {"application_name": f"client {number}", "statement_timeout": f"{100 + number}s"}
            if number % 2:
                settings["timezone"] = "Asia/Tokyo"
            connection = await stack.enter_async_context(connected(server_settings=settings))
            await connection.execute(f'set search_path to "schema {number}", public')
            await connection.execute("select set_config('app.tenant_id', $1, false)", f"tenant {number}")
            opened.append((number, connection))
        for _ in range(ROUNDS):
            random.shuffle(opened)
            for number, connection in opened:
                row = await connection.fetchrow(
                    "select current_setting('application_name'), current_setting('statement_timeout'),"
                    " current_setting('search_path'), current_setting('app.tenant_id')"
                )
                wanted = (f"client {number}", f"{100 + number}s", f'"schema {number}", public', f"tenant {number}")
                expect(tuple(row), wanted, f"settings of {number}")
                zone = await connection.fetchval("show timezone")
                expect(zone == "Asia/Tokyo", number % 2 == 1, f"time zone {zone} of {number}")
                expect(connection.get_settings().application_name, f"client {number}")
        number, connection = opened[0]
        await connection.execute("set application_name to 'changed'")
        await connection.reset()
        expect(await connection.fetchval("show application_name"), f"client {number}", "after reset()")
        expect(await connection.fetchval("select current_setting('app.tenant_id', true)"), "", "after reset()")


@step
async def statements_serve_many_transactions():
    async with AsyncExitStack() as stack:
        opened = await clients(stack)
        statements = []
        for connection in opened:
            # The driver prepares with Flush: only what runs next ends the implicit transaction, and lets others in.
            statements.append(await connection.prepare("select $1::int + 1, current_database()"))
            await statements[-1].fetchrow(0)
        for turn in range(ROUNDS):
            for number in random.sample(range(len(opened)), len(opened)):
                async with opened[number].transaction():
                    expect(tuple(await statements[number].fetchrow(turn)), (turn + 1, DATABASE))
                    expect(await opened[number].fetchval("select $1::text || 'x'", "y"), "yx")
        expect(statements[0].get_parameters()[0].name, "int4")
        expect([attribute.type.name for attribute in statements[0].get_attributes()], ["int4", "name"])
        plan = await statements[0].explain(1)
        expect("Plan" in plan[0], True, str(plan))
        plan = await statements[0].explain(1, analyze=True)
        expect("Execution Time" in plan[0], True, str(plan))


@step
async def statement_caches_evict():
    async with AsyncExitStack() as stack:
        opened = await clients(stack, 4, statement_cache_size=3)
        opened += await clients(stack, 2, statement_cache_size=0)
        opened += await clients(stack, 2, max_cached_statement_lifetime=0.001)
        for turn in range(ROUNDS * 3):
            for connection in opened:
                number = random.randrange(8)
                expect(await connection.fetchval(f"select $1::int * {number}", turn), turn * number)


@step
async def named_statements_may_be_closed():
    async with connected() as connection, connected() as other:
        statement = await connection.prepare("select $1::int", name="chosen")
        theirs = await other.prepare("select $1::int * 100", name="chosen")
        for number in range(3):
            expect((await statement.fetchval(number), await theirs.fetchval(number)), (number, number * 100))
        if MODE != "transaction":
            found = await connection.fetchval("select statement from pg_prepared_statements where name = 'chosen'")
            expect(found, "select $1::int")
        await connection.execute("deallocate chosen")
        with raises(asyncpg.InvalidSQLStatementNameError, "26000"):
            await statement.fetchval(1)
        expect(await theirs.fetchval(2), 200)
        with raises(asyncpg.DuplicatePreparedStatementError, "42P05"):
            await other.execute("prepare chosen as select 1")
        await connection.execute("prepare by_sql (int) as select $1 + 5")
        expect(await connection.fetchval("execute by_sql (1)"), 6)
        with raises(asyncpg.InvalidSQLStatementNameError, "26000"):
            await other.fetchval("execute by_sql (1)")


@step
async def changed_tables_invalidate_plans():
    async with connected() as connection, connected() as other:
        await other.execute("create table asyncpg_suite.changing as select 1 as id")
        query = "select * from asyncpg_suite.changing"
        statement = await connection.prepare(query)
        expect(tuple(await connection.fetchrow(query)), (1,))
        await other.execute("alter table asyncpg_suite.changing add column extra int default 7")
        # Outside of a transaction the driver prepares again by itself; inside it cannot.
        expect(tuple(await connection.fetchrow(query)), (1, 7))
        await other.execute("alter table asyncpg_suite.changing add column more int default 8")
        with raises(asyncpg.InvalidCachedStatementError):
            async with connection.transaction():
                await connection.fetchrow(query)
        expect(tuple(await connection.fetchrow(query)), (1, 7, 8))
        with raises(asyncpg.InvalidCachedStatementError):
            await statement.fetchrow()
        await other.execute("create type asyncpg_suite.size as enum ('small', 'large')")
        await other.execute("alter table asyncpg_suite.changing add column size asyncpg_suite.size default 'small'")
        expect((await connection.fetchrow(query))["size"], "small")
        await other.execute("alter table asyncpg_suite.changing drop column size; drop type asyncpg_suite.size")
        await other.execute("create type asyncpg_suite.size as enum ('small', 'large')")
        await other.execute("alter table asyncpg_suite.changing add column size asyncpg_suite.size default 'large'")
        await connection.reload_schema_state()
        expect((await connection.fetchrow(query))["size"], "large")


@step
async def transactions_and_savepoints():
    async with connected() as connection, connected() as other:
        await connection.execute("create table asyncpg_suite.steps (id int primary key)")
        insert = "insert into asyncpg_suite.steps values ($1)"
        async with connection.transaction(isolation="serializable"):
            await connection.execute(insert, 1)
            with raises(asyncpg.UniqueViolationError):
                async with connection.transaction():
                    await connection.execute(insert, 2)
                    await connection.execute(insert, 2)
            await connection.execute(insert, 3)
            expect(await other.fetchval("select count(*) from asyncpg_suite.steps"), 0)
        with raises(asyncpg.InFailedSQLTransactionError, "25P02"):
            async with connection.transaction():
                with raises(asyncpg.UniqueViolationError):
                    await connection.execute(insert, 1)
                await connection.fetchval("select 1")
        with raises(asyncpg.ReadOnlySQLTransactionError):
            async with connection.transaction(isolation="serializable", readonly=True, deferrable=True):
                await connection.execute(insert, 9)
        ids = await other.fetchval("select array_agg(id order by id) from asyncpg_suite.steps")
        expect(ids, [1, 3])
        # A transaction that comes and goes in one simple query.
        await connection.execute("begin; insert into asyncpg_suite.steps values (4); commit")
        with raises(asyncpg.DivisionByZeroError):
            await connection.execute("insert into asyncpg_suite.steps values (5); select 1/0")
        expect(await other.fetchval("select max(id) from asyncpg_suite.steps"), 4)


@step
async def many_clients_transfer_and_lose_nothing():
    async with AsyncExitStack() as stack:
        opened = await clients(stack)
        await opened[0].execute("create table asyncpg_suite.accounts (id int primary key, balance int)")
        await opened[0].execute("insert into asyncpg_suite.accounts select n, 100 from generate_series(0, 9) n")

        async def transfers(connection, number):
            draw = random.Random(number)
            update = "update asyncpg_suite.accounts set balance = balance + $1 where id = $2"
            for _ in range(ROUNDS * 3):
                source, target = sorted(draw.sample(range(10), 2))
                async with connection.transaction():
                    await connection.execute(update, -number, source)
                    await connection.execute(update, number, target)

        await asyncio.gather(*(transfers(connection, number) for number, connection in enumerate(opened)))
        expect(await opened[0].fetchval("select sum(balance) from asyncpg_suite.accounts"), 1000)


@step
async def pools():
    async def set_up(connection):
        await connection.execute("set search_path to asyncpg_suite, public")

    async def init(connection):
        await connection.set_type_codec("json", encoder=str, decoder=len, schema="pg_catalog")

    async with asyncpg.create_pool(**place(), min_size=2, max_size=CLIENTS, setup=set_up, init=init) as pool:

        async def borrow(number):
            async with pool.acquire() as connection:
                async with connection.transaction():
                    await connection.execute("select set_config('app.number', $1, true)", str(number))
                    found = await connection.fetchval("select current_setting('app.number')::int")
                expect(await connection.fetchval("show search_path"), "asyncpg_suite, public")
                # What a borrower leaves behind is reset before the next one: settings, cursors, locks.
                expect(await connection.fetchval("show timezone") == "Asia/Tokyo", False, "time zone stayed")
                if number % 7 == 0:
                    await connection.execute("set timezone to 'Asia/Tokyo'")
                return found

        numbers = list(range(TASKS * ROUNDS))
        expect(await asyncio.gather(*map(borrow, numbers)), numbers)
        expect(await pool.fetchval("""select '{"a": 1}'::json"""), 8, "the codec of init")
        async with pool.acquire() as connection:
            await connection.execute("select pg_advisory_lock(99)")
        async with connected() as other:
            expect(await other.fetchval("select pg_try_advisory_lock(99)"), True, "lock of a connection that came back")
        await pool.expire_connections()
        expect(await pool.fetchval("select 1"), 1)
        with raises(TimeoutError):
            await pool.fetchval("select pg_sleep(60)", timeout=0.2)
        expect(await pool.fetchval("select 2"), 2)


@step
async def cursors():
    rows = lengths(1000, 30000)
    async with connected() as connection:
        async with connection.transaction():
            query = "select generate_series(1, $1)"
            found = [record[0] async for record in connection.cursor(query, rows, prefetch=77)]
            expect(found, list(range(1, rows + 1)))
            cursor = await connection.cursor(query, 100)
            expect([record[0] for record in await cursor.fetch(10)], list(range(1, 11)))
            expect(await cursor.forward(5), 5)
            expect((await cursor.fetchrow())[0], 16)
            statement = await connection.prepare(query)
            two = [await statement.cursor(10), await statement.cursor(20)]
            expect([len(await each.fetch(50)) for each in two], [10, 20])
        with raises(asyncpg.NoActiveSQLTransactionError):
            async for _ in connection.cursor("select 1"):
                pass


@step
async def copy_in_and_out():
    rows = lengths(2000, 60000)
    async with connected() as connection, connected() as other:
        await connection.execute("create table asyncpg_suite.copied (id int primary key, note text)")
        records = [(number, None if number % 3 else "a\tb") for number in range(rows)]
        named = {"schema_name": "asyncpg_suite"}
        expect(await connection.copy_records_to_table("copied", records=records, **named), f"COPY {rows}")
        with raises(asyncpg.UniqueViolationError):
            await connection.copy_records_to_table("copied", records=records, **named)
        got = bytearray()

        async def take(data):
            got.extend(data)

        await other.copy_from_query("select * from asyncpg_suite.copied order by id", output=take, format="csv")
        expect(bytes(got).count(b"\n"), rows)

        async def give():
            for number in range(rows, 2 * rows):
                yield f"{number}\tx\n".encode()

        expect(await connection.copy_to_table("copied", source=give(), **named), f"COPY {rows}")

        async def fail():
            yield b"-1\tx\n"
            raise KeyError("changed my mind")

        with raises(KeyError):
            await connection.copy_to_table("copied", source=fail(), **named)
        expect(await connection.fetchval("select count(*) from asyncpg_suite.copied"), 2 * rows)


@step
async def many_parameters_at_once():
    async with connected() as connection:
        await connection.execute("create table asyncpg_suite.many (id int primary key, note text)")
        insert = "insert into asyncpg_suite.many values ($1, $2)"
        count = lengths(1000, 20000)
        await connection.executemany(insert, [(n, "x" * (n % 100)) for n in range(count)])
        with raises(asyncpg.UniqueViolationError):
            await connection.executemany(insert, [(n, "y") for n in range(2 * count, 0, -1)])
        expect(await connection.fetchval("select count(*) from asyncpg_suite.many"), count)
        found = await connection.fetchmany(insert + " returning id", [(-n, None) for n in range(1, 20)])
        expect([record[0] for record in found], [-n for n in range(1, 20)])


@step
async def listeners():
    heard = asyncio.Queue()
    async with connected() as listener, connected() as sender:
        await listener.add_listener("asyncpg_news", lambda _, pid, channel, payload: heard.put_nowait((pid, payload)))
        for number in range(3):
            await sender.execute("select pg_notify('asyncpg_news', $1)", str(number))
        for number in range(3):
            pid, payload = await asyncio.wait_for(heard.get(), 20)
            expect(payload, str(number))
            if MODE != "transaction":
                expect(pid, sender.get_server_pid())
        async with listener.transaction():
            expect(await listener.fetchval("select 1"), 1)
        await listener.reset()
        await sender.execute("notify asyncpg_news, 'too late'")
        expect(await listener.fetchval("select count(*) from pg_listening_channels()"), 0)
        expect(heard.empty(), True)


@step
async def temporary_tables_and_locks():
    async with connected() as first, connected() as second:
        for number, connection in enumerate([first, second]):
            await connection.execute("create temp table private (number int)")
            await connection.execute("insert into private values ($1)", number)
        for _ in range(ROUNDS):
            for number, connection in enumerate([first, second]):
                expect(await connection.fetchval("select number from private"), number)
        await first.execute("drop table private")
        expect(await second.fetchval("select pg_try_advisory_lock(6)"), True)
        expect(await second.fetchval("select pg_advisory_unlock(6)"), True)
        await second.execute("discard temp")
        with raises(asyncpg.UndefinedTableError):
            await second.fetchval("select number from private")
        await second.execute("discard all")
        with raises(asyncpg.InvalidSQLStatementNameError, "26000"):
            await second.fetchval("select pg_advisory_unlock(6)")
        await first.execute("select pg_advisory_lock(5)")
        expect(await second.fetchval("select pg_try_advisory_lock(5)"), False)
        await first.execute("select pg_advisory_unlock(5)")
        async with second.transaction():
            expect(await second.fetchval("select pg_try_advisory_xact_lock(5)"), True)


@step
async def cancelled_and_timed_out():
    async with connected() as connection, connected() as other:
        for _ in range(3):
            with raises(TimeoutError):
                await connection.execute("select pg_sleep(60)", timeout=0.1)
            expect(await connection.fetchval("select 1"), 1)
        task = asyncio.create_task(connection.fetchval("select pg_sleep(60)"))
        sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
        while not await other.fetchval(sleeping):
            await asyncio.sleep(0.01)
        task.cancel()
        with raises(asyncio.CancelledError):
            await task
        while await other.fetchval(sleeping):
            await asyncio.sleep(0.01)
        expect(await connection.fetchval("select 2"), 2)
        await connection.execute("set statement_timeout to '50ms'")
        with raises(asyncpg.QueryCanceledError, "57014"):
            await connection.execute("select pg_sleep(60)")
        await connection.execute("reset statement_timeout")
        await connection.execute("select pg_sleep(0.1)")


@step
async def types_of_the_database():
    async with connected() as connection, connected() as other:
        await other.execute(
            "create type asyncpg_suite.mood as enum ('sad', 'ok', 'happy');"
            " create type asyncpg_suite.pair as (x int, moods asyncpg_suite.mood[]);"
            " create domain asyncpg_suite.positive as int check (value > 0)"
        )
        found = await connection.fetchval("select (1, '{ok,sad}')::asyncpg_suite.pair")
        expect((found["x"], found["moods"]), (1, ["ok", "sad"]))
        expect(await connection.fetchval("select $1::asyncpg_suite.pair[]", [(2, ["happy"])]), [(2, ["happy"])])
        expect(await other.fetchval("select $1::asyncpg_suite.positive", 3), 3)
        row = await connection.fetchrow(
            "select 1::int2, 1.50::numeric, '{{1,2},{3,4}}'::int[], int8range(1, 5), '1 day 2 hours'::interval,"
            " 'f47ac10b-58cc-4372-a567-0e02b2c3d479'::uuid, '10.0.0.0/8'::cidr, $1::bytea, 'NaN'::float8 = 'NaN'",
            b"\x00\xff",
        )
        expect([str(value) for value in row[:3]], ["1", "1.50", "[[1, 2], [3, 4]]"])
        expect((row[3].lower, row[3].upper, row[4].days, row[7], row[8]), (1, 5, 1, b"\x00\xff", True))


@step
async def large_values():
    text = "äöü€" * lengths(100_000, 3_000_000)
    content = bytes(range(256)) * lengths(1_000, 60_000)
    async with connected() as connection:
        expect(await connection.fetchval("select $1::text", text), text)
        expect(await connection.fetchval("select $1::bytea", content), content)
        expect(await connection.fetchval("select length('" + "x" * 1_500_000 + "')"), 1_500_000)
        notices = []
        connection.add_log_listener(lambda _, message: notices.append(message.message))
        await connection.execute("do $$ begin raise notice 'heard'; end $$")
        expect(await connection.fetchval("select 1"), 1)
        expect(notices, ["heard"])


@step
async def roles_and_databases_of_its_own():
    async with connected() as owner:
        await owner.execute("drop database if exists asyncpg_suite_db")
        await owner.execute("drop role if exists asyncpg_suite_role")
        await owner.execute("create role asyncpg_suite_role login password 'its own'")
        await owner.execute("create database asyncpg_suite_db owner asyncpg_suite_role")
        own = {"user": "asyncpg_suite_role", "password": "its own", "database": "asyncpg_suite_db"}
        async with connected(**own) as connection, connected(**own) as second:
            await connection.execute("create table mine (id int)")
            row = await second.fetchrow("select current_user, current_database(), count(*) from mine")
            expect(tuple(row), ("asyncpg_suite_role", "asyncpg_suite_db", 0))
        await owner.execute("drop database asyncpg_suite_db")
        with raises(asyncpg.InvalidCatalogNameError, "3D000"):
            await asyncpg.connect(**place(**own))
        await owner.execute("drop role asyncpg_suite_role")


if __name__ == "__main__":
    main(prepare)
