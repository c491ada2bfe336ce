// The dashboard in a real browser: a wake is seen as it happens, an endpoint's own view shows its phases, the buttons do what
// they say for those who may, and the browser has nothing to complain about. Run by .ci/dashboard, which says where
// everything is.

import { spawn } from "node:child_process";
import { createRequire } from "node:module";

const { chromium } = createRequire(process.env.PACKAGES + "/")("playwright-core");
const { URL_OPERATORS: url, LINE: line, CHROMIUM: executablePath, PICTURES: pictures } = process.env;
const PATIENCE = 90000;

// Without these a browser looks for its maker, and a page that asks nobody else could not be told from one that does.
const quiet = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const browser = await chromium.launch({ executablePath, args: quiet });
const complaints = [];
const foreign = [];

async function open(scheme, width, height, path) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height } });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("console", said => { if (["error", "warning"].includes(said.type())) complaints.push(said.text()); });
  page.on("pageerror", error => complaints.push(String(error)));
  page.on("request", request => { if (!request.url().startsWith(url)) foreign.push(request.url()); });
  await page.goto(url + path);
  return page;
}
function expect(holds, what) {
  if (!holds) throw new Error(what + " — complaints: " + JSON.stringify(complaints));
  console.log("ok: " + what);
}
// Waits until the text of what `selector` finds has `words` in it; it runs in the page, where nothing of this file is.
const reads = (page, selector, words) => page.waitForFunction(
  ([selector, words]) => new RegExp(words).test(document.querySelector(selector)?.textContent), [selector, words]);
// Ends with its statement.
const psql = sql => new Promise(done => {
  spawn("bash", ["-c", `${line} -X -q -A -t -c "${sql}"`], { stdio: "ignore" }).on("exit", done);
});

const { OPERATE: operate, READ: read } = process.env;

// Without a token it asks for one; the browser itself tells of the 401.
const page = await open("light", 1280, 1000, "/");
await page.waitForSelector("#ask:not([hidden])");
complaints.length = 0;
await page.fill("#ask-token", operate);
await page.click("#ask-form button");
await page.waitForFunction(() => document.getElementById("live").textContent === "live");
await page.waitForSelector('tr[data-endpoint="demo-main"]');
const count = Number(await page.locator("#count").textContent());
expect(count > 1000, `${count} endpoints are listed`);

await page.fill("#find", "demo-main");
await reads(page, "#endpoints tr", "asleep");
const client = psql("select pg_sleep(3)");
await reads(page, "#endpoints tr", "awake");
expect(true, "a wake is seen as it happens");
await page.waitForFunction(() => document.querySelectorAll("#timeline svg line").length > 1);
expect(true, "the timeline has it");
expect(await page.locator('#timeline line[stroke="var(--failed)"]').count() === 0, "a wake that goes on is not one that failed");
await reads(page, "#tenants", "shops.*(clients_max 0 of 50|wakes 0 of 9 in)");
expect(true, "tenants stand beside their limits");
await page.click('tr[data-endpoint="demo-main"]');
await page.waitForFunction(() => document.querySelectorAll("#one .fall i").length > 1);
expect(true, "its phases are drawn");
await reads(page, "#one tbody", "active|idle|waiting");
expect(true, "its session is shown");
await page.screenshot({ path: pictures + "/light-endpoint.png" });
expect((await client) === 0, "its client was served");
await page.waitForFunction(() => /nobody is here/.test(document.querySelector("#one").textContent));
await page.locator("#one button", { hasText: "Suspend" }).click();
await reads(page, "#one h2", "asleep");
expect(true, "it is suspended by a button");
await page.locator("#one button", { hasText: "Wake" }).click();
await reads(page, "#one h2", "awake");
expect(true, "and woken by another");
await page.locator("#one button", { hasText: "Close" }).click();
await page.fill("#find", "");
await page.waitForFunction(() => document.querySelectorAll("#latency .bar").length > 0);
const was = await page.textContent("#version");
await page.waitForFunction((was) => document.querySelector("#version").textContent !== was, was);
expect(true, "it goes on telling how long pgwake has been up");
await page.screenshot({ path: pictures + "/light.png" });

const dark = await open("dark", 1280, 1000, "/#token=" + operate);
await dark.waitForSelector('tr[data-endpoint="demo-main"]');
expect(!dark.url().includes("token"), "the token does not stay in the address");
await dark.screenshot({ path: pictures + "/dark.png" });

const phone = await open("dark", 390, 844, "/#token=" + read);
await phone.waitForSelector('tr[data-endpoint="demo-main"]');
expect(!(await phone.evaluate(() => document.documentElement.scrollWidth > innerWidth)), "a phone need not scroll sideways");
await phone.screenshot({ path: pictures + "/phone.png" });
expect(complaints.length === 0, "the browser has nothing to complain about");
expect(foreign.length === 0, "nobody else is asked for anything: " + foreign.join(", "));

// Last, because the browser tells of the 403.
await phone.locator('tr[data-endpoint="shop-0000"] button, tr[data-endpoint="demo-preview"] button').first().click();
await reads(phone, "#note", "only for looking");
expect(true, "who may only look is told so");
await browser.close();
