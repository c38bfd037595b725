// A phone made of Telnyx's WebRTC SDK. A test calls the functions of `window.phone`.

// The SDK keeps the classes that it finds when it is loaded, so page.js is first.
import { Ear, calls, common, eachConnection, latest, microphone, tell } from "./page.js";
import { TelnyxRTC } from "@telnyx/webrtc";

let client;

/** The latest peer connection of the page is the ear of the latest call. */
let latestEar;
eachConnection((connection) => (latestEar = new Ear(connection)));

const states = {};

function update(call) {
  let one = calls.find(({ session }) => session.id === call.id);
  if (!one) calls.push((one = {}));
  one.session = call;
  Object.defineProperty(one, "ear", { get: () => latestEar, configurable: true });
  if (states[call.id] === call.state) return;
  states[call.id] = call.state;
  if (call.state === "ringing" && call.direction === "inbound") {
    const { callerName, callerNumber } = call.options.remoteCallerName ? { callerName: call.options.remoteCallerName, callerNumber: call.options.remoteCallerNumber } : {};
    tell("incoming", {
      name: callerName,
      number: callerNumber,
      control: call.telnyxIDs?.telnyxCallControlId,
      headers: call.options.customHeaders,
      state: call.options.clientState,
    });
  }
  if (call.state === "active") tell("answered", call.telnyxIDs?.telnyxCallControlId);
  if (call.state === "early") tell("early");
  if (call.state === "held") tell("held");
  if (call.state === "recovering") tell("recovering");
  if (call.state === "destroy") tell("ended", { cause: call.cause, code: call.sipCode });
}

window.phone = {
  ...common,
  async start({ hertz, ...options }) {
    await microphone(hertz);
    const { url, user, password, domain, ...own } = options;
    client = new TelnyxRTC({ login: user, password, iceServers: [], ...own });
    client.on("telnyx.ready", () => tell("registered"));
    client.on("telnyx.socket.close", () => tell("disconnected"));
    client.on("telnyx.error", ({ error }) => tell("failed", { code: error?.code, message: error?.message }));
    client.on("telnyx.notification", ({ type, call }) => type === "callUpdate" && update(call));
    await client.connect();
  },
  call: (to, more = {}) => void client.newCall({ destinationNumber: to, audio: true, ...more }),
  answer: (options) => latest().session.answer(options),
  hangUp: () => latest().session.hangup(),
  hold: () => latest().session.hold(),
  unhold: () => latest().session.unhold(),
  mute: () => latest().session.muteAudio(),
  unmute: () => latest().session.unmuteAudio(),
  digits: (digits) => [...digits].forEach((digit) => latest().session.dtmf(digit)),
  login: (token) => client.login({ creds: { login_token: token } }),
  disconnect: () => client.disconnect(),
  restartIce: () => latest().session.peer.restartIce?.() ?? latest().session.peer.instance.restartIce(),
};
