// Somebody at a browser, while a rollout goes its way. Arguments: where the page is, user, password, where pictures go. `PUBLISHER` is the
// command line with its home. Each step waits for what it expects; the first that does not come ends the story with what was shown.
"use strict";

const assert = require("assert/strict");
const { execFileSync } = require("child_process");
const { launch, shots } = require("./browser.js");

const [base, user, password, into] = process.argv.slice(2);
const [program, ...home] = JSON.parse(process.env.PUBLISHER);
const publisher = (...args) => execFileSync(program, [...home, ...args], { encoding: "utf8" });
const LIMIT_MS = 40000;

const steps = {
  async "who has no JavaScript reads all of it"({ browser }) {
    const context = await browser.open({ javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(base);
    assert.deepEqual(await page.locator("table.nodes td.name a").allTextContents(), ["pi-1", "pi-2", "pi-3"]);
    await page.getByRole("link", { name: /^web / }).click();
    await page.getByText("wave 1").waitFor();
    await page.getByRole("link", { name: "log", exact: true }).click();
    await page.getByRole("cell", { name: "installed" }).first().waitFor();
    assert.equal(await page.locator("form.who").count(), 0);
    await context.close();
  },

  async "a wrong password is said, and the right one leads back"({ page }) {
    await page.goto(`${base}/rollout/web`);
    assert.equal(await page.getByRole("button", { name: "pause" }).count(), 0);
    await page.getByRole("link", { name: "log in" }).click();
    await page.getByLabel("user").fill(user);
    await page.getByLabel("password").fill("wrong");
    await page.getByRole("button", { name: "log in" }).click();
    await page.getByRole("alert").getByText("wrong user name or password").waitFor();
    await page.getByLabel("user").fill(user);
    await page.getByLabel("password").fill(password);
    await page.getByRole("button", { name: "log in" }).click();
    await page.waitForURL(`${base}/rollout/web`);
    await page.locator("form.who").getByText(user).waitFor();
  },

  async "waves are seen to pass without loading the page again"({ page }) {
    await page.evaluate(() => { window.isTheSame = true; });
    const wave = (number) => page.locator(".wave").nth(number - 1);
    await wave(1).getByText(/passed/).waitFor();
    await wave(2).getByText(/soaking/).waitFor();
    await wave(2).getByText(/ left/).waitFor();
    assert.equal(await wave(1).locator("rect.good").getAttribute("width"), "100.00");
    assert.ok(await page.evaluate(() => window.isTheSame));
  },

  async "who pauses it sees that at once, and how it goes on"({ page }) {
    await page.getByRole("button", { name: "pause" }).click();
    await page.getByRole("heading", { name: /web 1\.1\.0: paused \(operator\)/ }).waitFor();
    await page.getByText(`${user} has paused it on the page`).waitFor();
    await page.getByText("publisher rollout resume web").first().waitFor();
    assert.match(publisher("rollout", "status", "web"), new RegExp(`${user} has paused it on the page`));
    assert.equal(await page.locator("#matters, #state .matter").count(), 1);
  },

  async "pictures are taken, and everything on them can be read"({ browser, context }) {
    const paths = { overview: "/", rollout: "/rollout/web", node: "/node/pi-1", log: "/log", login: "/login" };
    assert.deepEqual(await shots(browser, base, paths, into, await context.cookies()), []);
  },

  async "the command on the page lets it go on, and the page follows"({ page }) {
    await page.evaluate(() => { window.isTheSame = true; });
    publisher("rollout", "resume", "web");
    await page.getByRole("heading", { name: /web 1\.1\.0: completed/ }).waitFor();
    assert.ok(await page.evaluate(() => window.isTheSame));
  },

  async "a node says why in the words of the command line"({ page }) {
    await page.getByRole("link", { name: "pi-1" }).first().click();
    await page.getByRole("heading", { name: "pi-1" }).waitFor();
    const shown = await page.locator("#app-web .rules li span:nth-child(2)").allTextContents();
    const told = JSON.parse(publisher("why", "pi-1", "web", "--json"));
    assert.deepEqual(shown, told.apps[0].rules.map((rule) => rule.text));
    await page.getByRole("cell", { name: "current" }).waitFor();
  },

  async "the log shows what is looked for"({ page }) {
    await page.getByRole("link", { name: "log", exact: true }).click();
    await page.getByRole("cell", { name: "rollout stopped" }).first().waitFor();
    await page.getByLabel("node").fill("pi-2");
    await page.getByLabel("result").selectOption("installed");
    await page.getByRole("button", { name: "find" }).click();
    await page.waitForURL(/node=pi-2/);
    assert.deepEqual(new Set(await page.locator("td[data-name=node]").allTextContents()), new Set(["pi-2"]));
    assert.deepEqual(new Set(await page.locator("td[data-name=result]").allTextContents()), new Set(["installed"]));
    await page.getByLabel("since").evaluate((since) => { since.type = "text"; });
    await page.getByLabel("since").fill("yesterday");
    await page.getByRole("button", { name: "find" }).click();
    await page.getByRole("alert").getByText("since: it is no time").waitFor();
  },

  async "who logs out does nothing more"({ page }) {
    await page.goto(`${base}/rollout/web`);
    await page.getByRole("button", { name: "log out" }).click();
    await page.getByRole("link", { name: "log in" }).waitFor();
  },

  async "a token of the command line logs in, once"({ page }) {
    const token = JSON.parse(publisher("web-token", "--json"));
    await page.goto(token.url);
    await page.getByRole("button", { name: "log in" }).click();
    await page.locator("form.who").waitFor();
    await page.goto(token.url);
    await page.getByRole("button", { name: "log in" }).click();
    await page.getByRole("alert").getByText("this token was used").waitFor();
  },
};

(async () => {
  const wrong = [], browser = await launch(wrong);
  const context = await browser.open({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT_MS);
  for (const [name, step] of Object.entries(steps)) {
    const began = Date.now();
    try {
      await step({ browser, context, page });
    } catch (error) {
      console.error(`failed: ${name}\n${error.stack}\n${await page.locator("body").innerText()}`);
      process.exit(1);
    }
    console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(5)} s  ${name}`);
  }
  await browser.close();
  // What the page refuses to load or to run, a browser says in its console. The answers to a wrong password and date are meant.
  assert.deepEqual(wrong.filter((text) => !/status of 40[03]/.test(text)), []);
})();
