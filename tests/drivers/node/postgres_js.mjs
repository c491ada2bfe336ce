// What users of postgres.js do: postgres_js.mjs [STEP…]

import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { clients, expect, lengths, load, main, numbers, place, raises, rounds, step, until } from './suite.mjs';

const postgres = load('postgres');

/// One client with its pool; the last step's connections are ended before the next step.
async function connected(named, work) {
  const sql = postgres({ ...place, max: clients, onnotice: () => {}, ...named });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

step(async function settings_stay_with_their_connection() {
  const pools = numbers(3).map((number) =>
    postgres({
      ...place,
      max: 2,
      connection: { application_name: `pool ${number}`, search_path: `schema_${number}`, statement_timeout: 90_000 + number },
    }),
  );
  try {
    const looks = numbers(clients * rounds * 3).map(async (turn) => {
      const number = turn % 3;
      const [row] = await pools[number]`
        select current_setting('application_name') as name, current_setting('search_path') as path,
               current_setting('statement_timeout') as limit, ${turn}::int as turn`;
      const limit = number === 0 ? '90s' : `${90_000 + number}ms`;
      expect({ ...row }, { name: `pool ${number}`, path: `schema_${number}`, limit, turn });
    });
    await Promise.all(looks);
    const reserved = await pools[0].reserve();
    await reserved`set timezone to 'Asia/Tokyo'`;
    expect((await pools[1]`show timezone`)[0].TimeZone === 'Asia/Tokyo', false, 'a stranger’s time zone');
    expect((await reserved`show timezone`)[0].TimeZone, 'Asia/Tokyo');
    await reserved`reset timezone`;
    reserved.release();
  } finally {
    await Promise.all(pools.map((sql) => sql.end({ timeout: 5 })));
  }
});

step(async function statements_are_prepared_by_themselves() {
  await connected({}, async (sql) => {
    const answers = numbers(clients * rounds * 10).map((n) => sql`select ${n}::int * 2 as n, ${`text ${n % 7}`} as text`);
    for (const [number, [row]] of (await Promise.all(answers)).entries()) {
      expect({ ...row }, { n: number * 2, text: `text ${number % 7}` });
    }
    await raises('22012', sql`select 1 / ${0}::int`);
    expect((await sql`select 1 as one`)[0].one, 1);
  });
  await connected({ prepare: false }, async (sql) => {
    const answers = await Promise.all(numbers(100).map((n) => sql`select ${n}::int as n`));
    expect(answers.map(([row]) => row.n), numbers(100));
  });
  await connected({ max_lifetime: 1, idle_timeout: 1 }, async (sql) => {
    const end = Date.now() + lengths(1500, 4000);
    while (Date.now() < end) expect((await sql`select ${7}::int as n`)[0].n, 7);
  });
});

step(async function transactions_and_savepoints() {
  await connected({}, async (sql) => {
    await sql`create table postgres_js.steps (id int primary key)`;
    await sql.begin('isolation level serializable', async (own) => {
      await own`insert into postgres_js.steps values (1)`;
      await raises('23505', own.savepoint((inner) => inner`insert into postgres_js.steps values (1)`));
      await own`insert into postgres_js.steps values (2)`;
      const [{ count }] = await sql`select count(*)::int from postgres_js.steps`;
      expect(count, 0);
    });
    await raises('22012', sql.begin(async (own) => {
      await own`insert into postgres_js.steps values (3)`;
      await own`select 1/0`;
    }));
    // Several statements of a transaction in one go.
    const both = await sql.begin((own) => [own`select 1 as n`, own`select 2 as n`]);
    expect(both.map(([row]) => row.n), [1, 2]);
    expect((await sql`select array_agg(id order by id) as ids from postgres_js.steps`)[0].ids, [1, 2]);
  });
});

step(async function many_transactions_lose_nothing() {
  await connected({}, async (sql) => {
    await sql`create table postgres_js.accounts as select n as id, 100 as balance from generate_series(0, 9) n`;
    const transfers = numbers(clients * rounds * 4).map((number) =>
      sql.begin(async (own) => {
        const [source, target] = [number % 10, (number * 3 + 1) % 10].sort();
        await own`select set_config('app.number', ${String(number)}, true)`;
        await own`update postgres_js.accounts set balance = balance + ${number} where id = ${source}`;
        await own`update postgres_js.accounts set balance = balance - ${number} where id = ${target}`;
        const [row] = await own`select current_setting('app.number')::int as number`;
        expect(row.number, number);
      }),
    );
    await Promise.all(transfers);
    expect((await sql`select sum(balance)::int as sum from postgres_js.accounts`)[0].sum, 1000);
  });
});

step(async function cursors_and_copy() {
  const count = lengths(1000, 40000);
  await connected({}, async (sql) => {
    let sum = 0;
    for await (const rows of sql`select generate_series(1, ${count}::int) as n`.cursor(77)) {
      sum += rows.reduce((total, row) => total + row.n, 0);
    }
    expect(sum, (count * (count + 1)) / 2);
    await sql`select generate_series(1, 1000) as n`.cursor(10, (rows) => (rows[0].n > 50 ? sql.CLOSE : undefined));
    let seen = 0;
    await sql`select generate_series(1, ${count}::int) as n`.forEach(() => (seen += 1));
    expect(seen, count);
    await sql`create table postgres_js.copied (id int primary key, note text)`;
    const lines = numbers(count).map((n) => `${n}\tsome text\n`);
    await pipeline(Readable.from(lines), await sql`copy postgres_js.copied from stdin`.writable());
    let got = '';
    for await (const chunk of await sql`copy (select * from postgres_js.copied order by id) to stdout`.readable()) got += chunk;
    expect(got === lines.join(''), true, 'what was copied out');
    expect((await sql`select count(*)::int from postgres_js.copied`)[0].count, count);
  });
});

step(async function notifications() {
  await connected({}, async (sql) => {
    const heard = [];
    const { unlisten } = await sql.listen('postgres_js_news', (payload) => heard.push(payload));
    for (const number of numbers(5)) await sql.notify('postgres_js_news', String(number));
    await until(() => heard.length === 5);
    expect(heard, ['0', '1', '2', '3', '4']);
    await unlisten();
    await sql.notify('postgres_js_news', 'too late');
    expect(heard.length, 5);
  });
});

step(async function cancelled_statements() {
  await connected({}, async (sql) => {
    const sleeping = sql`select pg_sleep(60)`;
    const ended = raises('57014', sleeping);
    await until(async () => (await sql`select 1 from pg_stat_activity where wait_event = 'PgSleep'`).length > 0);
    sleeping.cancel();
    await ended;
    expect((await sql`select 1 as one`)[0].one, 1);
  });
});

step(async function changed_tables_are_prepared_again() {
  await connected({ max: 1 }, async (sql) => {
    await connected({ max: 1 }, async (other) => {
      await other`create table postgres_js.changing as select 1 as id`;
      const look = async () => ({ ...(await sql`select * from postgres_js.changing where id = ${1}`)[0] });
      expect(await look(), { id: 1 });
      await other`alter table postgres_js.changing add column extra int default 7`;
      // The driver reads from the error's routine that it may try again.
      expect(await look(), { id: 1, extra: 7 });
      await sql.unsafe('deallocate all');
      expect(await look(), { id: 1, extra: 7 });
    });
  });
});

step(async function types_and_large_values() {
  const text = 'äöü€'.repeat(lengths(50_000, 1_000_000));
  await connected({}, async (sql) => {
    await sql`create type postgres_js.mood as enum ('sad', 'ok')`;
    expect((await sql`select ${'ok'}::postgres_js.mood as mood, ${sql.array([1, 2])}::int[] as list`)[0].list, [1, 2]);
    expect((await sql`select ${text}::text as text`)[0].text === text, true);
    expect((await sql`select ${sql.json({ a: [1] })}::jsonb as data`)[0].data, { a: [1] });
    const rows = numbers(lengths(500, 5000)).map((n) => ({ id: n, note: `note ${n}` }));
    await sql`create table postgres_js.many (id int, note text)`;
    await sql`insert into postgres_js.many ${sql(rows)}`;
    expect((await sql`select id from postgres_js.many where id in ${sql([3, 4])} order by id`).map((row) => row.id), [3, 4]);
    const several = await sql.unsafe("select 1 as one; select 'two' as two");
    expect(several.map(([row]) => ({ ...row })), [{ one: 1 }, { two: 'two' }]);
    const described = await sql`select ${1}::int as n from postgres_js.many`.describe();
    expect(described.columns[0].name, 'n');
  });
});

step(async function temporary_tables_are_private() {
  await connected({}, async (sql) => {
    const both = [await sql.reserve(), await sql.reserve()];
    for (const [number, own] of both.entries()) await own.unsafe(`create temp table private as select ${number} as number`);
    for (let round = 0; round < rounds; round += 1) {
      for (const [number, own] of both.entries()) expect((await own`select number from private`)[0].number, number);
    }
    for (const own of both) {
      await own`drop table private`;
      own.release();
    }
  });
});

await main(() =>
  connected({ max: 1 }, (sql) => sql.unsafe('drop schema if exists postgres_js cascade; create schema postgres_js')),
);
