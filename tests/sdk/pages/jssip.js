// A phone made of JsSIP. A test calls the functions of `window.phone`.

import JsSIP from "jssip";
import { Ear, calls, common, latest, microphone, tell } from "./page.js";

const media = { mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] } };
const done = (method, options) =>
  new Promise((resolve, reject) => latest().session[method](options, resolve) || reject(new Error(`${method}: not now`)));
let ua, waits, withoutUdp;

function watch(session) {
  const one = { session };
  calls.push(one);
  const listen = (connection) => (one.ear = new Ear(connection));
  if (session.connection) listen(session.connection);
  session.on("peerconnection", ({ peerconnection }) => listen(peerconnection));
  // As in a network that blocks UDP.
  if (withoutUdp) session.on("sdp", (event) => (event.sdp = event.sdp.replace(/a=candidate:\S+ 1 udp .*\r\n/gi, "")));
  if (!waits) session.on("icecandidate", ({ ready }) => ready());
  session.on("progress", () => tell("ringing"));
  session.on("confirmed", () => tell("answered"));
  session.on("ended", ({ cause, originator }) => tell("ended", `${originator}: ${cause}`));
  session.on("failed", ({ cause, originator }) => tell("failed", `${originator}: ${cause}`));
  // The far end asks for a transfer: call the new target.
  session.on("refer", ({ accept }) => accept(null, media));
}

window.phone = {
  ...common,
  async start({ url, user, password, domain, hertz, iceServers = [], waitsForCandidates = true, usesUdp = true }) {
    await microphone(hertz);
    waits = waitsForCandidates;
    withoutUdp = !usesUdp;
    media.pcConfig.iceServers = iceServers;
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
    window.addEventListener("online", () => tell("online"));
    ua.start();
  },
  call: (to) => void ua.call(to, media),
  answer: () => latest().session.answer(media),
  hangUp: () => latest().session.terminate(),
  hold: () => done("hold", {}),
  unhold: () => done("unhold", {}),
  mute: () => latest().session.mute(),
  unmute: () => latest().session.unmute(),
  digits: (digits) => latest().session.sendDTMF(digits, { transportType: "RFC2833" }),
  transfer: (to) => refer(latest().session, to, {}),
  /** Joins the far ends of two calls, given by their numbers: 0 is the first call. */
  transferTo: (other, which) => {
    const replaces = calls[other].session;
    refer(calls[which].session, replaces.remote_identity.uri, { replaces });
  },
  restartIce: () => done("renegotiate", { rtcOfferConstraints: { iceRestart: true } }),
  /** Opens another socket at once. Chromium takes a minute to close one whose network is gone. */
  reconnect: () => {
    ua.transport.disconnect();
    ua.transport.connect();
  },
  unregister: () => ua.unregister(),
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
