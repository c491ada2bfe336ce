"""What an application does through pg8000: pg8000_tour.py PORT PASSWORD CA-FILE

By address, so without a server name: the listener's default endpoint. Ends with 1 and a traceback at the first
thing that is not as without pgwake.
"""

import io
import ssl
import sys

import pg8000.native


def connect():
    port, password, ca = sys.argv[1:]
    context = ssl.create_default_context(cafile=ca)
    return pg8000.native.Connection(
        "postgres", host="127.0.0.1", port=int(port), password=password, database="postgres", ssl_context=context
    )


def main():
    connection = connect()
    connection.run("create table rows (id int primary key, text text)")
    connection.run("start transaction")
    for n in range(100):
        connection.run("insert into rows values (:id, :text)", id=n, text="x" * n)
    connection.run("commit")
    assert connection.run("select sum(length(text)) from rows") == [[4950]]
    try:
        connection.run("insert into rows values (1, '')")
    except pg8000.native.DatabaseError as error:
        assert error.args[0]["C"] == "23505", error
    else:
        raise AssertionError("the error got lost")

    connection.run("copy rows from stdin", stream=io.StringIO("".join(f"{n}\ty\n" for n in range(100, 5000))))
    out = io.BytesIO()
    connection.run("copy rows to stdout", stream=out)
    assert out.getvalue().count(b"\n") == 5000

    prepared = connection.prepare("select cast(:n as integer) + 1")
    assert [prepared.run(n=n) for n in range(50)] == [[[n + 1]] for n in range(50)]
    prepared.close()

    connection.run("listen news")
    sender = connect()
    sender.run("notify news, 'hello'")
    while not connection.notifications:
        connection.run("select 1")
    (pid, channel, payload) = connection.notifications.popleft()
    assert (channel, payload) == ("news", "hello") and [[pid]] == sender.run("select pg_backend_pid()")
    sender.close()
    connection.close()
    print("all well")


main()
