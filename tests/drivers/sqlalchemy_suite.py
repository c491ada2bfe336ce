"""What users of SQLAlchemy do, over psycopg, asyncpg and pg8000, with its pools: sqlalchemy_suite.py [STEP…]

What is told to it, and how it ends, stands in suite.py.
"""

import asyncio
import itertools
import random
from concurrent.futures import ThreadPoolExecutor

import psycopg
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from suite import ADDRESS, CLIENTS, DATABASE, PASSWORD, PORT, ROUNDS, USER, expect, lengths, main, raises, step, tls

TASKS = CLIENTS * 3


class Base(orm.DeclarativeBase):
    metadata = sa.MetaData(schema="sqlalchemy_suite")


class Owner(Base):
    __tablename__ = "owners"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    mood: orm.Mapped[str] = orm.mapped_column(sa.Enum("sad", "ok", "happy", name="mood", schema=Base.metadata.schema))
    tags: orm.Mapped[list] = orm.mapped_column(postgresql.ARRAY(sa.Text))
    data: orm.Mapped[dict] = orm.mapped_column(postgresql.JSONB)
    accounts: orm.Mapped[list["Account"]] = orm.relationship(back_populates="owner", order_by="Account.id")


class Account(Base):
    __tablename__ = "accounts"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    owner_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("sqlalchemy_suite.owners.id"))
    balance: orm.Mapped[int]
    owner: orm.Mapped[Owner] = orm.relationship(back_populates="accounts")


def url(driver):
    if driver == "psycopg":
        return "postgresql+psycopg://"
    return sa.URL.create(f"postgresql+{driver}", USER, PASSWORD, ADDRESS, PORT, DATABASE)


def engine(driver, **named):
    arguments = {"psycopg": {}, "asyncpg": {"ssl": tls()}, "pg8000": {"ssl_context": tls()}}[driver]
    arguments.update(named.pop("connect_args", {}))
    create = create_async_engine if driver == "asyncpg" else sa.create_engine
    named.setdefault("pool_size", 3)
    named.setdefault("max_overflow", CLIENTS - 3)
    named.setdefault("pool_timeout", 60)
    named.setdefault("pool_pre_ping", True)
    return create(url(driver), connect_args=arguments, **named)


def fill(session):
    for number in range(10):
        owner = Owner(name=f"owner {number}", mood="ok", tags=["a", str(number)], data={"number": number})
        owner.accounts = [Account(balance=100) for _ in range(3)]
        session.add(owner)


def prepare():
    made = engine("psycopg")
    with made.begin() as connection:
        connection.execute(sa.text("drop schema if exists sqlalchemy_suite cascade"))
        connection.execute(sa.text("create schema sqlalchemy_suite"))
        Base.metadata.create_all(connection)
    with orm.Session(made) as session, session.begin():
        fill(session)
    made.dispose()


def use_the_orm(driver):
    made = engine(driver)
    sessions = orm.sessionmaker(made)
    with sessions() as session:
        owner = session.scalars(sa.select(Owner).where(Owner.data["number"].as_integer() == 3)).one()
        expect((owner.name, owner.mood, owner.tags), ("owner 3", "ok", ["a", "3"]))
        expect(len(owner.accounts), 3)
        owner.mood = "happy"
        session.flush()
        with raises(sa.exc.DBAPIError, "23503"), session.begin_nested():
            session.add(Account(owner_id=-1, balance=0))
            session.flush()
        session.rollback()
        expect(owner.mood, "ok", "after a rollback")
    with sessions.begin() as session:
        added = Owner(name="brief", mood="sad", tags=[], data={})
        session.add(added)
        session.flush()
        expect(session.get(Owner, added.id) is added, True)
        session.delete(added)
    with made.connect().execution_options(stream_results=True, yield_per=50) as connection:
        count = lengths(500, 10000)
        rows = connection.execute(sa.select(sa.func.generate_series(1, count)))
        expect(sum(row[0] for row in rows), count * (count + 1) // 2)
    with made.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        expect(connection.scalar(sa.text("show transaction_isolation")), "serializable")
    with made.connect() as connection:
        expect(connection.scalar(sa.text("show transaction_isolation")), "read committed")
    with made.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # pg8000 is inside a transaction here though nobody began one: the pool's ping.
        if driver != "pg8000":
            connection.execute(sa.text("vacuum sqlalchemy_suite.owners"))
    made.dispose()


@step
def the_orm_over_psycopg():
    use_the_orm("psycopg")


@step
def the_orm_over_pg8000():
    use_the_orm("pg8000")


@step
async def the_orm_over_asyncpg():
    made = engine("asyncpg")
    sessions = async_sessionmaker(made, expire_on_commit=False)
    async with sessions() as session, session.begin():
        query = sa.select(Owner).options(orm.selectinload(Owner.accounts)).order_by(Owner.id)
        owners = (await session.scalars(query)).all()
        expect([len(owner.accounts) for owner in owners], [3] * 10)
        with raises(sa.exc.IntegrityError):
            async with session.begin_nested():
                session.add(Account(owner_id=-1, balance=0))
                await session.flush()
    async with made.connect() as connection:
        count = lengths(500, 10000)
        rows = await connection.stream(sa.select(sa.func.generate_series(1, count)))
        expect([row[0] async for row in rows], list(range(1, count + 1)))

    async def transfer(number):
        async with sessions() as session, session.begin():
            await session.execute(sa.text("select set_config('app.task', :n, true)"), {"n": str(number)})
            account = await session.get(Account, 1 + number % 30, with_for_update=True)
            account.balance += 1
            await session.flush()
            return await session.scalar(sa.text("select current_setting('app.task')::int"))

    numbers = list(range(TASKS * ROUNDS))
    expect(await asyncio.gather(*map(transfer, numbers)), numbers)
    async with sessions() as session:
        total = await session.scalar(sa.select(sa.func.sum(Account.balance)))
        expect(total, 3000 + len(numbers))
        await session.execute(sa.update(Account).values(balance=100))
        await session.commit()
    await made.dispose()


def use_the_pool(driver):
    made = engine(driver)

    def transfer(number):
        draw = random.Random(number)
        with orm.Session(made) as session:
            source, target = sorted(draw.sample(range(1, 31), 2))
            session.get(Account, source, with_for_update=True).balance -= number
            session.get(Account, target, with_for_update=True).balance += number
            session.flush()
            session.commit() if draw.random() < 0.8 else session.rollback()

    with ThreadPoolExecutor(TASKS) as threads:
        list(threads.map(transfer, range(TASKS * ROUNDS)))
    with made.connect() as connection:
        expect(connection.scalar(sa.select(sa.func.sum(Account.balance))), 3000)
    # What is left open is rolled back when the connection returns.
    connection = made.connect()
    connection.execute(sa.text("update sqlalchemy_suite.accounts set balance = 0"))
    connection.close()
    with made.connect() as connection:
        expect(connection.scalar(sa.select(sa.func.sum(Account.balance))), 3000)
    made.dispose()


@step
def a_pool_of_psycopg():
    use_the_pool("psycopg")


@step
def a_pool_of_pg8000():
    use_the_pool("pg8000")


@step
def settings_of_each_connection():
    made = engine("psycopg")
    numbers = itertools.count(1)

    @sa.event.listens_for(made, "connect")
    def connected(connection, record):
        number = record.info["number"] = next(numbers)
        connection.autocommit = True
        connection.execute(f"set search_path to \"schema {number}\", sqlalchemy_suite")
        connection.execute(f"set app.number to '{number}'")
        connection.autocommit = False

    @sa.event.listens_for(made, "checkin")
    def checked_in(connection, record):
        if connection is not None:
            connection.execute("reset timezone")
            connection.commit()

    def look(number):
        with made.connect() as connection:
            mine = str(connection.info["number"])
            if number % 5 == 0:
                connection.execute(sa.text("set timezone to 'Asia/Tokyo'"))
            row = connection.execute(
                sa.text("select current_setting('app.number'), current_setting('search_path'), current_setting('timezone')")
            ).one()
            expect(tuple(row[:2]), (mine, f'"schema {mine}", sqlalchemy_suite'))
            expect(row[2] == "Asia/Tokyo", number % 5 == 0, row[2])

    with ThreadPoolExecutor(TASKS) as threads:
        list(threads.map(look, range(TASKS * ROUNDS)))
    made.dispose()


@step
def ended_connections_are_replaced():
    made = engine("psycopg", pool_size=2, max_overflow=0)
    for _ in range(3):
        with made.connect() as connection:
            connection.execute(sa.text("select 1"))
            connection.commit()
        with psycopg.connect("", autocommit=True) as other:
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where pid <> pg_backend_pid() and backend_type = 'client backend'"
            )
        # The pool's ping sees it, or nothing was lost.
        with made.connect() as connection:
            expect(connection.scalar(sa.text("select 2")), 2)
    made.dispose()


@step
def changed_tables_invalidate_plans():
    asyncio.run(change_tables_under_asyncpg())
    made = engine("psycopg", connect_args={"prepare_threshold": 0})
    with made.connect() as connection, made.connect() as other:
        for turn in range(3):
            expect(len(connection.execute(sa.text("select * from sqlalchemy_suite.changing")).one()), 2 + turn)
            connection.commit()
            other.execute(sa.text(f"alter table sqlalchemy_suite.changing add column extra_{turn} int"))
            other.commit()
            with raises(sa.exc.NotSupportedError, "0A000"):
                connection.execute(sa.text("select * from sqlalchemy_suite.changing"))
            # psycopg forgets its statements with a transaction that failed.
            connection.rollback()
    made.dispose()


async def change_tables_under_asyncpg():
    made = engine("asyncpg")
    async with made.connect() as connection, made.connect() as other:
        await other.execute(sa.text("create table sqlalchemy_suite.changing as select 1 as id"))
        await other.commit()
        query = sa.text("select * from sqlalchemy_suite.changing")
        expect(len((await connection.execute(query)).one()), 1)
        await connection.commit()
        await other.execute(sa.text("alter table sqlalchemy_suite.changing add column more int"))
        await other.commit()
        with raises(sa.exc.NotSupportedError):
            await connection.execute(query)
        await connection.rollback()
        expect(len((await connection.execute(query)).one()), 2)
    await made.dispose()


@step
def reflection():
    made = engine("psycopg")
    found = sa.inspect(made)
    expect({"accounts", "owners"} - set(found.get_table_names(schema="sqlalchemy_suite")), set())
    expect([each["name"] for each in found.get_enums(schema="sqlalchemy_suite")], ["mood"])
    keys = found.get_foreign_keys("accounts", schema="sqlalchemy_suite")
    expect(keys[0]["referred_table"], "owners")
    metadata = sa.MetaData(schema="sqlalchemy_suite")
    metadata.reflect(made, only=["owners", "accounts"])
    expect(len(metadata.tables), 2)
    brief = sa.Table("brief", sa.MetaData(), sa.Column("id", sa.Integer), prefixes=["TEMPORARY"])
    with made.begin() as connection:
        brief.create(connection)
        connection.execute(brief.insert(), [{"id": n} for n in range(lengths(100, 5000))])
        expect(connection.scalar(sa.select(sa.func.count()).select_from(brief)), lengths(100, 5000))
        brief.drop(connection)
    made.dispose()


if __name__ == "__main__":
    main(prepare)
