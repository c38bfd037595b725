// A phone made of SIP.js. A test calls the functions of `window.phone`.

import { Inviter, Registerer, RegistererState, SessionState, UserAgent } from "sip.js";
import { Ear, cut, microphone, tell } from "./page.js";

const media = { constraints: { audio: true, video: false } };
const calls = []; // {session, ear}, in the order in which they began
const call = (which = -1) => calls.at(which);
let agent, registerer, domain;

function watch(session) {
  const one = { session };
  calls.push(one);
  let answered = false;
  session.delegate = {
    onSessionDescriptionHandler: ({ peerConnection }) => (one.ear = new Ear(peerConnection)),
    onRefer: async (referral) => {
      await referral.accept();
      const inviter = referral.makeInviter({ sessionDescriptionHandlerOptions: media });
      watch(inviter);
      await inviter.invite();
    },
    // The library has no event for the hold of the far end: the direction of its offer says so.
    onInvite: ({ body }) => {
      if (/a=(sendonly|inactive)/.test(body)) tell("hold", "remote");
      else tell("unhold", "remote");
    },
  };
  session.stateChange.addListener((state) => {
    if (state === SessionState.Established) {
      answered = true;
      tell("answered");
    }
    if (state === SessionState.Terminated) tell(answered ? "ended" : "failed", state);
  });
}

function again(session, options) {
  return new Promise((resolve, reject) => {
    session.invite({
      sessionDescriptionHandlerOptions: { ...media, ...options },
      requestDelegate: {
        onAccept: resolve,
        onReject: ({ message }) => reject(new Error(`${message.statusCode}`)),
      },
    }).catch(reject);
  });
}

async function hold(which, on) {
  const one = call(which);
  one.session.sessionDescriptionHandlerOptionsReInvite = { ...media, hold: on };
  await again(one.session, { hold: on });
  // As Web.SessionManager does: the library says "sendonly", and the page itself stops the microphone.
  one.session.sessionDescriptionHandler.enableSenderTracks(!on);
}

function refer(session, to) {
  session.refer(to, {
    requestDelegate: { onReject: ({ message }) => tell("transferFailed", message.statusCode) },
    onNotify: (notification) => {
      notification.accept();
      const status = Number(notification.request.body.match(/^SIP\/2.0 (\d+)/)?.[1]);
      if (status >= 200) tell(status < 300 ? "transferred" : "transferFailed", status);
    },
  });
}

const mute = (which, muted) => call(which).session.sessionDescriptionHandler.enableSenderTracks(!muted);

async function reconnect() {
  tell("disconnected");
  for (;;) {
    try {
      await agent.reconnect();
      break;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
  tell("connected");
  await register();
}

const register = () =>
  registerer.register({
    requestDelegate: {
      onAccept: () => tell("registered"),
      onReject: ({ message }) => tell("registrationFailed", message.reasonPhrase),
    },
  });

window.phone = {
  async start({ url, user, password, domain: host, hertz }) {
    domain = host;
    await microphone(hertz);
    agent = new UserAgent({
      uri: UserAgent.makeURI(`sip:${user}@${domain}`),
      transportOptions: { server: url },
      authorizationUsername: user,
      authorizationPassword: password,
      // Without the setting, the library asks a STUN server of Google.
      sessionDescriptionHandlerFactoryOptions: { peerConnectionConfiguration: { iceServers: [] } },
      logLevel: "warn",
      delegate: {
        onInvite: (invitation) => {
          watch(invitation);
          tell("incoming", invitation.remoteIdentity.uri.user);
        },
        onDisconnect: (error) => error && reconnect(),
      },
    });
    await agent.start();
    tell("connected");
    registerer = new Registerer(agent);
    registerer.stateChange.addListener((state) => {
      if (state === RegistererState.Unregistered) tell("unregistered");
    });
    await register();
  },
  async call(to) {
    const inviter = new Inviter(agent, UserAgent.makeURI(`sip:${to}@${domain}`), {
      sessionDescriptionHandlerOptions: media,
    });
    watch(inviter);
    await inviter.invite({
      requestDelegate: { onProgress: ({ message }) => message.statusCode > 100 && tell("ringing") },
    });
  },
  answer: (which) => call(which).session.accept({ sessionDescriptionHandlerOptions: media }),
  async hangUp(which) {
    const { session } = call(which);
    if (session.state === SessionState.Established) await session.bye();
    else await (session.cancel ?? session.reject).call(session);
  },
  hold: (which) => hold(which, true),
  unhold: (which) => hold(which, false),
  mute: (which) => mute(which, true),
  unmute: (which) => mute(which, false),
  digits: (digits, which) => {
    call(which).session.sessionDescriptionHandler.sendDtmf(digits, { duration: 100, interToneGap: 70 });
  },
  transfer: (to, which) => refer(call(which).session, UserAgent.makeURI(`sip:${to}@${domain}`)),
  transferTo: (other, which) => refer(call(which).session, call(other).session),
  restartIce: (which) => again(call(which).session, { offerOptions: { iceRestart: true } }),
  unregister: () => registerer.unregister(),
  unplug: (which) => call(which).ear.unplug(),
  hears: (which) => call(which)?.ear?.hears() ?? [],
  facts: (which) => call(which).ear.facts(),
  cut,
};
