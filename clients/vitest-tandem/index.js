// Tests of voice applications: scripted callers without audio, and a Tandem server for real calls.
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "vitest";

const ACCOUNT_SID = "AC" + "7e57".repeat(8);
const AUTH_TOKEN = "7e57".repeat(8);

const program = () => process.env.TANDEM ?? "tandem";

/** Runs the program. Resolves to its exit code and its output. */
function run(args, timeout = 120_000) {
  return new Promise((resolve, reject) => {
    execFile(program(), args, { timeout, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      if (error?.code === "ENOENT") {
        reject(new Error(`there is no program ${program()}: put tandem on the PATH, or its path in the variable TANDEM`));
      } else {
        resolve({ code: error ? error.code : 0, stdout, stderr });
      }
    });
  });
}

/** Runs one test of a file. Resolves to its report; a failed test rejects with the transcript of the call. */
export async function runCase(file, name, { baseUrl, authToken } = {}) {
  const options = [baseUrl && `--base-url=${baseUrl}`, authToken && `--auth-token=${authToken}`].filter(Boolean);
  const { stdout, stderr } = await run(["test", file, "--json", `--filter=${name}`, ...options]);
  if (!stdout) throw new Error(stderr.trim());
  const report = JSON.parse(stdout).tests.find((one) => one.name === name);
  if (!report.passed) {
    const lines = report.transcript.map((one) => `${one.at.toFixed(3).padStart(9)}  ${one.party.padEnd(8)}  ${one.text}`);
    throw new Error([report.failure, ...lines].join("\n"));
  }
  return report;
}

/** Adds each test of a file as a test of vitest. `options` is an object, or a function that is called before each test. */
export async function tandemTests(file, options = {}) {
  const { code, stdout, stderr } = await run(["test", file, "--list"]);
  if (code !== 0) throw new Error(stderr.trim());
  for (const name of stdout.split("\n").filter(Boolean)) {
    test(name, async () => {
      await runCase(file, name, typeof options === "function" ? await options() : options);
    });
  }
}

/** Starts a server on free ports. `config` is more TOML. */
export async function startTandem({ config = "" } = {}) {
  const directory = mkdtempSync(join(tmpdir(), "vitest-tandem-"));
  const file = join(directory, "tandem.toml");
  const log = join(directory, "tandem.log");
  const base = `data_dir = ${JSON.stringify(join(directory, "data"))}
drain_timeout = 1
[sip]
listen = ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]
[http]
listen = "127.0.0.1:0"
[webhooks]
allow_networks = ["127.0.0.0/8"]
[[accounts]]
name = "test"
twilio = { account_sid = "${ACCOUNT_SID}", auth_token = "${AUTH_TOKEN}" }
${config}
`;
  writeFileSync(file, base);
  const out = openSync(log, "w");
  const process = spawn(program(), ["serve", "--config", file], { stdio: ["ignore", out, out] });
  let ended = null;
  const end = new Promise((resolve) => {
    process.on("error", (error) => resolve((ended = String(error))));
    process.on("exit", (code) => resolve((ended = `the server ended with ${code}`)));
  });
  const logged = async (pattern) => {
    for (const until = Date.now() + 30_000; Date.now() < until; ) {
      const found = pattern.exec(readFileSync(log, "utf8"));
      if (found) return found[1];
      if (ended !== null) throw new Error(`${ended}:\n${readFileSync(log, "utf8")}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    process.kill("SIGKILL");
    throw new Error(`the server did not start in 30 s:\n${readFileSync(log, "utf8")}`);
  };
  const sip = await logged(/SIP on udp:(\S+)/);
  const url = "http://" + (await logged(/HTTP on ([^;\s]+)/));
  const numbers = [];

  return {
    url,
    sip,
    accountSid: ACCOUNT_SID,
    authToken: AUTH_TOKEN,
    log: () => readFileSync(log, "utf8"),

    async number(voiceUrl, { number = String(600 + numbers.length), ...settings } = {}) {
      const keys = Object.entries({ number, account: "test", voice_url: voiceUrl, ...settings });
      const added = `[[numbers]]\n${keys.map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`).join("")}`;
      writeFileSync(file, base + [...numbers, added].join(""));
      const login = Buffer.from(`${ACCOUNT_SID}:${AUTH_TOKEN}`).toString("base64");
      const answer = await fetch(`${url}/console/reload`, { method: "POST", headers: { Authorization: `Basic ${login}` } });
      if (!answer.ok) throw new Error(await answer.text());
      numbers.push(added);
      return number;
    },

    async call(target, steps, { timeout = 60, from = "+15550109999" } = {}) {
      const script = join(directory, "steps.yaml");
      // JSON is YAML. The values are texts, so "01" stays a text.
      const text = (step) => Object.fromEntries(Object.entries(step).map(([name, value]) => [name, String(value)]));
      writeFileSync(script, steps.map((step) => `- ${typeof step === "string" ? step : JSON.stringify(text(step))}\n`).join(""));
      const options = ["--config", file, "--json", `--timeout=${timeout}`, `--from=${from}`, "--script", script];
      const { stdout, stderr } = await run(["call", target, ...options], (timeout + 30) * 1000);
      if (!stdout) throw new Error(stderr.trim());
      return { ...JSON.parse(stdout), lines: stderr };
    },

    async stop() {
      process.kill("SIGTERM");
      const late = setTimeout(() => process.kill("SIGKILL"), 20_000);
      await end;
      clearTimeout(late);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
