// The operator's page in a real Chromium: light and dark, wide and narrow, by keyboard alone, without a script, and as a
// file. No console error, no request to another host. Screenshots go into a folder, to be looked at.
//
// usage: node page.mjs FOLDER_WITH_NODE_MODULES CHROMIUM URL REPORT_FILE SCREENSHOTS

import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [tools, executablePath, url, file, shots] = process.argv.slice(2);
const { chromium } = createRequire(join(tools, "package.json"))("playwright-core");
const faults = [];

const expect = (holds, words) => {
  if (!holds) faults.push(words);
};
const proved = (words) => console.log(`  proved: ${words}`);

/** Opens a page in a window of its own, and hands it over; what it complains of is a fault. */
async function at(browser, address, options, look) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const own = new URL(address).host;
  page.on("console", (message) => {
    // The answer that is meant to be refused.
    if (message.type() === "error" && !message.text().includes("404")) faults.push(`${address}: console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`${address}: ${error}`));
  page.on("request", (request) => {
    const asked = new URL(request.url());
    if (asked.protocol !== "data:" && asked.host !== own) faults.push(`${address} asked ${request.url()}`);
  });
  const response = await page.goto(address);
  expect(!response || response.status() === 200, `${address}: status ${response?.status()}`);
  await look(page, response);
  await context.close();
}

/** What must hold of every page, whatever is on it. */
async function isWell(page, name) {
  const found = await page.evaluate(() => {
    const faults = [];
    const levels = [...document.querySelectorAll("h1,h2,h3,h4")].map((head) => Number(head.tagName[1]));
    if (levels.filter((level) => level === 1).length !== 1) faults.push("not one h1");
    levels.forEach((level, at) => {
      if (at > 0 && level > levels[at - 1] + 1) faults.push(`h${levels[at - 1]} is followed by h${level}`);
    });
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    ids.filter((id, at) => ids.indexOf(id) !== at).forEach((id) => faults.push(`two elements have the id ${id}`));
    for (const svg of document.querySelectorAll("svg")) {
      if (!svg.getAttribute("aria-label") && svg.getAttribute("aria-hidden") !== "true") faults.push("a picture without words");
      // Names stay between the ends of the lines that go across the plot.
      const lines = [...svg.querySelectorAll("line.grid")].map((line) => line.getBBox());
      const across = lines.reduce((one, other) => (other.width > one.width ? other : one), { x: 0, width: 0 });
      for (const name of svg.querySelectorAll("text.name")) {
        const { x, width } = name.getBBox();
        const ends = [x, x + width].map(Math.round);
        const isInside = ends[0] >= across.x && ends[1] <= across.x + across.width;
        if (!isInside) faults.push(`the name “${name.textContent}” from ${ends[0]} to ${ends[1]} crosses the edge of its plot`);
      }
    }
    for (const link of document.querySelectorAll("a")) {
      if (!link.textContent.trim()) faults.push(`a link without words: ${link.outerHTML.slice(0, 80)}`);
      const target = link.getAttribute("href");
      if (target.startsWith("#") && !document.getElementById(decodeURIComponent(target.slice(1)))) faults.push(`a link to nothing: ${target}`);
    }
    for (const head of document.querySelectorAll("th")) if (!head.scope) faults.push("a table's head without scope");
    if (document.documentElement.scrollWidth > innerWidth) faults.push(`it is ${document.documentElement.scrollWidth} wide in ${innerWidth}`);

    // WCAG contrast of text on the nearest painted background.
    const parts = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
    const light = (color) => {
      const [r, g, b] = parts(color).map((part) => part / 255).map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = getComputedStyle(at).backgroundColor;
        if ((parts(color)[3] ?? 1) === 1) return color;
      }
      return "rgb(255, 255, 255)";
    };
    for (const element of document.querySelectorAll("body *")) {
      const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
      if (!hasText || element.closest("svg,script,style,.hidden,.skip") || !element.checkVisibility()) continue;
      const [one, other] = [light(getComputedStyle(element).color), light(behind(element))];
      const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(2)} of ${element.outerHTML.slice(0, 80)}`);
    }
    return [...new Set(faults)];
  });
  for (const fault of found) faults.push(`${name}: ${fault}`);
}

async function shot(page, name) {
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

/** Presses Tab until the condition holds of what has the focus; how often, or nothing. */
async function tabUntil(page, condition, most = 200) {
  for (let count = 1; count <= most; count++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(condition)) return count;
  }
  return undefined;
}

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
});
let task = "";
let other = "";

await at(browser, url, {}, async (page, response) => {
  expect(response.headers()["content-security-policy"]?.includes("default-src 'none'"), "no strict policy");
  const timing = await page.evaluate(() => performance.getEntriesByType("navigation")[0].loadEventEnd);
  expect((await page.locator("svg.plot").count()) === 2, "two pictures");
  expect((await page.locator("svg.plot .mark").count()) > 0, "no candidate in the picture");
  expect((await page.locator("table.sortable tbody tr").count()) >= 3, "few tasks");
  expect((await page.locator(".notice").first().textContent()).includes("Simulated"), "simulated models are not called so");
  await isWell(page, "overview");
  await shot(page, "overview-light");
  task = await page.locator(".first a").first().getAttribute("href");
  proved(`the overview loads in ${Math.round(timing)} ms, with pictures and tables`);
});

await at(browser, url, {}, async (page) => {
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement.className === "skip"), "the first Tab is no way past the head");
  await page.keyboard.press("Enter");
  expect(await tabUntil(page, () => document.activeElement.closest("svg") !== null), "no mark in the pictures can be reached");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement.querySelector(".mark,.bubble")).strokeWidth);
  expect(outline === "3.5px", `a mark with the focus does not show it: ${outline}`);
  await shot(page, "keyboard-mark");
  expect(await tabUntil(page, () => document.activeElement.tagName === "SUMMARY"), "no summary can be reached");
  await page.keyboard.press("Enter");
  expect(await page.evaluate(() => document.activeElement.parentElement.open), "the table beside the picture does not open");
  expect(await tabUntil(page, () => document.activeElement.textContent === "Calls"), "a table's head can't be reached");
  await page.keyboard.press("Enter");
  expect((await page.locator("th[aria-sort]").count()) === 1, "a table is not sorted by key");
  expect(await tabUntil(page, () => document.activeElement.closest("tbody th a") !== null), "no task can be reached");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/tasks/*");
  await isWell(page, "a task by keyboard");
  expect(await tabUntil(page, () => document.activeElement.href?.includes("/disagreements/")), "disagreements can't be reached");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/disagreements/*");
  proved("from the head to a task's disagreements by keyboard alone");
});

await at(browser, new URL(task, url).href, {}, async (page) => {
  await isWell(page, "task");
  await shot(page, "task-light");
  const links = page.locator("a[href*='/disagreements/']");
  other = await links.nth((await links.count()) - 1).getAttribute("href");
  for (const part of ["Candidates", "What it answers", "Time to the last byte", "Who serves it", "What to run"]) {
    expect((await page.getByRole("heading", { name: part }).count()) === 1, `a task's page has no “${part}”`);
  }
});
await at(browser, new URL(other, url).href, {}, async (page) => {
  await isWell(page, "disagreements");
  expect((await page.locator("ins").count()) > 1 && (await page.locator("del").count()) > 1, "no difference is marked");
  await shot(page, "disagreements-light");
  await page.locator("summary").first().click();
  expect((await page.locator(".message").count()) > 0, "a request does not open");
});
await at(browser, new URL(`${task}/examples`, url).href, {}, async (page) => {
  await isWell(page, "examples");
  await shot(page, "examples-light");
});
proved("a task's page, its disagreements side by side, its examples");

for (const [name, address] of [["overview", url], ["task", new URL(task, url).href], ["disagreements", new URL(other, url).href]]) {
  await at(browser, address, { colorScheme: "dark" }, async (page) => {
    const [red] = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
    expect(red < 60, `${name}: dark mode is not dark`);
    await isWell(page, `${name}, dark`);
    await shot(page, `${name}-dark`);
  });
  await at(browser, address, { viewport: { width: 400, height: 800 } }, async (page) => {
    await isWell(page, `${name}, narrow`);
    await shot(page, `${name}-narrow`);
  });
}
proved("dark, and 400 pixels wide: nothing is cut off, and all text has a contrast of 4.5 or more");

await at(browser, pathToFileURL(file).href, {}, async (page) => {
  await isWell(page, "file");
  expect((await page.locator("th button").count()) > 0, "the file's script does not run under its own policy");
  expect((await page.evaluate(() => getComputedStyle(document.body).margin)) === "0px", "the file's style is not in force");
  await page.locator(".first a").first().click();
  expect((await page.evaluate(() => location.hash)).startsWith("#task-"), "a task in the file can't be reached");
  await shot(page, "file-light");
});
await at(browser, pathToFileURL(file).href, { javaScriptEnabled: false, colorScheme: "dark" }, async (page) => {
  expect((await page.locator("svg.plot").count()) > 2, "without a script pictures are missing");
});
proved("the report as a file: by itself, and without a script");

await browser.close();
if (faults.length) {
  console.error([...new Set(faults)].map((fault) => `FAULT: ${fault}`).join("\n"));
  process.exit(1);
}
