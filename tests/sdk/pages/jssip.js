// A phone made of JsSIP. A test calls the functions of `window.phone`.

import JsSIP from "jssip";
import { Ear, cut, microphone, tell } from "./page.js";

const media = { mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] } };
const calls = []; // {session, ear}, in the order in which they began
const call = (which = -1) => calls.at(which);
const done = (method, session, ...options) =>
  new Promise((resolve, reject) => session[method](...options, resolve) || reject(new Error(`${method}: not now`)));
let ua;

function watch(session) {
  const one = { session };
  calls.push(one);
  const listen = (connection) => (one.ear = new Ear(connection));
  if (session.connection) listen(session.connection);
  session.on("peerconnection", ({ peerconnection }) => listen(peerconnection));
  session.on("progress", () => tell("ringing"));
  session.on("confirmed", () => tell("answered"));
  session.on("ended", ({ cause, originator }) => tell("ended", `${originator}: ${cause}`));
  session.on("failed", ({ cause, originator }) => tell("failed", `${originator}: ${cause}`));
  session.on("hold", ({ originator }) => tell("hold", originator));
  session.on("unhold", ({ originator }) => tell("unhold", originator));
  // The far end asks for a transfer: call the new target.
  session.on("refer", ({ accept }) => accept(null, media));
}

window.phone = {
  async start({ url, user, password, domain, hertz }) {
    await microphone(hertz);
    ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(url)],
      uri: `sip:${user}@${domain}`,
      password,
      connection_recovery_min_interval: 1,
    });
    ua.on("connected", () => tell("connected"));
    ua.on("disconnected", () => tell("disconnected"));
    ua.on("registered", () => tell("registered"));
    ua.on("unregistered", () => tell("unregistered"));
    ua.on("registrationFailed", ({ cause }) => tell("registrationFailed", cause));
    ua.on("newRTCSession", ({ originator, session }) => {
      watch(session);
      if (originator === "remote") tell("incoming", session.remote_identity.uri.user);
    });
    ua.start();
  },
  call: (to) => void ua.call(to, media),
  answer: (which) => call(which).session.answer(media),
  hangUp: (which) => call(which).session.terminate(),
  hold: (which) => done("hold", call(which).session, {}),
  unhold: (which) => done("unhold", call(which).session, {}),
  mute: (which) => call(which).session.mute(),
  unmute: (which) => call(which).session.unmute(),
  digits: (digits, which) => call(which).session.sendDTMF(digits, { transportType: "RFC2833" }),
  transfer: (to, which) => refer(call(which).session, to, {}),
  transferTo: (other, which) =>
    refer(call(which).session, call(other).session.remote_identity.uri, { replaces: call(other).session }),
  restartIce: (which) => done("renegotiate", call(which).session, { rtcOfferConstraints: { iceRestart: true } }),
  unregister: () => ua.unregister(),
  unplug: (which) => call(which).ear.unplug(),
  hears: (which) => call(which)?.ear?.hears() ?? [],
  facts: (which) => call(which).ear.facts(),
  cut,
};

function refer(session, to, options) {
  session.refer(to, {
    ...options,
    eventHandlers: {
      requestFailed: ({ cause }) => tell("transferFailed", cause),
      accepted: ({ status_line }) => tell("transferred", status_line.status_code),
      failed: ({ status_line }) => tell("transferFailed", status_line.status_code),
    },
  });
}
