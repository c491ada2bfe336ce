"""What an application does through psycopg with libpq 18: psycopg_tour.py CONNECTION-STRING

Ends with 1 and a traceback at the first thing that is not as without pgwake; prints what it did.
"""

import sys
import threading
import time

import psycopg
from psycopg import pq

FACTS = []


def fact(function):
    """Registers one step; each gets a connection of its own."""
    FACTS.append(function)
    return function


@fact
def protocol(connection):
    assert connection.info.full_protocol_version == 30002, connection.info.full_protocol_version
    assert connection.pgconn.ssl_in_use
    (pid,) = connection.execute("select pg_backend_pid()").fetchone()
    assert pid == connection.info.backend_pid, (pid, connection.info.backend_pid)


@fact
def pipeline(connection):
    with connection.pipeline():
        cursors = [connection.execute("select %s::int, repeat('x', 500)", (n,)) for n in range(1000)]
    assert [cursor.fetchone()[0] for cursor in cursors] == list(range(1000))


@fact
def pipeline_with_error(connection):
    connection.execute("create temp table pairs (id int primary key)")
    try:
        with connection.pipeline():
            connection.execute("insert into pairs values (1)")
            connection.execute("insert into pairs values (1)")
            connection.execute("insert into pairs values (2)")
    except psycopg.errors.UniqueViolation:
        pass
    else:
        raise AssertionError("the error got lost")
    assert connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
    assert connection.execute("select count(*) from pairs").fetchone() == (0,)


@fact
def transactions(connection):
    connection.execute("create temp table steps (id int)")
    with connection.transaction():
        connection.execute("insert into steps values (1)")
        try:
            with connection.transaction():
                connection.execute("insert into steps values (2)")
                connection.execute("select 1/0")
        except psycopg.errors.DivisionByZero:
            pass
        connection.execute("insert into steps values (3)")
    assert connection.execute("select array_agg(id) from steps").fetchone() == ([1, 3],)


@fact
def prepared(connection):
    for n in range(20):
        cursor = connection.execute("select %s::int + 1", (n,), prepare=True, binary=n % 2 == 0)
        assert cursor.fetchone() == (n + 1,)
    assert connection.execute("select count(*) from pg_prepared_statements").fetchone()[0] >= 1
    connection.execute("deallocate all")


@fact
def copy_text_and_binary(connection):
    connection.execute("create temp table copied (id int, text text)")
    with connection.cursor().copy("copy copied from stdin") as copy:
        for n in range(20000):
            copy.write_row((n, "a\tb\n" * (n % 5)))
    with connection.cursor().copy("copy copied from stdin (format binary)") as copy:
        copy.set_types(["int4", "text"])
        for n in range(20000, 40000):
            copy.write_row((n, None))
    with connection.cursor().copy("copy (select * from copied order by id) to stdout") as copy:
        copy.set_types(["int4", "text"])
        rows = list(copy.rows())
    assert [row[0] for row in rows] == list(range(40000))
    assert rows[4] == (4, "a\tb\n" * 4) and rows[39999] == (39999, None)


@fact
def copy_with_error_in_the_middle(connection):
    connection.execute("create temp table strict (id int primary key)")
    try:
        with connection.cursor().copy("copy strict from stdin") as copy:
            for n in range(200000):
                copy.write(f"{n}\n" if n != 1000 else "no number\n")
    except psycopg.errors.InvalidTextRepresentation:
        pass
    else:
        raise AssertionError("the error got lost")
    assert connection.execute("select count(*) from strict").fetchone() == (0,)


@fact
def copy_given_up(connection):
    connection.execute("create temp table given_up (id int)")
    try:
        with connection.cursor().copy("copy given_up from stdin") as copy:
            copy.write("1\n")
            raise KeyError("changed my mind")
    except KeyError:
        pass
    assert connection.execute("select count(*) from given_up").fetchone() == (0,)


@fact
def server_side_cursors(connection):
    with connection.transaction(), connection.cursor(name="forward") as cursor:
        cursor.itersize = 100
        cursor.execute("select generate_series(1, 5000)")
        assert sum(row[0] for row in cursor) == 12502500
    with connection.cursor(name="held", withhold=True, scrollable=True) as cursor:
        cursor.execute("select generate_series(1, 100)")
        cursor.scroll(50)
        assert cursor.fetchone() == (51,)
        cursor.scroll(0, mode="absolute")
        assert cursor.fetchone() == (1,)


@fact
def large_objects(connection):
    content = bytes(range(256)) * 8192
    (oid,) = connection.execute("select lo_from_bytea(0, %b)", (content,)).fetchone()
    (read,) = connection.execute("select lo_get(%s)", (oid,), binary=True).fetchone()
    assert read == content
    connection.execute("select lo_unlink(%s)", (oid,))


@fact
def notifications(connection):
    connection.execute("listen news")
    with psycopg.connect(sys.argv[1], autocommit=True) as sender:
        sender.execute("notify news, 'hello'")
        (notify,) = connection.notifies(timeout=20, stop_after=1)
        assert (notify.channel, notify.payload, notify.pid) == ("news", "hello", sender.info.backend_pid)


def cancelled(connection, cancel):
    """Cancels a statement that runs; the session goes on."""

    def when_running():
        with psycopg.connect(sys.argv[1], autocommit=True) as other:
            query = "select 1 from pg_stat_activity where pid = %s and wait_event = 'PgSleep'"
            while not other.execute(query, (connection.info.backend_pid,)).fetchone():
                time.sleep(0.01)
        cancel()

    thread = threading.Thread(target=when_running)
    thread.start()
    try:
        connection.execute("select pg_sleep(60)")
    except psycopg.errors.QueryCanceled:
        pass
    else:
        raise AssertionError("not cancelled")
    finally:
        thread.join()
    assert connection.execute("select 1").fetchone() == (1,)


@fact
def cancel_in_plaintext(connection):
    cancelled(connection, connection.cancel)


@fact
def cancel_over_tls(connection):
    cancelled(connection, connection.cancel_safe)


def main():
    for step in FACTS:
        with psycopg.connect(sys.argv[1], autocommit=True) as connection:
            step(connection)
        print(step.__name__, flush=True)
    print("all well")


main()
