"""Runs statements through psycopg with libpq 18: psycopg_query.py CONNECTION-STRING STATEMENT…

Prints one JSON object: the rows of each statement, and what libpq says about the connection. An error is printed as
{"sqlstate": …, "error": …} and ends the script with 1.
"""

import json
import sys

import psycopg


def main():
    connection_string, *statements = sys.argv[1:]
    try:
        with psycopg.connect(connection_string, autocommit=True) as connection:
            rows = [connection.execute(statement).fetchall() for statement in statements]
            result = {
                "rows": rows,
                "libpq": psycopg.pq.version(),
                "protocol": connection.info.full_protocol_version,
                "tls": bool(connection.pgconn.ssl_in_use),
            }
    except psycopg.Error as error:
        print(json.dumps({"sqlstate": error.sqlstate, "error": str(error)}))
        return 1
    print(json.dumps(result, default=str))
    return 0


sys.exit(main())
