// A phone made of SIP.js. A test calls the functions of `window.phone`.

import { Inviter, Registerer, RegistererState, SessionState, UserAgent } from "sip.js";
import { Ear, calls, common, latest, microphone, tell } from "./page.js";

const media = { constraints: { audio: true, video: false } };
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

async function hold(on) {
  const { session } = latest();
  session.sessionDescriptionHandlerOptionsReInvite = { ...media, hold: on };
  await again(session, { hold: on });
  // As Web.SessionManager does: the library says "sendonly", and the page itself stops the microphone.
  session.sessionDescriptionHandler.enableSenderTracks(!on);
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

const mute = (muted) => latest().session.sessionDescriptionHandler.enableSenderTracks(!muted);

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
  ...common,
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
  answer: () => latest().session.accept({ sessionDescriptionHandlerOptions: media }),
  async hangUp() {
    const { session } = latest();
    if (session.state === SessionState.Established) await session.bye();
    else await (session.cancel ?? session.reject).call(session);
  },
  hold: () => hold(true),
  unhold: () => hold(false),
  mute: () => mute(true),
  unmute: () => mute(false),
  digits: (digits) => {
    latest().session.sessionDescriptionHandler.sendDtmf(digits, { duration: 100, interToneGap: 70 });
  },
  transfer: (to) => refer(latest().session, UserAgent.makeURI(`sip:${to}@${domain}`)),
  /** Joins the far ends of two calls, given by their numbers: 0 is the first call. */
  transferTo: (other, which) => refer(calls[which].session, calls[other].session),
  restartIce: () => again(latest().session, { offerOptions: { iceRestart: true } }),
  unregister: () => registerer.unregister(),
};
