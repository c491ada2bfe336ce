"""What an application does through asyncpg: asyncpg_tour.py PORT PASSWORD CA-FILE

By address, so without a server name: the listener's default endpoint. Ends with 1 and a traceback at the first
thing that is not as without pgwake.
"""

import asyncio
import ssl
import sys

import asyncpg


async def connect():
    port, password, ca = sys.argv[1:]
    context = ssl.create_default_context(cafile=ca)
    return await asyncpg.connect(
        host="127.0.0.1", port=int(port), user="postgres", password=password, database="postgres", ssl=context
    )


async def main():
    connection = await connect()
    await connection.execute("create table rows (id int primary key, text text)")
    await connection.executemany("insert into rows values ($1, $2)", [(n, "x" * n) for n in range(500)])
    assert await connection.fetchval("select sum(length(text)) from rows") == 124750
    async with connection.transaction():
        numbers = [row["id"] async for row in connection.cursor("select id from rows order by id", prefetch=7)]
    assert numbers == list(range(500))

    await connection.copy_records_to_table("rows", records=[(n, None) for n in range(500, 3000)])
    try:
        await connection.copy_records_to_table("rows", records=[(n, None) for n in range(5000, 0, -1)])
    except asyncpg.UniqueViolationError:
        pass
    else:
        raise AssertionError("the error got lost")
    assert await connection.fetchval("select count(*) from rows") == 3000

    heard = asyncio.get_running_loop().create_future()
    await connection.add_listener("news", lambda _, pid, channel, payload: heard.set_result((pid, payload)))
    sender = await connect()
    await sender.execute("notify news, 'hello'")
    assert await asyncio.wait_for(heard, 20) == (sender.get_server_pid(), "hello")

    try:
        await connection.execute("select pg_sleep(60)", timeout=0.5)
    except asyncio.TimeoutError:
        pass
    else:
        raise AssertionError("not cancelled")
    asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    while await sender.fetchval(asleep):
        await asyncio.sleep(0.01)
    assert await connection.fetchval("select 1") == 1
    await sender.close()
    await connection.reset()
    await connection.close()
    print("all well")


asyncio.run(asyncio.wait_for(main(), 25))
