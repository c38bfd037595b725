// SignalWire's Node SDK as it is, through the proxy. Run by test_signalwire_sdk.py; ends with 0 when all held.

import assert from "node:assert/strict";
import { RestClient } from "@signalwire/compatibility-api";

const { SIGNALWIRE_PROJECT_ID, SIGNALWIRE_API_TOKEN, SIGNALWIRE_SPACE_URL, PHONE, SIGNED } = process.env;
const FROM = "+15551230001";
const deadline = setTimeout(() => { console.error("timed out"); process.exit(1); }, 40_000);
const client = RestClient(SIGNALWIRE_PROJECT_ID, SIGNALWIRE_API_TOKEN, { signalwireSpaceUrl: SIGNALWIRE_SPACE_URL });

async function once(check) {
  for (;;) {
    const found = await check();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const over = ["completed", "busy", "failed", "no-answer", "canceled"];

const call = await client.calls.create({ to: PHONE, from: FROM, twiml: "<Response><Pause length='60'/></Response>" });
assert.match(call.sid, /^[0-9a-f-]{36}$/);
await once(async () => (await client.calls(call.sid).fetch()).status === "in-progress");
const recording = await client.calls(call.sid).recordings.create({ recordingChannels: "dual" });
assert.equal((await client.calls(call.sid).recordings(recording.sid).update({ status: "stopped" })).status, "stopped");
await client.calls(call.sid).update({ status: "completed" });
await once(async () => over.includes((await client.calls(call.sid).fetch()).status));
assert.deepEqual((await client.recordings.list({ callSid: call.sid })).map((one) => one.sid), [recording.sid]);
const queue = await client.queues.create({ friendlyName: "node" });
assert.equal((await client.queues(queue.sid).fetch()).currentSize, 0);
assert.equal(await client.queues(queue.sid).remove(), true);
await assert.rejects(client.calls("00000000-0000-0000-0000-000000000000").fetch(), (error) => error.status === 404);

const document = new RestClient.LaML.VoiceResponse();
document.say("Hello");
assert.match(document.toString(), /<Say>Hello<\/Say>/);
// What the server sent to the application, by the SDK's own check.
const { key, signature, url, form } = JSON.parse(SIGNED);
assert.equal(RestClient.validateRequest(key, signature, url, form), true);
assert.equal(RestClient.validateRequest(key, signature, url, { ...form, CallStatus: "other" }), false);
clearTimeout(deadline);
