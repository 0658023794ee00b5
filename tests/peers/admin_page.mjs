// The admin page in Chromium: with and without JavaScript, by the right and by the wrong people, at two widths, in light and
// dark. `node admin_page.mjs` with JSON in PAGE: {url, many, token, provider, frozen, screenshots}.
import assert from "node:assert/strict";
import { createServer, request } from "node:http";
import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "playwright-core";

const { url, many, token, provider, frozen, screenshots } = JSON.parse(process.env.PAGE);
const port = new URL(url).port;
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", `--host-resolver-rules=MAP evil.test 127.0.0.1`, "--disable-gpu"],
});

const WIDE = { width: 1280, height: 900 };
const NARROW = { width: 360, height: 740 };

/// What a page says that it must not: errors of its own, of the policy, and requests elsewhere.
async function opened(options, at = url) {
  const context = await browser.newContext({ viewport: WIDE, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", message => message.type() === "error" && wrong.push(message.text()));
  page.on("pageerror", error => wrong.push(String(error)));
  page.on("request", request => {
    const asked = request.url();
    if (!asked.startsWith(at) && !asked.startsWith("data:")) wrong.push(`asks for ${asked}`);
  });
  const response = await page.goto(at + "/");
  assert.equal(response.status(), 200);
  return { page, context, wrong, headers: response.headers() };
}

async function status() {
  return (await fetch(url + "/status")).json();
}

async function accessible(page, what) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const told = violations.map(one => `${one.id}: ${one.nodes.map(node => node.html).join("\n  ")}`);
  assert.deepEqual(told, [], what);
}

async function fits(page, width, what) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= width, `${what} is ${wide} pixels wide`);
}

async function shot(page, name) {
  await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
}

const tests = {
  async "the state is read without JavaScript"() {
    const { page, context, wrong, headers } = await opened({ javaScriptEnabled: false });
    const state = await page.locator("h1").innerText();
    assert.match(state, /^Bursar is at work, but 1 payment is in doubt/);
    assert.match(state, new RegExp(`${frozen} is frozen`));
    const text = await page.locator("main").innerText();
    assert.match(text, /bursar outcomes resolve [0-9a-f]{32} --note TEXT/);
    assert.match(text, /The last hour[\s\S]*Requests[\s\S]*at most \d+ in a minute/);
    assert.match(text, /no provider has|Nobody has the host/);
    assert.equal(await page.locator("button[data-verb]:visible").count(), 0);
    assert.match(text, new RegExp(`bursar freeze ${provider}`));
    assert.equal(headers["cache-control"], "no-store");
    assert.equal(headers["set-cookie"], undefined);
    assert.match(headers["content-security-policy"], /frame-ancestors 'none'/);
    for (const [scheme, size, name] of [
      ["light", WIDE, "light-1280"], ["dark", WIDE, "dark-1280"],
      ["light", NARROW, "light-360"], ["dark", NARROW, "dark-360"],
    ]) {
      await page.emulateMedia({ colorScheme: scheme });
      await page.setViewportSize(size);
      await fits(page, size.width, name);
      await shot(page, name);
    }
    assert.deepEqual(wrong, []);
    await context.close();
  },

  async "nothing is found by axe in light and dark, wide and narrow, with and without the dialog"() {
    for (const [colorScheme, viewport] of [["light", WIDE], ["dark", NARROW]]) {
      const { page, context, wrong } = await opened({ colorScheme, viewport });
      await page.locator("details").evaluateAll(all => all.forEach(one => { one.open = true; }));
      await accessible(page, colorScheme);
      await page.getByRole("button", { name: `Freeze ${provider}` }).click();
      await accessible(page, `${colorScheme}, dialog`);
      await page.screenshot({ path: `${screenshots}/dialog-${colorScheme}.png` });
      assert.deepEqual(wrong, []);
      await context.close();
    }
  },

  async "a provider is frozen and thawed with the right token and its name typed, and not otherwise"() {
    const { page, context, wrong } = await opened({});
    const go = page.locator("#go");
    await page.getByRole("button", { name: `Freeze ${provider}` }).click();
    await page.getByLabel("Why").fill("Störung <b>#17</b>");
    await page.getByLabel("Your name").fill("ann");
    await page.getByLabel("For how long").selectOption("30m");
    await page.getByLabel("admin_token").fill("wrong-token-0123456789");
    assert.ok(await go.isDisabled());
    await page.getByLabel("to confirm").fill(provider + "x");
    assert.ok(await go.isDisabled());
    await page.keyboard.press("Enter");
    assert.deepEqual((await status()).frozen, [frozen]);
    await page.getByLabel("to confirm").fill(provider);
    await go.click();
    await page.getByText("The token is wrong. Nothing has changed.").waitFor();
    assert.deepEqual((await status()).frozen, [frozen]);
    // Chromium says that a response was 401.
    assert.equal(wrong.length, 1);
    wrong.length = 0;

    await page.getByLabel("admin_token").fill(token);
    await page.keyboard.press("Enter");
    await page.getByText(`${provider} is frozen until `).waitFor();
    const { freezes } = await status();
    const freeze = freezes.find(one => one.provider === provider);
    assert.equal(freeze.by, "ann at the admin page");
    assert.equal(freeze.reason, "Störung <b>#17</b>");
    assert.ok(freeze.until);
    const section = page.locator("#providers");
    await section.getByText("by ann at the admin page").waitFor();
    assert.match(await section.innerText(), /Frozen[\s\S]*by ann at the admin page: Störung <b>#17<\/b>/);
    assert.equal(await page.locator("#providers b").count(), 0);
    assert.equal(await page.locator("noscript code:visible").count(), 0);

    // By keyboard alone: the button has the focus, and the token is still in memory.
    await page.waitForFunction(name => document.activeElement.textContent === name, `Thaw ${provider}`);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    await page.keyboard.type(provider);
    await page.keyboard.press("Enter");
    await page.getByText(`${provider} is not frozen`).waitFor();
    assert.deepEqual((await status()).frozen, [frozen]);

    // The file freezes the other one.
    assert.match(await section.innerText(), /by the configuration/);
    assert.equal(await page.getByRole("button", { name: `Thaw ${frozen}` }).count(), 0);
    const kept = await page.evaluate(() => localStorage.length + sessionStorage.length);
    assert.deepEqual([kept, (await context.cookies()).length, wrong], [0, 0, []]);
    assert.ok(!page.url().includes(token));
    await context.close();
  },

  async "a thaw against the file is told of for as long as it is, and a token that cannot be one is not sent"() {
    const headers = { Authorization: `Bearer ${token}` };
    assert.equal((await fetch(`${url}/freeze/${frozen}`, { method: "POST", headers })).status, 200);
    const { page, context, wrong } = await opened({});
    const thaw = page.getByRole("button", { name: `Thaw ${frozen}` });
    await thaw.click();
    assert.match(await page.locator("#ask").innerText(), /^Thaw \S+ at \S+:\d+$/);
    assert.match(await page.locator("#effect").innerText(), /at this instance alone/);
    await page.getByLabel("admin_token").fill(`${token}\u200b`);
    await page.getByLabel("to confirm").fill(frozen);
    await page.keyboard.press("Enter");
    await page.getByText("a character that no token has. Nothing has changed.").waitFor();
    await page.getByLabel("admin_token").fill(token);
    await page.keyboard.press("Enter");
    await page.getByText(`${frozen} stays frozen, because`).waitFor();
    await thaw.waitFor({ state: "detached" });
    await page.evaluate(() => new Promise(done => setTimeout(done, 300)));
    assert.match(await page.locator("#said").innerText(), /stays frozen/);
    assert.equal(await page.evaluate(() => document.activeElement.id), "said");
    // Chromium says that a response was 409.
    assert.equal(wrong.length, 1, wrong);
    await context.close();
  },

  async "what is under way is told of beside the dialog of another change"() {
    const { page, context } = await opened({});
    let answer;
    await page.route("**/freeze/*", route => { answer = () => route.fulfill({ status: 401, body: "" }); });
    await page.getByRole("button", { name: `Freeze ${provider}` }).click();
    await page.getByLabel("admin_token").fill(token);
    await page.getByLabel("to confirm").fill(provider);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Freeze quidkey" }).click();
    await page.getByLabel("Why").fill("another");
    answer();
    await page.getByText(`${provider}: The token is wrong.`).waitFor({ state: "attached" });
    assert.ok(await page.locator("dialog").isVisible());
    assert.equal(await page.locator("#error").innerText(), "");
    assert.equal(await page.getByLabel("Why").inputValue(), "another");
    await context.close();
  },

  async "below a path of a proxy all that is asked for is below it"() {
    const leaked = [];
    const proxy = createServer((asked, response) => {
      if (!asked.url.startsWith("/bursar/")) {
        // A browser's own, for what is no page.
        if (asked.url !== "/favicon.ico") leaked.push(`${asked.method} ${asked.url}`);
        response.writeHead(404).end();
        return;
      }
      const options = { port, path: asked.url.slice("/bursar".length), method: asked.method, headers: asked.headers };
      asked.pipe(request(options, answer => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      }));
    });
    await new Promise(done => proxy.listen(0, "127.0.0.1", done));
    const at = `http://127.0.0.1:${proxy.address().port}/bursar`;
    const { page, context } = await opened({}, at);
    for (const verb of ["Freeze", "Thaw"]) {
      await page.getByRole("button", { name: `${verb} ${provider}` }).click();
      await page.getByLabel("admin_token").fill(token);
      await page.getByLabel("to confirm").fill(provider);
      await page.keyboard.press("Enter");
      await page.getByText(`${provider} is ${verb === "Freeze" ? "frozen" : "not frozen"}`).waitFor();
    }
    await page.getByRole("link", { name: "JSON" }).click();
    assert.equal(page.url(), `${at}/status`);
    assert.deepEqual(leaked, []);
    await context.close();
    proxy.close();
    proxy.closeAllConnections();
  },

  async "a name that leads here is refused, and so are pages of others, in frames and as origins"() {
    const context = await browser.newContext();
    const page = await context.newPage();
    const named = await page.goto(`http://evil.test:${port}/`);
    assert.equal(named.status(), 421);
    assert.doesNotMatch(await named.text(), /Providers/);

    const html = `<!doctype html><title>other</title><iframe src="${url}/"></iframe>`;
    const other = createServer((_, response) => {
      response.setHeader("content-type", "text/html").end(html);
    });
    await new Promise(done => other.listen(0, "127.0.0.1", done));
    for (const host of ["127.0.0.1", "localhost"]) {
      await page.goto(`http://${host}:${other.address().port}/`, { waitUntil: "load" });
      const framed = page.frames().find(frame => frame !== page.mainFrame());
      assert.doesNotMatch(await framed.content(), /Bursar/);
      const results = await page.evaluate(async ([url, provider, token]) => {
        const headers = { Authorization: `Bearer ${token}` };
        const path = `${url}/freeze/${provider}`;
        const ask = (path, options) => fetch(path, options).then(response => response.type, () => "refused");
        return [
          await ask(path, { method: "POST", mode: "no-cors" }),
          await ask(path, { method: "POST", headers }),
          await ask(`${url}/status`),
        ];
      }, [url, provider, token]);
      assert.deepEqual(results, ["refused", "refused", "refused"]);
    }
    other.close();
    assert.deepEqual((await status()).frozen, [frozen]);
    await context.close();
  },

  async "ten thousand accounts are a page that is quick to load, and each is found"() {
    const begun = performance.now();
    const { page, context, wrong } = await opened({}, many);
    const took = performance.now() - begun;
    assert.ok(took < 10_000, `${took} ms`);
    assert.equal(await page.locator("#tokens tbody tr").count(), 50);
    const caption = await page.locator("#tokens caption").innerText();
    assert.match(caption, /^10,000 tokens/);
    const size = (await page.content()).length;
    assert.ok(size < 150_000, `${size} characters`);
    await page.getByRole("link", { name: "Next page" }).click();
    await page.getByText("Page 2 of 200").waitFor();
    await page.getByLabel("Provider, account or scope").fill("shop-9999");
    await page.getByRole("button", { name: "Find" }).click();
    await page.locator("#tokens").getByText("shop-9999").waitFor();
    assert.equal(await page.locator("#tokens tbody tr").count(), 1);
    await accessible(page, "ten thousand accounts");
    await shot(page, "many-accounts");
    assert.deepEqual(wrong, []);
    await context.close();
  },
};

try {
  for (const [name, test] of Object.entries(tests)) {
    const begun = performance.now();
    await test();
    console.log(`${name}: ${Math.round(performance.now() - begun)} ms`);
  }
} finally {
  await browser.close();
}
