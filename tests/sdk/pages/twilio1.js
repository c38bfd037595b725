// A phone made of Twilio's Client SDK 1.x (`twilio-client`). A test calls the functions of `window.phone`.

// The SDK keeps the classes that it finds when it is loaded, so page.js is first.
import { Ear, calls, common, eachConnection, latest, microphone, tell } from "./page.js";
// The package's own bundle for browsers. Its parts need a module of Node.
import "twilio-client/dist/twilio.js";

const { Device } = window.Twilio;
let device;

/** The latest peer connection of the page is the ear of the latest call. */
let latestEar;
eachConnection((connection) => (latestEar = new Ear(connection)));

function watch(session) {
  const one = { session };
  Object.defineProperty(one, "ear", { get: () => latestEar });
  calls.push(one);
  session.on("ringing", (early) => tell("ringing", early));
  session.on("accept", () => tell("answered", session.parameters.CallSid));
  session.on("disconnect", () => tell("ended"));
  session.on("cancel", () => tell("cancelled"));
  session.on("reject", () => tell("rejected"));
  session.on("error", ({ code, message }) => tell("failed", { code, message }));
}

window.phone = {
  ...common,
  async start({ token, hertz, options }) {
    await microphone(hertz);
    device = new Device();
    device.on("ready", () => tell("registered"));
    device.on("offline", () => tell("unregistered"));
    device.on("error", ({ code, message }) => tell("deviceFailed", { code, message }));
    device.on("incoming", (session) => {
      watch(session);
      const { From, To, CallSid } = session.parameters;
      tell("incoming", { from: From, to: To, sid: CallSid, own: Object.fromEntries(session.customParameters) });
    });
    device.setup(token, { enableRingingState: true, ...options });
  },
  call: (to, parameters = {}) => watch(device.connect({ To: to, ...parameters })),
  answer: () => latest().session.accept(),
  reject: () => latest().session.reject(),
  ignore: () => latest().session.ignore(),
  hangUp: () => latest().session.disconnect(),
  mute: () => latest().session.mute(true),
  unmute: () => latest().session.mute(false),
  digits: (digits) => latest().session.sendDigits(digits),
  updateToken: (token) => device.updateToken(token),
  destroy: () => device.destroy(),
};
