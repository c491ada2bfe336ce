// What users of node's `pg` do, with clients, Pool and pg-cursor: pg.mjs [STEP…]

import { clients, expect, lengths, load, main, mode, numbers, place, raises, rounds, shuffled, step, until } from './suite.mjs';

const pg = load('pg');
const Cursor = load('pg-cursor');

/// Connects as many, gives them to `work`, and ends them.
async function withClients(count, work, named = () => ({})) {
  const opened = numbers(count).map((number) => new pg.Client({ ...place, ...named(number) }));
  try {
    await Promise.all(opened.map((client) => client.connect()));
    return await work(opened);
  } finally {
    await Promise.all(opened.map((client) => client.end()));
  }
}

const one = async (client, text, values) => Object.values((await client.query(text, values)).rows[0])[0];

step(async function settings_stay_with_their_connection() {
  const named = (number) => ({
    application_name: `client ${number}`,
    statement_timeout: 100_000 + number,
    options: number % 2 ? '-c timezone=Asia/Tokyo' : undefined,
  });
  await withClients(
    clients,
    async (opened) => {
      for (const [number, client] of opened.entries()) {
        await client.query(`set search_path to "schema ${number}", public`);
        await client.query("select set_config('app.tenant_id', $1, false)", [`tenant ${number}`]);
      }
      for (let round = 0; round < rounds; round += 1) {
        for (const [number, client] of shuffled([...opened.entries()])) {
          const { rows } = await client.query({
            text: `select current_setting('application_name'), current_setting('statement_timeout'),
                     current_setting('search_path'), current_setting('app.tenant_id'),
                     current_setting('timezone') = 'Asia/Tokyo'`,
            rowMode: 'array',
          });
          const path = `"schema ${number}", public`;
          const limit = number === 0 ? '100s' : `${100_000 + number}ms`;
          expect(rows[0], [`client ${number}`, limit, path, `tenant ${number}`, number % 2 === 1], `of ${number}`);
        }
      }
    },
    named,
  );
});

step(async function named_statements() {
  await withClients(clients, async (opened) => {
    for (let round = 0; round < rounds; round += 1) {
      for (const [number, client] of shuffled([...opened.entries()])) {
        // The same name in each client, for another text.
        const mine = { name: 'mine', text: `select $1::int * ${number} as product`, values: [round] };
        expect((await client.query(mine)).rows, [{ product: round * number }]);
        await client.query('begin');
        expect((await client.query(mine)).rows, [{ product: round * number }]);
        await client.query('commit');
      }
    }
    await raises(undefined, opened[0].query({ name: 'mine', text: 'select 2' }));
    await opened[0].query('deallocate mine');
    await raises('26000', opened[0].query({ name: 'mine', text: 'select $1::int * 0 as product', values: [1] }));
    expect(await one(opened[0], 'select 1'), 1);
    expect((await opened[1].query({ name: 'mine', text: 'select $1::int * 1 as product', values: [7] })).rows, [{ product: 7 }]);
  });
});

step(async function transactions() {
  await withClients(2, async ([client, other]) => {
    await client.query('create table node_suite.steps (id int primary key)');
    await client.query('begin isolation level serializable');
    await client.query('insert into node_suite.steps values (1)');
    await client.query('savepoint here');
    await raises('23505', client.query('insert into node_suite.steps values ($1)', [1]));
    await raises('25P02', client.query('select 1'));
    await client.query('rollback to here');
    await client.query('insert into node_suite.steps values (2)');
    expect(await one(other, 'select count(*)::int from node_suite.steps'), 0);
    await client.query('commit');
    expect(await one(other, 'select array_agg(id order by id) from node_suite.steps'), [1, 2]);
    // Queued all at once: the client sends one after the other.
    const answers = await Promise.allSettled([
      client.query('begin'),
      client.query('select 1/0'),
      client.query('select 1'),
      client.query('rollback'),
      client.query('select 2 as two'),
    ]);
    expect(answers.map((each) => each.reason?.code), [undefined, '22012', '25P02', undefined, undefined]);
    expect(answers[4].value.rows, [{ two: 2 }]);
    await raises('22012', client.query('create table node_suite.together (id int); select 1/0'));
    expect(await one(other, "select to_regclass('node_suite.together')"), null);
    const results = await client.query("select 1 as one; select 'two' as two");
    expect(results.map((each) => each.rows[0]), [{ one: 1 }, { two: 'two' }]);
    expect((await client.query('')).rows, []);
  });
});

step(async function a_pool_with_more_borrowers_than_clients() {
  const pool = new pg.Pool({ ...place, max: clients, idleTimeoutMillis: 1000 });
  try {
    await pool.query('create table node_suite.accounts as select n as id, 100 as balance from generate_series(0, 9) n');
    const transfer = async (number) => {
      const client = await pool.connect();
      try {
        await client.query('begin');
        await client.query("select set_config('app.number', $1, true)", [String(number)]);
        const [source, target] = [number % 10, (number * 7 + 1) % 10].sort();
        const text = 'update node_suite.accounts set balance = balance + $1 where id = $2';
        await client.query({ name: 'update', text, values: [number, source] });
        await client.query({ name: 'update', text, values: [-number, target] });
        expect(await one(client, "select current_setting('app.number')"), String(number));
        await client.query(number % 5 ? 'commit' : 'rollback');
      } finally {
        client.release();
      }
    };
    await Promise.all(numbers(clients * 4 * rounds).map(transfer));
    const { rows } = await pool.query('select sum(balance)::int as sum from node_suite.accounts');
    expect(rows, [{ sum: 1000 }]);
    const found = await Promise.all(numbers(100).map((number) => pool.query('select $1::int as n', [number])));
    expect(found.map((each) => each.rows[0].n), numbers(100));
    // A client that is thrown away, and one that was ended while it rested.
    (await pool.connect()).release(true);
    pool.on('error', () => {});
    const resting = await pool.connect();
    await resting.query("set application_name to 'pg to be ended'");
    resting.release();
    await withClients(1, async ([other]) => {
      await other.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pg to be ended'");
    });
    await until(() => pool.query('select 1').then(() => true, () => false));
  } finally {
    await pool.end();
  }
});

step(async function cursors() {
  const count = lengths(1000, 30000);
  await withClients(2, async ([client, other]) => {
    await client.query('begin');
    const cursor = client.query(new Cursor('select generate_series(1, $1::int) as n', [count]));
    let sum = 0;
    for (;;) {
      const rows = await cursor.read(73);
      if (rows.length === 0) break;
      sum += rows.reduce((total, row) => total + row.n, 0);
    }
    expect(sum, (count * (count + 1)) / 2);
    await client.query('commit');
    // Outside of a transaction: the portal keeps it open until the cursor is closed.
    const given_up = client.query(new Cursor('select generate_series(1, 1000) as n'));
    expect((await given_up.read(10)).length, 10);
    expect(await one(other, 'select 1'), 1);
    expect((await given_up.read(10))[0].n, 11);
    await given_up.close();
    expect(await one(client, 'select 2'), 2);
    const failing = client.query(new Cursor('select 1 / (5 - n) from generate_series(1, 10) n'));
    await raises('22012', failing.read(10));
    expect(await one(client, 'select 3'), 3);
  });
});

step(async function notifications() {
  await withClients(2, async ([listener, sender]) => {
    const heard = [];
    listener.on('notification', (note) => heard.push(note));
    await listener.query('listen pg_news');
    for (const number of numbers(3)) await sender.query("select pg_notify('pg_news', $1)", [String(number)]);
    await until(() => heard.length === 3);
    expect(heard.map((note) => note.payload), ['0', '1', '2']);
    if (mode !== 'transaction') expect(heard[0].processId, sender.processID);
    await listener.query('unlisten *');
    const notices = [];
    sender.on('notice', (notice) => notices.push(notice.message));
    await sender.query("do $$ begin raise notice 'heard'; end $$");
    expect(notices, ['heard']);
  });
});

step(async function temporary_tables_and_locks() {
  await withClients(2, async (both) => {
    for (const [number, client] of both.entries()) {
      await client.query(`create temp table private as select ${number} as number`);
    }
    for (let round = 0; round < rounds; round += 1) {
      for (const [number, client] of both.entries()) {
        expect(await one(client, 'select number from private'), number);
      }
    }
    for (const client of both) await client.query('drop table private');
    await both[0].query('select pg_advisory_lock(77)');
    expect(await one(both[1], 'select pg_try_advisory_lock(77)'), false);
    await both[0].query('select pg_advisory_unlock(77)');
  });
});

step(async function timeouts() {
  await withClients(
    1,
    async ([client]) => {
      await raises('57014', client.query('select pg_sleep(60)'));
      expect(await one(client, 'select 1'), 1);
      await client.query('set statement_timeout to 0');
      await client.query('select pg_sleep(0.1)');
      await client.query("set idle_in_transaction_session_timeout to '100ms'");
      const ended = new Promise((resolve) => client.once('error', resolve));
      await client.query('begin');
      await client.query('select 1');
      expect((await ended).code, '25P03');
    },
    () => ({ statement_timeout: 50 }),
  );
});

step(async function types_and_large_values() {
  const text = 'äöü€'.repeat(lengths(50_000, 1_000_000));
  await withClients(2, async ([client, other]) => {
    await other.query("create type node_suite.mood as enum ('sad', 'ok')");
    expect(await one(client, "select 'ok'::node_suite.mood"), 'ok');
    expect((await one(client, 'select $1::text', [text])) === text, true);
    const content = Buffer.alloc(lengths(50_000, 3_000_000), 'binary \0');
    expect((await one(client, 'select $1::bytea', [content])).equals(content), true);
    const row = await client.query("select '{1,2}'::int[] as list, '{\"a\": 1}'::jsonb as data, 1.5::numeric as number");
    expect(row.rows, [{ list: [1, 2], data: { a: 1 }, number: '1.5' }]);
    const binary = await client.query({ text: 'select 7::int4 as n', binary: true });
    expect(binary.rows, [{ n: 7 }]);
  });
});

step(async function changed_tables_invalidate_plans() {
  await withClients(2, async ([client, other]) => {
    await other.query('create table node_suite.changing as select 1 as id');
    const query = { name: 'changing', text: 'select * from node_suite.changing' };
    expect((await client.query(query)).rows, [{ id: 1 }]);
    await other.query('alter table node_suite.changing add column extra int default 7');
    await raises('0A000', client.query(query));
    expect((await client.query({ ...query, name: 'again' })).rows, [{ id: 1, extra: 7 }]);
  });
});

step(async function roles_and_databases_of_its_own() {
  await withClients(1, async ([owner]) => {
    await owner.query('drop database if exists node_suite_db');
    await owner.query('drop role if exists node_suite_role');
    await owner.query("create role node_suite_role login password 'its own'");
    await owner.query('create database node_suite_db owner node_suite_role');
    const own = { user: 'node_suite_role', password: 'its own', database: 'node_suite_db' };
    await withClients(
      2,
      async ([client, second]) => {
        await client.query('create table mine (id int)');
        const who = "select concat_ws(' ', current_user, current_database(), count(*)) from mine";
        expect(await one(second, who), 'node_suite_role node_suite_db 0');
      },
      () => own,
    );
    await owner.query('drop database node_suite_db with (force)');
    await owner.query('drop role node_suite_role');
  });
});

await main(() =>
  withClients(1, ([client]) => client.query('drop schema if exists node_suite cascade; create schema node_suite')),
);
