"""What Debian's prometheus-pgbouncer-exporter asks PgBouncer's console, by the names that it looks for.

It takes LISTS as pairs and the other tables by their columns; each value has to be a number, each label a text.
"""

import sys

import psycopg

TABLES = {
    "STATS": (
        ["database"],
        {
            "total_requests": "requests_total",
            "total_received": "received_bytes_total",
            "total_sent": "sent_bytes_total",
            "total_query_time": "query_microseconds_total",
        },
    ),
    "POOLS": (["database", "user"], {"cl_active": "active_clients", "cl_waiting": "waiting_clients"}),
    "DATABASES": (["database"], {"pool_size": "pool_size", "reserve_pool": "reserve_pool"}),
}
LISTS = """databases users pools free_clients used_clients login_clients free_servers used_servers
dns_names dns_zones dns_queries dns_pending"""

with psycopg.connect(sys.argv[1], autocommit=True) as console:
    # As psycopg2 does: the simple protocol, and a semicolon.
    cursor = psycopg.ClientCursor(console)
    for table, (labels, metrics) in TABLES.items():
        cursor.execute(f"SHOW {table};")
        names = [column.name for column in cursor.description]
        for row in cursor.fetchall():
            row = dict(zip(names, row))
            of = [row[label] for label in labels]
            assert all(isinstance(label, str) for label in of), (table, row)
            for column, metric in metrics.items():
                print(metric, *of, float(row[column]))
    lists = dict(cursor.execute("SHOW LISTS;").fetchall())
    for name in LISTS.split():
        print(name, int(lists[name]))
