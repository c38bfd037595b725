import { createServer } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCase, startTandem, tandemTests } from "../index.js";

const menu = new URL("menu.tandem.toml", import.meta.url).pathname;
const received = [];
const documents = {
  "/voice": () =>
    '<Gather numDigits="1" timeout="5" action="/menu"><Say>For sales, press one.</Say></Gather><Say>Goodbye.</Say>',
  "/menu": (form) => (form.get("Digits") === "1" ? '<Dial action="/called"><Number>+15551230002</Number></Dial>' : "<Hangup/>"),
  "/called": (form) =>
    form.get("DialCallStatus") === "completed"
      ? "<Hangup/>"
      : "<Say>All lines are busy. Please leave a message.</Say><Record action='/thanks' finishOnKey='#'/>",
  "/thanks": () => "<Say>Thank you.</Say>",
};
const application = createServer((request, response) => {
  let body = "";
  request.on("data", (data) => (body += data));
  request.on("end", () => {
    const form = new URLSearchParams(body);
    received.push({ path: request.url, form });
    response.setHeader("Content-Type", "text/xml").end(`<Response>${documents[request.url](form)}</Response>`);
  });
});
const address = () => `http://127.0.0.1:${application.address().port}`;

beforeAll(() => new Promise((resolve) => application.listen(0, "127.0.0.1", resolve)));
afterAll(() => application.close());

await tandemTests(menu, () => ({ baseUrl: address() }));

test("a failed case has the transcript", async () => {
  const failed = runCase(menu, "a caller talks with sales", { baseUrl: "http://127.0.0.1:9" });
  await expect(failed).rejects.toThrow(/problem connection-refused/);
});

test("a real caller reaches the menu", { timeout: 90_000 }, async () => {
  const tandem = await startTandem();
  try {
    const number = await tandem.number(address() + "/voice");
    const call = await tandem.call(number, [{ expect: "speech" }, { press: 2 }, { expect: "hangup within 10 seconds" }]);
    expect(call.passed, call.lines).toBe(true);
    expect(received.at(-1).form.get("Digits")).toBe("2");
    await expect(tandem.number(address(), { voice_uri: "http://127.0.0.1/" })).rejects.toThrow("unknown key");
  } finally {
    await tandem.stop();
  }
});
