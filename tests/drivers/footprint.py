"""How much memory a pgwake has at rest, and how much more for each client that is connected and does nothing.

python footprint.py PID CONNINFO [CLIENTS]: PID is a pgwake that has served nobody yet, CONNINFO leads to an endpoint with
transaction pooling (`…-pooler`), so that clients that do nothing hold no server session. What is counted is what the process
alone has in memory (Private_* of smaps_rollup), and all it has (Rss).
"""

import sys
import time

import psycopg

pid, conninfo = sys.argv[1], sys.argv[2]
clients = int(sys.argv[3]) if len(sys.argv) > 3 else 1000


def memory():
    """Private and resident memory in KiB."""
    private, resident = 0, 0
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        for line in lines:
            name, _, rest = line.partition(":")
            if name.startswith("Private_"):
                private += int(rest.split()[0])
            elif name == "Rss":
                resident = int(rest.split()[0])
    return private, resident


def settled():
    """The same, once it has not grown for a while."""
    before = memory()
    while True:
        time.sleep(2)
        now = memory()
        if now[0] <= before[0] + 64:
            return now
        before = now


rest = settled()
print(f"at rest: {rest[0] / 1024:.1f} MiB of its own, {rest[1] / 1024:.1f} MiB resident")
# What is there once, for the first client: its endpoint's pool, its role.
first = psycopg.connect(conninfo, autocommit=True)
first.execute("select 1")
one = settled()
print(f"with one client: {one[0] / 1024:.1f} MiB of its own, {one[1] / 1024:.1f} MiB resident")
crowd = []
for number in range(clients):
    connection = psycopg.connect(conninfo, autocommit=True)
    connection.execute("select 1")
    crowd.append(connection)
many = settled()
print(f"with {clients} more: {many[0] / 1024:.1f} MiB of its own, {many[1] / 1024:.1f} MiB resident")
print(f"for each: {(many[0] - one[0]) / clients:.1f} KiB")
