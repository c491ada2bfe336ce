"""The console as psycopg sees it: by the simple and the extended protocol, in text and in binary."""

import sys

import psycopg

with psycopg.connect(sys.argv[1], autocommit=True) as console:
    for prepare in (None, False, True):
        row = console.execute("SHOW VERSION", prepare=prepare).fetchone()
        assert row[0].startswith("pgwake "), row
    names = [column.name for column in console.execute("SHOW POOLS").description]
    assert names[:4] == ["database", "user", "cl_active", "cl_waiting"], names
    with console.cursor(binary=True) as binary:
        lists = dict(binary.execute("SHOW LISTS").fetchall())
        assert lists["databases"] == 1, lists
        assert lists["used_clients"] == 1, lists
    try:
        console.execute("SHOW NONSENSE")
    except psycopg.errors.SyntaxError as error:
        assert "SHOW HELP" in str(error), error
    else:
        raise AssertionError("nonsense was understood")
    # A mistake does not end it.
    assert console.execute("SHOW STATE").fetchall()[0] == ("active", "yes")
    with psycopg.ClientCursor(console) as simple:
        simple.execute("SHOW VERSION; SHOW STATE")
        assert simple.nextset()
print("done")
