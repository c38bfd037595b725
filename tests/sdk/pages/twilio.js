// A phone made of Twilio's Voice SDK. A test calls the functions of `window.phone`. Nothing names a server: the page goes to
// Twilio's hosts.

// The SDK keeps the classes that it finds when it is loaded, so page.js is first.
import { Ear, calls, common, eachConnection, latest, microphone, tell } from "./page.js";
import { Device } from "@twilio/voice-sdk";

let device;

function watch(session) {
  const one = { session };
  calls.push(one);
  session.on("ringing", (early) => tell("ringing", early));
  session.on("accept", () => tell("answered", session.parameters.CallSid));
  session.on("disconnect", () => tell("ended"));
  session.on("cancel", () => tell("cancelled"));
  session.on("reject", () => tell("rejected"));
  session.on("error", ({ code, message }) => tell("failed", { code, message }));
  session.on("reconnecting", ({ code }) => tell("reconnecting", code));
  session.on("reconnected", () => tell("reconnected"));
  session.on("messageReceived", ({ content }) => tell("message", content));
  session.on("messageSent", () => tell("messageSent"));
  return session;
}

/** Without this, the SDK hangs up when the page is reloaded. */
for (const event of ["pagehide", "unload", "beforeunload"]) {
  window.addEventListener(event, (one) => one.stopImmediatePropagation(), true);
}

/** The peer connections of the page, each of which is an ear of the latest call without one. */
const waiting = [];
eachConnection((connection) => {
  const deaf = calls.findLast((one) => !one.ear);
  if (deaf) deaf.ear = new Ear(connection);
  else waiting.push(connection);
});

/** Begins a call of the page, whose connection may have been made before the call was known. */
async function begin(options) {
  const session = watch(await device.connect(options));
  const connection = waiting.pop();
  if (connection) latest().ear = new Ear(connection);
  return session;
}

window.phone = {
  ...common,
  async start({ token, hertz, options }) {
    await microphone(hertz);
    device = new Device(token, options);
    device.on("registered", () => tell("registered"));
    device.on("unregistered", () => tell("unregistered"));
    device.on("error", ({ code, message }) => tell("deviceFailed", { code, message }));
    device.on("tokenWillExpire", () => tell("tokenWillExpire"));
    device.on("incoming", (session) => {
      watch(session);
      const { From, To, CallSid } = session.parameters;
      tell("incoming", { from: From, to: To, sid: CallSid, own: Object.fromEntries(session.customParameters) });
    });
  },
  register: () => device.register(),
  unregister: () => device.unregister(),
  identity: () => device.identity,
  updateToken: (token) => device.updateToken(token),
  async call(to, parameters = {}, rtcConfiguration = {}) {
    const session = await begin({ params: { To: to, ...parameters }, rtcConfiguration });
    return session.status();
  },
  /** The token with which a reloaded page takes up the call. */
  connectToken: () => latest().session.connectToken,
  resume: async (connectToken) => void (await begin({ connectToken })),
  answer: () => latest().session.accept(),
  reject: () => latest().session.reject(),
  ignore: () => latest().session.ignore(),
  hangUp: () => latest().session.disconnect(),
  mute: () => latest().session.mute(true),
  unmute: () => latest().session.mute(false),
  digits: (digits) => latest().session.sendDigits(digits),
  status: () => latest().session.status(),
  direction: () => latest().session.direction,
  sid: () => latest().session.parameters.CallSid,
  say: (content) => void latest().session.sendMessage({ content, messageType: "user-defined-message" }),
  /** Tests the way to the server with a call of its own. */
  preflight(token, options) {
    const test = Device.runPreflight(token, options);
    test.on("connected", () => tell("connected"));
    test.on("warning", ({ name }) => tell("warning", name));
    test.on("failed", ({ code, message }) => tell("preflightFailed", { code, message }));
    test.on("completed", ({ callSid, callQuality, isTurnRequired, samples, networkTiming, warnings }) =>
      tell("completed", {
        sid: callSid,
        quality: callQuality,
        turn: isTurnRequired,
        samples: samples.length,
        heard: Math.max(...samples.map((sample) => sample.audioOutputLevel)),
        timing: Object.keys(networkTiming).sort(),
        warnings: warnings.map(({ name }) => name),
      }),
    );
  },
  /** Restarts ICE as the SDK does when a connection has failed. */
  restartIce: () => latest().session._mediaHandler.iceRestart(),
};
