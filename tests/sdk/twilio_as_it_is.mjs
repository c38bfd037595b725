// twilio-node as it is: HTTP_PROXY and NODE_EXTRA_CA_CERTS bring it here. Run by test_twilio_proxy.py; ends with 0 when all
// held.

import assert from "node:assert/strict";
import twilio from "twilio";

const { TWILIO_ACCOUNT_SID, PHONE } = process.env;
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
  const { sid } = await client.calls.create({ to: PHONE, from: "+15550001111", twiml });
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
clearTimeout(deadline);
