// A Pool of node's pg with idle connections: parked.js SERVER-NAME PORT PASSWORD CA-FILE COUNT
//
// Opens them and says "open". At each line of its input it sends one statement on every connection at once and says
// "served". Ends with 1 and the error at the first one; at the end of its input says "all well" where the pool has
// never lost or replaced a connection.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const readline = require('node:readline');
const { createRequire } = require('node:module');

const { Pool } = createRequire(require.resolve('../../../.tools/node/package.json'))('pg');

const [servername, port, password, caFile, countText] = process.argv.slice(2);
const count = Number(countText);
const pool = new Pool({
  host: '127.0.0.1',
  port: Number(port),
  user: 'postgres',
  password,
  database: 'postgres',
  ssl: { ca: fs.readFileSync(caFile), servername },
  max: count,
  idleTimeoutMillis: 0,
  connectionTimeoutMillis: 60000,
});

let connected = 0;
let removed = 0;
pool.on('connect', () => (connected += 1));
pool.on('remove', () => (removed += 1));
pool.on('error', fail);

function fail(error) {
  console.error(error);
  process.exit(1);
}

// Every connection is taken before the first is asked: none is asked twice.
async function burst(ask) {
  const clients = await Promise.all(Array.from({ length: count }, () => pool.connect()));
  await Promise.all(clients.map(ask));
  clients.forEach((client) => client.release());
}

async function sum(client, number) {
  const query = { name: 'sum', text: 'select $1::int + 1 as sum, current_setting($2) as zone' };
  const { rows } = await client.query({ ...query, values: [number, 'timezone'] });
  assert.deepStrictEqual(rows, [{ sum: number + 1, zone: 'Asia/Tokyo' }]);
}

async function main() {
  await burst((client) => client.query("set timezone = 'Asia/Tokyo'"));
  console.log('open');
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    await burst(sum);
    console.log('served');
  }
  assert.deepStrictEqual([connected, removed, pool.totalCount, pool.idleCount], [count, 0, count, count]);
  pool.removeAllListeners('remove');
  await pool.end();
  console.log('all well');
}

main().catch(fail);
