// One call with Telnyx's Node SDK, of today or of the major version 1, as it is: TELNYX_BASE_URL, or setHost, brings it here. Takes its
// own webhooks and has the SDK look at their signatures. Run by test_telnyx_sdks.py; ends with 0 when all held.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";

const { SDK, PHONE, FROM, CONNECTION, TELNYX_API_KEY, TELNYX_PUBLIC_KEY, TANDEM_URL } = process.env;
const deadline = setTimeout(() => { console.error("timed out"); process.exit(1); }, 40_000);
const isOld = SDK === "telnyx-old";
const { default: Telnyx } = await import(SDK);
const client = isOld ? Telnyx(TELNYX_API_KEY) : new Telnyx();
if (isOld) {
  const { hostname, port } = new URL(TANDEM_URL);
  client.setHost(hostname, port, "http");
}

async function unwrap(body, headers) {
  if (!isOld) return client.webhooks.unwrap(body, { headers });
  return client.webhooks.constructEvent(body, headers["telnyx-signature-ed25519"], headers["telnyx-timestamp"], TELNYX_PUBLIC_KEY);
}

const events = [], waiting = [];
let refused = 0;
const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  try {
    await unwrap(body.replace("event_type", "event_typo"), request.headers);
  } catch { refused += 1; }
  const { data } = await unwrap(body, request.headers);
  events.push(data);
  waiting.splice(0).forEach((wake) => wake());
  response.end();
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));

async function wait(kind) {
  for (;;) {
    while (events.length) {
      const event = events.shift();
      if (event.event_type === kind) return event.payload;
    }
    await new Promise((wake) => waiting.push(wake));
  }
}

const dial = { connection_id: CONNECTION, to: PHONE, from: FROM, webhook_url: `http://127.0.0.1:${server.address().port}/` };
const voice = { voice: "female", language: "en-US" };
const { data: call } = isOld ? await client.calls.create(dial) : await client.calls.dial(dial);
const leg = call.call_control_id;
const names = {
  record_start: "startRecording", record_stop: "stopRecording", gather_using_speak: "gatherUsingSpeak", send_dtmf: "sendDtmf",
};
const act = (name, how = {}) => (isOld ? call[name](how) : client.calls.actions[names[name] ?? name](leg, how));

assert.equal((await wait("call.answered")).call_control_id, leg);
await act("record_start", { format: "wav", channels: "single" });
await act("gather_using_speak", { payload: "Two digits, please.", minimum_digits: 2, maximum_digits: 2, ...voice });
console.log("gathers");
assert.equal((await wait("call.gather.ended")).digits, "42");
await act("send_dtmf", { digits: "7" });
console.log("pressed");
await once(process.stdin, "data"); // the phone has heard it
await act("record_stop");
assert.ok((await wait("call.recording.saved")).recording_urls.wav);
await act("hangup");
assert.equal((await wait("call.hangup")).hangup_cause, "normal_clearing");
assert.ok(refused >= 5, `${refused}`);
console.log("done");
clearTimeout(deadline);
server.close();
process.exit(0);
