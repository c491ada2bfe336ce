"""What users of psycopg's pools do: psycopg_pool_suite.py [STEP…]

What is told to it, and how it ends, stands in suite.py.
"""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg import pq
from psycopg_pool import AsyncConnectionPool, ConnectionPool, NullConnectionPool, PoolTimeout

from suite import CLIENTS, ROUNDS, SESSIONS, expect, lengths, main, raises, step

TASKS = CLIENTS * 4


def prepare():
    with psycopg.connect("", autocommit=True) as connection:
        connection.execute("drop schema if exists pool_suite cascade")
        connection.execute("create schema pool_suite")
        connection.execute("create table pool_suite.accounts (id int primary key, balance int)")
        connection.execute("insert into pool_suite.accounts select n, 100 from generate_series(0, 9) n")


def configured(number):
    """What each connection of a pool is given when it is made."""

    def configure(connection):
        connection.execute("select set_config('search_path', 'pool_suite', false)")
        connection.execute("select set_config('app.pool', %s, false)", (f"pool {number}",))
        connection.execute("set statement_timeout to '90s'")
        connection.commit()

    return configure


def pool(number=0, size=CLIENTS, **named):
    named.setdefault("configure", configured(number))
    named.setdefault("check", ConnectionPool.check_connection)
    return ConnectionPool("", min_size=2, max_size=size, timeout=60, open=True, **named)


def transfer(connections, number):
    """One transaction of one borrower, who is many."""
    draw = random.Random(number)
    with connections.connection() as connection:
        source, target = sorted(draw.sample(range(10), 2))
        update = "update accounts set balance = balance + %s where id = %s"
        connection.execute(update, (-number, source))
        connection.execute("set local app.borrower to " + str(number))
        connection.execute(update, (number, target))
        found = connection.execute("select current_setting('app.pool'), current_setting('app.borrower')").fetchone()
        if draw.random() < 0.2:
            raise psycopg.Rollback()
        return found, number


@step
def borrowers_outnumber_connections():
    with pool(1) as first, pool(2) as second, ThreadPoolExecutor(TASKS) as threads:
        first.wait(60)
        jobs = []
        for number in range(TASKS * ROUNDS):
            jobs.append((1 + number % 2, threads.submit(transfer, [first, second][number % 2], number)))
        for mark, job in jobs:
            try:
                found, number = job.result()
            except psycopg.Rollback:
                continue
            expect(found, (f"pool {mark}", str(number)), "marks")
        with first.connection() as connection:
            expect(connection.execute("select sum(balance) from accounts").fetchone(), (1000,))
        expect(first.get_stats().get("connections_errors", 0), 0, "errors of connecting")


@step
def borrowed_connections_come_back_clean():
    def reset(connection):
        connection.execute("reset timezone")
        connection.commit()

    with pool(size=2, reset=reset) as connections:
        with raises(psycopg.errors.DivisionByZero), connections.connection() as connection:
            connection.execute("set timezone to 'Asia/Tokyo'")
            connection.execute("select 1/0")
        connection = connections.getconn()
        connection.execute("set timezone to 'Asia/Tokyo'")
        connection.execute("insert into accounts values (100, 1)")
        connections.putconn(connection)
        for _ in range(4):
            with connections.connection() as connection:
                expect(connection.info.transaction_status, pq.TransactionStatus.IDLE)
                expect(connection.execute("show timezone").fetchone() != ("Asia/Tokyo",), True, "time zone stayed")
                expect(connection.execute("select count(*) from accounts").fetchone(), (10,))


@step
def closed_connections_are_replaced():
    with pool(size=2) as connections:
        connections.wait(60)
        for _ in range(3):
            with raises(psycopg.OperationalError), connections.connection() as connection:
                connection.execute("set application_name to 'to be ended'")
                connection.commit()
                with psycopg.connect("", autocommit=True) as other:
                    other.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity"
                        " where application_name = 'to be ended' and pid <> pg_backend_pid()"
                    )
                # Whose session was ended learns it at the next statement, or gets another.
                connection.execute("select 1")
                raise psycopg.OperationalError("it goes on, as it may between transactions")
            with connections.connection() as connection:
                expect(connection.execute("select 1").fetchone(), (1,))


@step
def a_full_pool_says_so_in_time():
    with pool(size=2) as connections:
        with connections.connection() as first, connections.connection():
            with raises(PoolTimeout):
                connections.getconn(timeout=0.1)
            expect(first.execute("select 1").fetchone(), (1,))


@step
def prepared_statements_of_a_pool():
    with pool(kwargs={"prepare_threshold": 0, "autocommit": True}) as connections:
        with ThreadPoolExecutor(TASKS) as threads:

            def ask(number):
                with connections.connection() as connection:
                    query = f"select balance * 0 + %s from accounts where id = {number % 10}"
                    return connection.execute(query, (number,)).fetchone()[0]

            numbers = list(range(TASKS * ROUNDS))
            expect(list(threads.map(ask, numbers)), numbers)


@step
def pipelines_of_a_pool():
    with pool(kwargs={"autocommit": True}) as connections, ThreadPoolExecutor(TASKS) as threads:

        def ask(number):
            with connections.connection() as connection, connection.pipeline():
                cursors = [connection.execute("select %s::int * 10", (n,)) for n in range(number, number + 20)]
                return [cursor.fetchone()[0] for cursor in cursors]

        for number, found in enumerate(threads.map(ask, range(TASKS))):
            expect(found, [n * 10 for n in range(number, number + 20)])


@step
def a_pool_that_keeps_nothing():
    with NullConnectionPool("", max_size=4, configure=configured(7)) as connections:
        with ThreadPoolExecutor(TASKS) as threads:
            for found, number in filter(None, threads.map(lambda n: given_back(connections, n), range(TASKS))):
                expect(found, ("pool 7", str(number)))


def given_back(connections, number):
    try:
        return transfer(connections, number)
    except psycopg.Rollback:
        return None


@step
async def an_asynchronous_pool():
    async def configure(connection):
        await connection.set_autocommit(True)
        await connection.execute("set search_path to pool_suite")

    async with AsyncConnectionPool(
        "", min_size=2, max_size=CLIENTS, timeout=60, open=False, configure=configure,
        check=AsyncConnectionPool.check_connection,
    ) as connections:

        async def ask(number):
            async with connections.connection() as connection, connection.transaction():
                await connection.execute("select set_config('app.number', %s, true)", (str(number),))
                await connection.execute("select balance from accounts where id = %s for share", (number % 10,))
                cursor = await connection.execute("select current_setting('app.number')::int")
                return (await cursor.fetchone())[0]

        numbers = list(range(TASKS * ROUNDS))
        expect(await asyncio.gather(*map(ask, numbers)), numbers)
        # A borrower that is cancelled while its statement runs.
        with raises(TimeoutError):
            async with asyncio.timeout(0.2), connections.connection() as connection:
                await connection.execute("select pg_sleep(60)")
        expect(await ask(5), 5)


@step
def idle_pools_beside_a_busy_one():
    idle = [pool(number, size=4) for number in range(lengths(3, 8))]
    try:
        for connections in idle:
            connections.wait(60)
        for turn in range(ROUNDS):
            for number in random.sample(range(len(idle)), len(idle)):
                with idle[number].connection() as connection:
                    found = connection.execute("select current_setting('app.pool'), current_setting('search_path')")
                    expect(found.fetchone(), (f"pool {number}", "pool_suite"), f"turn {turn} with {SESSIONS} sessions")
    finally:
        for connections in idle:
            connections.close()


if __name__ == "__main__":
    main(prepare)
