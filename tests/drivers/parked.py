"""A psycopg_pool of idle connections: parked.py CONNECTION-STRING COUNT

Opens them and says "open". At each line of its input it sends one transaction on every connection at once and says
"served". Ends with 1 and a traceback at the first error; at the end of its input says "all well" where the pool has
never lost or replaced a connection.
"""

import asyncio
import sys

import psycopg_pool


async def ask(pool, number, everyone_has_one):
    async with pool.connection() as connection:
        await everyone_has_one.wait()
        cursor = await connection.execute("select %s::int + 1, current_setting('timezone')", (number,))
        assert await cursor.fetchone() == (number + 1, "Asia/Tokyo")


async def configure(connection):
    await connection.execute("set timezone = 'Asia/Tokyo'")
    await connection.commit()


async def main():
    connection_string, count = sys.argv[1], int(sys.argv[2])
    pool = psycopg_pool.AsyncConnectionPool(
        connection_string, min_size=count, max_size=count, num_workers=8, timeout=60, configure=configure, open=False
    )
    await pool.open(wait=True, timeout=60)
    print("open", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        everyone_has_one = asyncio.Barrier(count)
        await asyncio.gather(*(ask(pool, number, everyone_has_one) for number in range(count)))
        print("served", flush=True)
    statistics = pool.get_stats()
    assert statistics["connections_num"] == statistics["pool_available"] == count, statistics
    for bad in ("connections_errors", "connections_lost", "returns_bad", "requests_errors"):
        assert statistics.get(bad, 0) == 0, statistics
    await pool.close()
    print("all well")


asyncio.run(main())
