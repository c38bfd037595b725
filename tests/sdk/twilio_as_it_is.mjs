// twilio-node as it is: HTTP_PROXY and NODE_EXTRA_CA_CERTS bring it here. Run by test_twilio_proxy.py; ends with 0 when all
// held.

import assert from "node:assert/strict";
import twilio from "twilio";

const { TWILIO_ACCOUNT_SID, PHONE, WAITS, FIRST, SECOND } = process.env;
const FROM = "+15550001111";
const deadline = setTimeout(() => { console.error("timed out"); process.exit(1); }, 40_000);
const client = twilio();

async function until(sid, states) {
  for (;;) {
    const call = await client.calls(sid).fetch();
    if (states.includes(call.status)) return call;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const over = ["completed", "busy", "failed", "no-answer", "canceled"];

assert.equal((await client.api.accounts(TWILIO_ACCOUNT_SID).fetch()).status, "active");
const made = [];
for (let count = 0; count < 3; count += 1) {
  const twiml = count === 0 ? "<Response><Pause length='60'/></Response>" : "<Response><Hangup/></Response>";
  const { sid } = await client.calls.create({ to: PHONE, from: FROM, twiml });
  made.unshift(sid);
  if (count > 0) continue;
  await until(sid, ["in-progress", ...over]);
  const recording = await client.calls(sid).recordings.create({ recordingChannels: "dual" });
  assert.equal((await client.calls(sid).recordings(recording.sid).update({ status: "stopped" })).status, "stopped");
  await client.calls(sid).update({ status: "completed" });
  assert.deepEqual((await client.recordings.list({ callSid: sid })).map((one) => one.sid), [recording.sid]);
}
for (const sid of made) assert.equal((await until(sid, over)).status, "completed");
assert.deepEqual((await client.calls.list({ to: PHONE, pageSize: 2 })).map((call) => call.sid), made);
const second = await (await client.calls.page({ to: PHONE, pageSize: 2 })).nextPage();
assert.deepEqual(second.instances.map((call) => call.sid), made.slice(2));
await assert.rejects(client.calls("CA" + "0".repeat(32)).fetch(), (error) => error.status === 404 && error.code === 20404);

async function once(check) {
  for (;;) {
    const found = await check();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const queue = await client.queues.create({ friendlyName: "agents" });
const waiting = await client.calls.create({ to: WAITS, from: FROM, twiml: "<Response><Enqueue>agents</Enqueue></Response>" });
const member = await once(async () => (await client.queues(queue.sid).members.list())[0]);
assert.equal(member.callSid, waiting.sid);
await client.calls(waiting.sid).update({ status: "completed" });
await once(async () => (await client.queues(queue.sid).fetch()).currentSize === 0);
assert.equal(await client.queues(queue.sid).remove(), true);

const meet = "<Response><Dial><Conference beep='false'>room</Conference></Dial></Response>";
await client.calls.create({ to: FIRST, from: FROM, twiml: meet });
const room = await once(async () => (await client.conferences.list({ friendlyName: "room" }))[0]);
const { participants } = client.conferences(room.sid);
await participants.create({ from: FROM, to: SECOND, label: "two" });
await once(async () => (await participants.list()).filter((one) => one.status === "connected").length === 2);
assert.equal((await client.conferences(room.sid).participants("two").update({ hold: true })).hold, true);
assert.equal((await client.conferences(room.sid).update({ status: "completed" })).status, "completed");
clearTimeout(deadline);
