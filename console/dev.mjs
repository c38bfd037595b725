// A server for work on the console: it serves console/dist, answers what the Tandem server at hand does not have yet with
// canned data, and forwards the rest with Basic credentials.
//
//   TANDEM=http://127.0.0.1:8080 TANDEM_USER=AC... TANDEM_PASSWORD=... RECORDINGS=data/recordings node console/dev.mjs 8090
import { createReadStream, existsSync, readFileSync, statSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

const {
  TANDEM = "http://127.0.0.1:8080",
  TANDEM_USER = "",
  TANDEM_PASSWORD = "",
  RECORDINGS = "data/recordings",
  HOST = "127.0.0.1",
} = process.env;
const port = Number(process.argv[2] ?? 8090);
const dist = path.join(path.dirname(fileURLToPath(import.meta.url)), "dist");
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; media-src 'self' blob:; " +
  "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const authorization = `Basic ${Buffer.from(`${TANDEM_USER}:${TANDEM_PASSWORD}`).toString("base64")}`;
const changes = [];

function json(response, status, body, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString() || "{}");
}

async function ask(path) {
  const answer = await fetch(TANDEM + path, { headers: { authorization } });
  return answer.ok ? answer.json() : {};
}

function note(action, object, before, after) {
  changes.unshift({ at: new Date().toISOString(), who: "acme", role: "operator", action, object, before, after });
}

/** The largest of the samples of each channel, in so many points. Only for 16-bit PCM. */
function peaks(file, points) {
  const data = readFileSync(file).subarray(44);
  const header = readFileSync(file).subarray(0, 44);
  const channels = header.readUInt16LE(22);
  const rate = header.readUInt32LE(24);
  const frames = Math.floor(data.length / 2 / channels);
  const all = Array.from({ length: channels }, (_, channel) =>
    Array.from({ length: points }, (_, point) => {
      let most = 0;
      const [from, to] = [Math.floor((point * frames) / points), Math.floor(((point + 1) * frames) / points)];
      for (let frame = from; frame < to; frame++)
        most = Math.max(most, Math.abs(data.readInt16LE(2 * (frame * channels + channel))));
      return Math.round((100 * most) / 32768);
    }),
  );
  return { channels, seconds: frames / rate, peaks: all };
}

function audio(request, response, file) {
  const { size } = statSync(file);
  const range = /bytes=(\d*)-(\d*)/.exec(request.headers.range ?? "");
  const start = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Number(range[2]) : size - 1;
  const headers = { "content-type": "audio/wav", "accept-ranges": "bytes", "content-length": end - start + 1 };
  if (range) headers["content-range"] = `bytes ${start}-${end}/${size}`;
  response.writeHead(range ? 206 : 200, headers);
  createReadStream(file, { start, end }).pipe(response);
}

function figures() {
  const now = Math.floor(Date.now() / 10_000) * 10;
  const wave = (base, swing, period) =>
    Array.from({ length: 360 }, (_, index) => [
      now - (359 - index) * 10,
      index > 100 && index < 120
        ? null
        : Math.max(0, base + swing * Math.sin(index / period) + swing * 0.3 * Math.sin(index * 1.7)),
    ]);
  const series = [
    ["calls_per_second", "Calls a second", "1/s", 4, 2, 30],
    ["concurrency", "Concurrent calls", "calls", 120, 40, 50],
    ["asr", "Answer-seizure ratio (ASR)", "%", 82, 6, 40],
    ["acd", "Average call duration (ACD)", "s", 95, 20, 60],
    ["pdd", "Post-dial delay (PDD)", "s", 1.4, 0.5, 25],
    ["mos", "MOS", "", 4.2, 0.1, 35],
    ["webhook_latency", "Webhook latency", "ms", 60, 35, 20],
    ["shed", "Calls refused by limits", "1/s", 0, 0, 1],
  ];
  return {
    step_seconds: 10,
    series: series.map(([name, title, unit, ...shape]) => ({ name, title, unit, points: wave(...shape) })),
  };
}

function explain(query) {
  const [from, to, trunk] = ["from", "to", "trunk"].map((name) => query.get(name) ?? "");
  const ok = to.length < 4 || to.startsWith("+1");
  return {
    steps: [
      {
        text: trunk ? `The call comes in over trunk ${trunk}.` : "The call comes from a phone or the API.",
        because: trunk ? "The source is in inbound_from of this trunk." : "No trunk was chosen.",
      },
      {
        text: `The number is ${to}.`,
        because: `The dialled number is compared character by character. The caller is ${from || "unknown"}.`,
      },
      {
        text: ok ? "Account acme has this number." : "No account has this number.",
        because: ok ? "[[numbers]] in tandem.toml" : "Neither the configuration file nor an API has it.",
      },
    ],
    goes_to: ok ? { kind: "url", text: "POST http://127.0.0.1:5000/voice" } : { kind: "nowhere", text: "callers get 404" },
    ok,
  };
}

function withSeries(report) {
  const series = report.calls
    ?.filter((leg) => leg.answered_at && leg.quality)
    .map((leg) => ({
      call: leg.name,
      points: Array.from({ length: Math.max(2, Math.ceil(leg.seconds)) }, (_, second) => ({
        at: new Date(Date.parse(leg.answered_at) + second * 1000).toISOString(),
        mos: second === 4 ? 3.1 : 4.3 + 0.1 * Math.sin(second),
        jitter_ms: 1 + (second % 3),
        loss_percent: second === 4 ? 6 : 0,
      })),
    }));
  return { ...report, quality_series: series };
}

async function search(url) {
  const wanted = url.searchParams.get("search").toLowerCase();
  url.searchParams.delete("search");
  url.searchParams.set("limit", "1000");
  const list = await ask(url.pathname + url.search);
  const text = (call) => [call.from, call.to, call.id, call.session, call.end?.text, call.end?.cause].join(" ").toLowerCase();
  return { ...list, calls: list.calls.filter((call) => text(call).includes(wanted)), next: null };
}

/** Hangs up and transfers by Twilio's API. The canned mute does nothing. */
async function act(id, order) {
  const xml = (text) => text.replace(/[<>&"]/g, (one) => `&#${one.charCodeAt(0)};`);
  const to = order.to?.startsWith("sip:") ? `<Sip>${xml(order.to)}</Sip>` : `<Number>${xml(order.to ?? "")}</Number>`;
  const change = { "hang-up": { Status: "completed" }, transfer: { Twiml: `<Response><Dial>${to}</Dial></Response>` } }[
    order.action
  ];
  if (!change) return;
  const path = `${TANDEM}/2010-04-01/Accounts/${TANDEM_USER}/Calls/${id}.json`;
  await fetch(path, { method: "POST", headers: { authorization }, body: new URLSearchParams(change) });
}

function forward(request, response) {
  const target = new URL(TANDEM + request.url);
  const headers = { ...request.headers, authorization, host: target.host };
  const sent = http.request(target, { method: request.method, headers }, (answer) => {
    const { "www-authenticate": _, ...rest } = answer.headers;
    response.writeHead(answer.statusCode, rest);
    response.flushHeaders();
    answer.pipe(response);
  });
  sent.on("error", () => json(response, 503, { message: "the server does not answer" }));
  response.on("close", () => sent.destroy());
  request.pipe(sent);
}

async function canned(request, response, url) {
  const name = url.pathname.replace(/^\/console\//, "");
  const isSignedIn = request.headers.cookie?.includes("tandem_dev=1");
  const role = request.headers.cookie?.includes("tandem_role=reader") ? "reader" : "operator";
  const own = { name: role === "reader" ? "guest" : "acme", role, account: "acme", version: "0.1.0" };
  if (name === "session") {
    if (request.method === "DELETE")
      return json(response, 204, undefined, { "set-cookie": "tandem_dev=; Path=/console; Max-Age=0" });
    if (request.method === "GET")
      return isSignedIn ? json(response, 200, own) : json(response, 401, { message: "sign in first" });
    const { user, password } = await body(request);
    if (user !== TANDEM_USER || password !== TANDEM_PASSWORD)
      return json(response, 401, { message: "user name or password is wrong" });
    return json(response, 200, own, { "set-cookie": "tandem_dev=1; Path=/console; HttpOnly; SameSite=Strict" });
  }
  if (!isSignedIn) return json(response, 401, { message: "sign in first" });
  if (request.method !== "GET" && request.headers["x-tandem-console"] !== "1")
    return json(response, 403, { message: "not from the console" });
  const recording = /^recordings\/([0-9a-f]+)\/(peaks|audio)$/.exec(name);
  if (recording) {
    const file = path.join(RECORDINGS, `${recording[1]}.wav`);
    if (!existsSync(file)) return json(response, 404, { message: "no such recording" });
    if (recording[2] === "audio") return audio(request, response, file);
    return json(response, 200, peaks(file, Number(url.searchParams.get("points") ?? 800)));
  }
  if (/^legs\//.test(name)) {
    const order = await body(request);
    if (order.to === "nobody")
      return json(response, 409, { message: "nobody is no number", advice: "Enter a number, client:NAME or a SIP URI." });
    const id = decodeURIComponent(name.slice(5));
    await act(id, order);
    note(order.action, id, null, order.to ?? null);
    return json(response, 204);
  }
  if (name === "explain") return json(response, 200, explain(url.searchParams));
  if (name === "figures") return json(response, 200, figures());
  if (name === "changes") return json(response, 200, { changes, next: null });
  if (name === "calls" && url.searchParams.has("search")) return json(response, 200, await search(url));
  if (/^calls\/[^/]+$/.test(name) && !url.searchParams.has("follow")) {
    const report = await ask(url.pathname);
    return report.calls ? json(response, 200, withSeries(report)) : json(response, 404, { message: "no such call" });
  }
  return forward(request, response);
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, TANDEM);
  const file = path.join(dist, url.pathname === "/console/" ? "index.html" : path.basename(url.pathname));
  if (path.dirname(url.pathname) === "/console" || url.pathname === "/console/") {
    if (existsSync(file)) {
      response.writeHead(200, {
        "content-type": TYPES[path.extname(file)],
        "content-security-policy": POLICY,
        "cache-control": "no-store",
      });
      return void createReadStream(file).pipe(response);
    }
  }
  if (url.pathname === "/" || url.pathname === "/console") return void response.writeHead(302, { location: "/console/" }).end();
  return void canned(request, response, url).catch((error) => json(response, 503, { message: String(error) }));
});
server.listen(port, HOST, () => console.log(`http://${HOST}:${port}/console/`));
