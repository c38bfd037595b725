// A phone made of SignalWire's browser SDK 3.x. A test calls the functions of `window.phone`.

// The SDK keeps the classes that it finds when it is loaded, so page.js is first.
import { Ear, calls, common, eachConnection, latest, microphone, tell, withoutPool } from "./page.js";
import { SignalWire } from "@signalwire/js";

let client;
let pending;

/** The latest peer connection of the page is the ear of the latest call. */
let latestEar;
eachConnection((connection) => (latestEar = new Ear(connection)), withoutPool);

const audio = { audio: true, video: false };

function watch(session) {
  const one = { session };
  Object.defineProperty(one, "ear", { get: () => latestEar });
  calls.push(one);
  session.on("call.joined", () => tell("joined"));
  session.on("active", () => tell("active"));
  session.on("destroy", () => tell("ended"));
  session.on("member.updated", ({ member }) => tell("updated", member.audio_muted));
  return session;
}

function begin(session) {
  session.start().then(
    () => tell("answered"),
    (error) => tell("failed", { code: error.code, message: error.message }),
  );
}

window.phone = {
  ...common,
  async start({ token, hertz }) {
    await microphone(hertz);
    client = await SignalWire({ token });
    tell("connected");
  },
  async register() {
    const all = ({ invite }) => {
      pending = invite;
      const { caller_id_name, caller_id_number } = invite.details;
      tell("incoming", { name: caller_id_name, number: caller_id_number });
    };
    await client.online({ incomingCallHandlers: { all } });
    tell("registered");
  },
  async unregister() {
    await client.offline();
    tell("unregistered");
  },
  async call(to, variables) {
    begin(watch(await client.dial({ to, ...audio, userVariables: variables })));
  },
  async answer() {
    // The promise resolves before the answer is sent.
    const session = watch(await pending.accept(audio));
    session.on("active", () => tell("answered"));
  },
  /** Takes up the call that the page had before it was reloaded. */
  async reattach(to) {
    begin(watch(await client.reattach({ to, ...audio })));
  },
  reject: () => pending.reject(),
  hangUp: () => latest().session.hangup(),
  hold: () => latest().session.hold(),
  unhold: () => latest().session.unhold(),
  mute: () => latest().session.audioMute(),
  unmute: () => latest().session.audioUnmute(),
  digits: (digits) => latest().session.sendDigits(digits),
  renew: (token) => client.updateToken(token),
};
