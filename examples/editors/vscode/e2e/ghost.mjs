// VS Code itself, as code-server in a headless Chromium, with the packaged extension and the default model: ghost text
// comes, is taken by word, by line and whole, and the saved file parses. `node ghost.mjs [SCREENSHOT.png]`; CHROMIUM
// names the browser, VIABLE the server's command as JSON, PYTHON what parses the file.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const [screenshot] = process.argv.slice(2);
const home = mkdtempSync(join(tmpdir(), "viable-vscode-"));
const file = join(home, "workspace", "shapes.py");
const GHOST = ".monaco-editor [class*=ghost-text]";
const PATIENCE = 180_000; // milliseconds, for a model that loads on a busy machine
const SETTINGS = {
  "viable.command": JSON.parse(process.env.VIABLE ?? '["viable", "lsp"]'),
  "viable.context": 1024,
  "viable.maxMs": 0,
  "viable.maxTokens": 32,
  "chat.disableAIFeatures": true,
  "editor.minimap.enabled": false,
  "security.workspace.trust.enabled": false,
  "telemetry.telemetryLevel": "off",
  "workbench.activityBar.location": "hidden",
  "workbench.secondarySideBar.defaultVisibility": "hidden",
  "workbench.sideBar.location": "right",
  "workbench.startupEditor": "none",
};

function codeServer(...args) {
  const entry = join(here, "node_modules", "code-server", "out", "node", "entry.js");
  const folders = ["user-data-dir", "extensions-dir"].flatMap((name) => [`--${name}`, join(home, name)]);
  return [entry, "--config", join(home, "config.yaml"), ...folders, ...args];
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return port;
}

async function started(port) {
  for (let tries = 0; tries < 300; tries++) {
    const answer = await fetch(`http://127.0.0.1:${port}/healthz`).catch(() => undefined);
    if (answer?.ok) {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error("code-server did not start");
}

// Waits for the model; a server that has failed is the end.
async function ready(page) {
  const entry = page.locator(".statusbar-item", { hasText: "Viable" });
  await entry.locator(".codicon-check, .codicon-error").first().waitFor({ timeout: PATIENCE });
  if (await entry.locator(".codicon-error").count()) {
    throw new Error("the server has failed; `viable lsp` says why on stderr");
  }
}

// The ghost text, line by line, once it stands still.
async function ghost(page) {
  await page.waitForSelector(GHOST, { timeout: PATIENCE });
  await page.waitForTimeout(500);
  return (await page.locator(GHOST).allTextContents()).join("");
}

// Run a command by its title, as a user would.
async function command(page, title) {
  await input(page, "F1", title);
}

// Open the line at the top of the window, and fill it in.
async function input(page, key, text) {
  const widget = page.locator(".quick-input-widget");
  await page.keyboard.press(key);
  await widget.waitFor({ state: "visible", timeout: PATIENCE });
  await page.keyboard.type(text);
  await page.waitForTimeout(500);
  await page.keyboard.press("Enter");
  await widget.waitFor({ state: "hidden", timeout: PATIENCE });
}

async function saved(page, what) {
  await page.keyboard.press("Control+s");
  await page.waitForSelector(".tab.active:not(.dirty)", { timeout: 10_000 });
  execFileSync(process.env.PYTHON ?? "python3", ["-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())", file]);
  console.log(`${what}: the file parses`);
  return readFileSync(file, "utf8");
}

async function run(page, port) {
  const payload = JSON.stringify([["openFile", `vscode-remote://127.0.0.1:${port}${file}`]]);
  await page.goto(`http://127.0.0.1:${port}/?folder=${dirname(file)}&payload=${encodeURIComponent(payload)}`);
  await page.waitForSelector(".monaco-editor .view-lines", { timeout: PATIENCE });
  await ready(page);
  await page.click(".monaco-editor .view-lines");
  await input(page, "Control+g", "16:47"); // behind the docstring of `circumference`
  await page.locator(".statusbar-item", { hasText: "Ln 16," }).waitFor({ timeout: PATIENCE });
  await page.keyboard.press("Control+b"); // without the list of files there is more to see
  await page.keyboard.press("Enter");

  const text = await ghost(page);
  console.log(`ghost text: ${text}`);
  if (screenshot) {
    await page.waitForTimeout(1000);
    await page.screenshot({ path: screenshot });
  }
  const before = readFileSync(file, "utf8");
  await page.keyboard.press("Control+ArrowRight");
  await page.waitForTimeout(500);
  const word = await saved(page, "a word");
  await ghost(page).catch(() => console.log("nothing is left behind the word"));
  await page.keyboard.press("Control+ArrowDown");
  await page.waitForTimeout(500);
  const line = await saved(page, "a line");
  if (!(before.length < word.length && word.length <= line.length)) {
    throw new Error("a part of the suggestion was not taken");
  }
  await page.keyboard.press("Enter");
  console.log(`ghost text: ${await ghost(page)}`);
  await page.keyboard.press("Tab");
  await page.waitForTimeout(500);
  const whole = await saved(page, "whole");
  if (whole.length <= line.length) {
    throw new Error("the whole suggestion was not taken");
  }
  await command(page, "Viable: Restart the Server");
  await page.waitForTimeout(1000);
  await ready(page);
  console.log("the server is restarted");
}

cpSync(join(here, "workspace"), dirname(file), { recursive: true });
mkdirSync(join(home, "user-data-dir", "User"), { recursive: true });
writeFileSync(join(home, "user-data-dir", "User", "settings.json"), JSON.stringify(SETTINGS));
const port = await freePort();
writeFileSync(join(home, "config.yaml"), `bind-addr: 127.0.0.1:${port}\nauth: none\ncert: false\n`);
execFileSync(process.execPath, codeServer("--install-extension", join(here, "..", "viable.vsix")), { stdio: "inherit" });
const server = spawn(process.execPath, codeServer("--disable-telemetry", "--disable-update-check"), { detached: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
try {
  await started(port);
  await run(await browser.newPage({ viewport: { width: 800, height: 500 } }), port);
} finally {
  await browser.close();
  const ended = once(server, "exit");
  process.kill(-server.pid); // it and all that it has started
  await ended; // it writes its state until then
  rmSync(home, { recursive: true, force: true, maxRetries: 10 });
}
