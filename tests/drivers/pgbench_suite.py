"""pgbench in every way that it speaks: pgbench_suite.py [STEP…]

What is told to it, and how it ends, stands in suite.py.
"""

import os
import subprocess
import tempfile

from suite import CLIENTS, PROGRAMS, expect, lengths, main, step

TRANSACTIONS = lengths(20, 300)
OWN = r"""
\set id random(1, 100000)
begin;
set local statement_timeout to 60000;
select set_config('app.client', (:client_id)::text, true);
select abalance from pgbench_accounts where aid = :id;
select set_config('search_path', 'public', true);
select 1 / (current_setting('app.client')::int = :client_id)::int;
end;
"""
PIPELINE = r"""
\set id random(1, 100000)
\startpipeline
begin;
update pgbench_accounts set abalance = abalance + 1 where aid = :id;
select abalance from pgbench_accounts where aid = :id;
update pgbench_accounts set abalance = abalance - 1 where aid = :id;
end;
\endpipeline
"""


def run(program, *arguments):
    ended = subprocess.run(
        [os.path.join(PROGRAMS, program), *arguments], text=True, timeout=110,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    expect(ended.returncode, 0, f"{program} {arguments} ended with {ended.stdout[-2000:]}")
    return ended.stdout


def bench(*arguments, clients=CLIENTS, transactions=TRANSACTIONS):
    # A thread for each: one that prepares for a client waits, and so would another client of its inside a transaction.
    said = run("pgbench", "-n", "-c", str(clients), "-j", str(clients), "-t", str(transactions), *arguments)
    expect(f"processed: {clients * transactions}/{clients * transactions}" in said, True, said)
    expect("number of failed transactions: 0 " in said, True, said)


def sums_agree():
    sums = "select (select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) from pgbench_branches)"
    expect(run("psql", "-X", "-A", "-t", "-c", sums), "t\n")


def prepare():
    run("pgbench", "-i", "-q", "-s", "1")


@step
def simple():
    bench("-M", "simple", "-b", "tpcb-like")
    bench("-M", "simple", "-S")
    bench("-M", "simple", "-N")
    sums_agree()


@step
def extended():
    bench("-M", "extended", "-b", "tpcb-like")
    bench("-M", "extended", "-S")
    bench("-M", "extended", "-N")
    sums_agree()


@step
def prepared():
    bench("-M", "prepared", "-b", "tpcb-like")
    bench("-M", "prepared", "-S")
    bench("-M", "prepared", "-N")
    sums_agree()


@step
def connecting_anew():
    for mode in ("simple", "extended", "prepared"):
        bench("-C", "-M", mode, "-S", transactions=lengths(5, 40))


@step
def scripts_of_its_own():
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as own, tempfile.NamedTemporaryFile("w", suffix=".sql") as piped:
        own.write(OWN)
        piped.write(PIPELINE)
        own.flush()
        piped.flush()
        for mode in ("simple", "extended", "prepared"):
            bench("-M", mode, "-f", own.name)
        for mode in ("extended", "prepared"):
            bench("-M", mode, "-f", piped.name)
        bench("-M", "prepared", "-f", own.name, "-f", piped.name, "-b", "select-only@3")
    expect(run("psql", "-X", "-A", "-t", "-c", "select sum(abalance) % 2 is not null from pgbench_accounts"), "t\n")


@step
def many_clients():
    bench("-M", "prepared", "-S", clients=lengths(16, 60), transactions=lengths(10, 100))


if __name__ == "__main__":
    main(prepare)
