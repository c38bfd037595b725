// A phone made of SignalWire's browser SDK 1.x: the class `Relay` with a token, or the class `Verto` with a password. A test calls the
// functions of `window.phone`.

// The SDK keeps the classes that it finds when it is loaded, so page.js is first.
import { Ear, calls, common, eachConnection, latest, microphone, tell } from "./page.js";
import { Relay, Verto } from "signalwire-v1";

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
  if (call.state === "ringing") tell("incoming", { name: call.options.remoteCallerName, number: call.options.remoteCallerNumber });
  if (call.state === "active") tell("answered");
  if (call.state === "early") tell("early");
  if (call.state === "held") tell("held");
  if (call.state === "destroy") tell("ended", { cause: call.cause, code: call.causeCode });
}

window.phone = {
  ...common,
  async start({ hertz, token, project, url, user, password }) {
    await microphone(hertz);
    const host = url.replace("/sip", "");
    client = token ? new Relay({ project, token }) : new Verto({ host, login: user, passwd: password });
    client.on("signalwire.ready", () => tell("registered"));
    client.on("signalwire.socket.close", () => tell("disconnected"));
    client.on("signalwire.error", ({ code, message }) => tell("failed", { code, message }));
    client.on("signalwire.notification", ({ type, call }) => type === "callUpdate" && update(call));
    await client.connect();
  },
  call: async (to, variables = {}) => void (await client.newCall({ destinationNumber: to, audio: true, video: false, userVariables: variables })),
  answer: () => latest().session.answer(),
  hangUp: () => latest().session.hangup(),
  hold: () => latest().session.hold(),
  unhold: () => latest().session.unhold(),
  mute: () => latest().session.muteAudio(),
  unmute: () => latest().session.unmuteAudio(),
  digits: (digits) => latest().session.dtmf(digits),
  renew: (token) => client.refreshToken(token),
  subscribe: (channel) => client.vertoSubscribe({ channels: [channel] }).then(() => tell("subscribed"), (error) => tell("refused", error)),
  disconnect: () => client.disconnect(),
};
