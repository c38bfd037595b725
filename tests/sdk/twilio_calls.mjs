// twilio-node, unmodified but for where it sends its requests: a call is made, fetched, redirected, hung up, its recording
// downloaded, and all is deleted; lists are paged. Its validator judges every request that the server makes.
//
// Run by test_twilio_node.py, which gives the server and two phones by the environment. Ends with 0 when all held.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import twilio from "twilio";

const { TANDEM, ACCOUNT_SID, AUTH_TOKEN, PHONE, MANY, SPOKEN_SECONDS } = process.env;
const FROM = "+15550001111";
const deadline = setTimeout(() => { console.error("timed out"); process.exit(1); }, 40_000);

// The SDK's own HTTP client with another origin.
class Elsewhere extends twilio.RequestClient {
  request(options) {
    assert(options.uri.startsWith("https://api.twilio.com/"), options.uri);
    return super.request({ ...options, uri: options.uri.replace("https://api.twilio.com", TANDEM) });
  }
}
const client = twilio(ACCOUNT_SID, AUTH_TOKEN, { httpClient: new Elsewhere() });

// The web application. `arrived` tells the tests what came.
const received = [];
const arrivals = new http.Server();
const server = http.createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  const url = `http://${request.headers.host}${request.url}`;
  const { pathname, searchParams } = new URL(url);
  const form = request.method === "POST" ? Object.fromEntries(new URLSearchParams(body)) : {};
  const genuine = twilio.validateRequest(AUTH_TOKEN, request.headers["x-twilio-signature"] ?? "", url, form);
  const parameters = request.method === "POST" ? form : Object.fromEntries(searchParams);
  received.push({ path: pathname, method: request.method, url, genuine, parameters });
  if (["/voice", "/second", "/third"].includes(pathname)) {
    const document = new twilio.twiml.VoiceResponse();
    document.say("This is " + pathname);
    document.pause({ length: 60 });
    response.setHeader("Content-Type", "text/xml");
    response.end(document.toString());
  } else {
    response.writeHead(204).end();
  }
  arrivals.emit("arrival");
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
const base = `http://127.0.0.1:${server.address().port}`;

async function arrived(path, count = 1) {
  for (;;) {
    const found = received.filter((one) => one.path === path);
    if (found.length >= count) return found;
    await once(arrivals, "arrival");
  }
}

async function over(sid) {
  for (;;) {
    const call = await client.calls(sid).fetch();
    if (["completed", "busy", "failed", "no-answer", "canceled"].includes(call.status)) return call;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function refused(promise, status, code) {
  await assert.rejects(promise, (error) => {
    assert.deepEqual([error.status, error.code], [status, code]);
    return true;
  });
}

const created = await client.calls.create({
  to: PHONE,
  from: FROM,
  url: `${base}/voice?q=a%20b&name=J%C3%BCrg`,
  statusCallback: `${base}/status`,
  statusCallbackEvent: ["initiated", "ringing", "answered", "completed"],
  record: true,
  trim: "do-not-trim",
  recordingStatusCallback: `${base}/recorded?kind=call`,
  recordingStatusCallbackMethod: "GET",
});
assert.match(created.sid, /^CA[0-9a-f]{32}$/);
assert.deepEqual([created.status, created.dateCreated, created.startTime], ["queued", null, null]);

await arrived("/voice");
const live = await client.calls(created.sid).fetch();
assert.equal(live.status, "in-progress");
assert(live.startTime instanceof Date && !Number.isNaN(live.startTime.getTime()));
await live.update({ url: `${base}/second`, method: "GET" });
assert.equal((await arrived("/second"))[0].method, "GET");
await live.update({ twiml: `<Response><Redirect>${base}/third</Redirect></Response>` });
await arrived("/third");
await new Promise((resolve) => setTimeout(resolve, 1000 * SPOKEN_SECONDS));
await live.update({ status: "completed" });
const progress = (await arrived("/status", 4)).map((one) => [one.parameters.CallStatus, one.parameters.SequenceNumber]);
assert.deepEqual(progress, [["initiated", "0"], ["ringing", "1"], ["in-progress", "2"], ["completed", "3"]]);
const done = await over(created.sid);
assert.equal(done.status, "completed");
assert(Number(done.duration) >= Math.floor(SPOKEN_SECONDS));
await refused(live.update({ twiml: "<Response/>" }), 400, 21220);
await refused(live.update({ status: "completed" }), 404, 20404);

const [kept] = await arrived("/recorded");
const [recording] = await client.calls(created.sid).recordings.list();
assert.equal(recording.sid, kept.parameters.RecordingSid);
assert.deepEqual((await client.recordings.list({ callSid: created.sid })).map((one) => one.sid), [recording.sid]);
const { mediaUrl } = await client.recordings(recording.sid).fetch();
for (const [extension, type, magic] of [[".wav", "audio/x-wav", "RIFF"], [".mp3", "audio/mpeg", "\u00ff"]]) {
  const answer = await fetch(mediaUrl + extension);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("content-type"), type);
  const audio = Buffer.from(await answer.arrayBuffer());
  assert(audio.toString("latin1").startsWith(magic) && audio.length > 1000);
}
// Not recording.remove(): instances of nested lists do not know their own SID in this SDK.
assert.equal(await client.calls(created.sid).recordings(recording.sid).remove(), true);
await refused(client.recordings(recording.sid).fetch(), 404, 20404);
assert.equal(await done.remove(), true);
await refused(client.calls(created.sid).fetch(), 404, 20404);

const made = [];
for (let count = 0; count < 5; count += 1) {
  made.unshift((await client.calls.create({ to: MANY, from: FROM, twiml: "<Response><Hangup/></Response>" })).sid);
}
for (const sid of made) await over(sid);
const sids = (calls) => calls.map((call) => call.sid);
assert.deepEqual(sids(await client.calls.list({ to: MANY, pageSize: 2 })), made);
assert.deepEqual(sids(await client.calls.list({ to: MANY, pageSize: 2, limit: 3 })), made.slice(0, 3));
const first = await client.calls.page({ to: MANY, pageSize: 2 });
const second = await first.nextPage();
const back = await second.previousPage();
assert.deepEqual([first, second, back].map((page) => sids(page.instances)), [made.slice(0, 2), made.slice(2, 4), made.slice(0, 2)]);
const streamed = [];
await client.calls.each({ to: MANY, pageSize: 2, callback: (call) => streamed.push(call.sid), done: () => arrivals.emit("streamed") });
if (streamed.length < 5) await once(arrivals, "streamed");
assert.deepEqual(streamed, made);

assert.deepEqual(received.filter((one) => !one.genuine), []);
console.log(`${received.length} requests, all genuine`);
clearTimeout(deadline);
server.closeAllConnections();
server.close();
