// Chromium, as the story and the pictures use it.
"use strict";

const { chromium } = require("playwright-core");

const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/// A browser; what a page says in its console, or that it does not load something, is collected in `wrong`.
async function launch(wrong) {
  const executablePath = process.env.CHROMIUM || BROWSERS.find((path) => require("fs").existsSync(path));
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const open = async (options) => {
    const context = await browser.newContext(options);
    context.on("console", (message) => { if (message.type() === "error") wrong.push(message.text()); });
    context.on("weberror", (error) => wrong.push(error.error().message));
    return context;
  };
  return { open, close: () => browser.close() };
}

/// Texts whose colour is too near to what is behind them (WCAG 2.2, 1.4.3).
function lowContrast(page) {
  return page.evaluate(() => {
    const channels = (color) => color.match(/[\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => {
      const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
      return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = (of) => {
      for (; of; of = of.parentElement) {
        const color = channels(getComputedStyle(of).backgroundColor);
        if (color.length < 4 || color[3] === 1) return color;
      }
      return [255, 255, 255];
    };
    const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const of = texts.currentNode.parentElement, text = texts.currentNode.textContent.trim();
      if (!text || !of.checkVisibility() || ["SCRIPT", "STYLE"].includes(of.tagName)) continue;
      const style = getComputedStyle(of), [a, b] = [channels(style.color), behind(of)].map(luminance);
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const size = parseFloat(style.fontSize), isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
      if (ratio < (isLarge ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}: ${text}`);
    }
    return found;
  });
}

/// Takes pictures of `paths` ({name: path}) on a desk and on a telephone, light and dark. Gives what does not fit or cannot be read.
async function shots(browser, base, paths, into, cookies = []) {
  const wrong = [];
  require("fs").mkdirSync(into, { recursive: true });
  for (const colorScheme of ["light", "dark"]) {
    for (const [width, height] of [[1280, 800], [390, 844]]) {
      const context = await browser.open({ colorScheme, viewport: { width, height } });
      await context.addCookies(cookies);
      const page = await context.newPage();
      for (const [name, path] of Object.entries(paths)) {
        await page.goto(base + path);
        const file = `${name}-${width}-${colorScheme}.png`;
        await page.screenshot({ path: `${into}/${file}`, fullPage: true });
        const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        if (over > 0) wrong.push(`${file} is ${over} px too wide`);
        wrong.push(...(await lowContrast(page)).map((text) => `${file}: contrast ${text}`));
      }
      await context.close();
    }
  }
  return wrong;
}

module.exports = { launch, shots };
