// What the suites of this folder share: where to connect to, the register of steps, how differences are told. As
// suite.py says, which see for what is told to them by environment variables and what they say.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isDeepStrictEqual, inspect } from 'node:util';

/// Loads a package of .tools/node.
export const load = createRequire(new URL('../../../.tools/node/package.json', import.meta.url));

export const long = process.env.SUITE_LENGTH === 'long';
export const mode = process.env.SUITE_MODE;
export const clients = long ? 12 : 6;
export const rounds = long ? 20 : 4;
export const lengths = (short, length) => (long ? length : short);

const STEP_LIMIT = 120_000;

/// How to reach the stage by address, TLS verified for its name.
export const place = {
  host: process.env.PGHOSTADDR,
  port: Number(process.env.PGPORT),
  user: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
  ssl: { ca: readFileSync(process.env.PGSSLROOTCERT, 'utf8'), servername: process.env.PGHOST },
};
// Both drivers read libpq's variables, and would take the name as an address.
for (const name of Object.keys(process.env)) {
  if (name.startsWith('PG')) delete process.env[name];
}

const steps = [];

/// Registers one step by its function's name.
export function step(work) {
  steps.push(work);
}

/// Ends the step where the two are not equal.
export function expect(found, wanted, what = '') {
  if (!isDeepStrictEqual(found, wanted)) {
    throw new Error(`${what}: found ${inspect(found)}, wanted ${inspect(wanted)}`);
  }
}

/// The error with which `work` must end, with this SQLSTATE or code.
export async function raises(code, work) {
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (error) {
    if (error.code !== code) throw new Error(`wanted ${code}, got ${error.code}: ${error.message}`, { cause: error });
    return error;
  }
  throw new Error(`no ${code}: the error got lost`);
}

/// The numbers below `count`.
export const numbers = (count) => Array.from({ length: count }, (_, number) => number);

/// The same in an order of chance.
export function shuffled(list) {
  return list.map((each) => [Math.random(), each]).sort((one, two) => one[0] - two[0]).map(([, each]) => each);
}

/// Waits until `look` finds something.
export async function until(look) {
  while (!(await look())) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function inTime(work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the step hangs: not done after ${STEP_LIMIT} ms`)), STEP_LIMIT);
  });
  try {
    await Promise.race([work(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/// Runs `prepare`, then all steps, or those that are named by the arguments.
export async function main(prepare) {
  const names = process.argv.slice(2);
  let differences = 0;
  await prepare();
  for (const work of steps.filter((each) => names.length === 0 || names.includes(each.name))) {
    const began = performance.now();
    try {
      await inTime(work);
      console.log(`ok ${work.name} ${((performance.now() - began) / 1000).toFixed(1)} s`);
    } catch (error) {
      differences += 1;
      console.log(`DIFFERS ${work.name}: ${error.message}`);
      console.error(error.stack);
      if (!long) break;
    }
  }
  console.log(differences === 0 ? 'all well' : `${differences} steps differ`);
  // Whatever a step left open does not hold the process.
  process.exit(differences === 0 ? 0 : 1);
}
