// JsSIP as a phone without a browser: SIP over WebSocket as it is, and instead of WebRTC plain RTP in PCMU.
//
//   node phone.mjs '{"url": "ws://...", "user": "...", "password": "...", "domain": "...", "address": "...", "rtp": 30000, "hertz": 500, "heard": "FOLDER/heard"}'
//
// Commands come in on standard input, a JSON array each line; events go out on standard output, a JSON object each line.

import dgram from "node:dgram";
import fs from "node:fs";
import readline from "node:readline";
import WebSocket from "ws";

const settings = JSON.parse(process.argv[2]);
const tell = (type, more = {}) => process.stdout.write(JSON.stringify({ type, ...more }) + "\n");

// ----- audio ---------------------------------------------------------------------------------------------------------

const linear = (octet) => {
  octet = ~octet & 255;
  const value = (((octet & 15) << 3) + 132 << (octet >> 4 & 7)) - 132;
  return octet & 128 ? -value : value;
};
const LINEAR = Int16Array.from({ length: 256 }, (_, octet) => linear(octet));
const nearest = (sample) => {
  let best = 0;
  for (let octet = 1; octet < 256; octet++) {
    if (Math.abs(LINEAR[octet] - sample) < Math.abs(LINEAR[best] - sample)) best = octet;
  }
  return best;
};
const second = Buffer.from(
  Array.from({ length: 8000 }, (_, at) => nearest(8000 * Math.sin((2 * Math.PI * settings.hertz * at) / 8000))),
);
const silence = Buffer.alloc(160, 255);

let sockets = 0;

/** One call's RTP. */
class Audio {
  constructor(track) {
    this.track = track;
    this.port = settings.rtp + 2 * (sockets++ % 50);
    this.socket = dgram.createSocket("udp4");
    this.socket.bind(this.port, settings.address);
    const file = fs.openSync(`${settings.heard}-${String(sockets).padStart(3, "0")}.wav`, "w");
    fs.writeSync(file, Buffer.alloc(44));
    this.socket.on("message", (packet) => {
      if (packet.length <= 12 || (packet[1] & 127) !== 0) return;
      const samples = Int16Array.from(packet.subarray(12), (octet) => LINEAR[octet]);
      fs.writeSync(file, Buffer.from(samples.buffer));
    });
    this.sends = true;
    let [sequence, at] = [1, Date.now()];
    this.timer = setInterval(() => {
      for (; at <= Date.now(); at += 20, sequence++) {
        if (!this.remote || !this.sends) continue;
        const header = Buffer.alloc(12);
        header.writeUInt8(0x80, 0);
        header.writeUInt16BE(sequence & 0xffff, 2);
        header.writeUInt32BE((sequence * 160) >>> 0, 4);
        header.writeUInt32BE(settings.rtp, 8);
        const from = (sequence * 160) % 8000;
        const payload = this.track.enabled ? second.subarray(from, from + 160) : silence;
        this.socket.send(Buffer.concat([header, payload]), this.remote.port, this.remote.host);
      }
    }, 10);
  }

  hear(sdp) {
    const field = (pattern) => (sdp.match(pattern) ?? [])[1];
    this.remote = { host: field(/c=IN IP4 (\S+)/), port: Number(field(/m=audio (\d+)/)) };
    this.sends = !/a=(sendonly|inactive)/.test(sdp);
  }

  close() {
    clearInterval(this.timer);
    this.socket.close();
  }
}

// ----- what a browser has ------------------------------------------------------------------------------------------

class Description {
  constructor({ type, sdp }) {
    Object.assign(this, { type, sdp });
  }
}

class Connection extends EventTarget {
  iceGatheringState = "complete";
  iceConnectionState = "connected";
  signalingState = "stable";
  senders = [];

  addTrack(track) {
    this.senders.push({ track });
    this.audio = new Audio(track);
  }

  getSenders() {
    return this.senders;
  }

  sdp(direction) {
    return (
      [
        "v=0",
        `o=- 1 ${++sockets} IN IP4 ${settings.address}`,
        "s=-",
        `c=IN IP4 ${settings.address}`,
        "t=0 0",
        `m=audio ${this.audio.port} RTP/AVP 0`,
        "a=rtpmap:0 PCMU/8000",
        `a=${direction}`,
      ].join("\r\n") + "\r\n"
    );
  }

  async createOffer() {
    return { type: "offer", sdp: this.sdp("sendrecv") };
  }

  async createAnswer() {
    const asked = (this.remoteDescription.sdp.match(/a=(sendonly|recvonly|inactive)/) ?? [])[1];
    return { type: "answer", sdp: this.sdp({ sendonly: "recvonly", recvonly: "sendonly" }[asked] ?? asked ?? "sendrecv") };
  }

  async setLocalDescription(description) {
    this.localDescription = description;
  }

  async setRemoteDescription(description) {
    this.remoteDescription = description;
    this.audio.hear(description.sdp);
  }

  close() {
    this.audio?.close();
  }
}

globalThis.WebSocket = WebSocket;
globalThis.window = globalThis;
globalThis.RTCPeerConnection = Connection;
globalThis.RTCSessionDescription = Description;
const stream = () => {
  const track = { kind: "audio", enabled: true, stop() {} };
  return { getTracks: () => [track], getAudioTracks: () => [track], getVideoTracks: () => [], removeTrack() {} };
};

// ----- the phone ---------------------------------------------------------------------------------------------------

const { default: JsSIP } = await import("jssip");
if (settings.trace) JsSIP.debug.enable("JsSIP:Transport");
else JsSIP.debug.disable();

const agent = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(settings.url)],
  uri: `sip:${settings.user}@${settings.domain}`,
  password: settings.password,
  register_expires: 60,
  session_timers: true,
});
const sessions = [];
const latest = () => sessions.at(-1);

agent.on("registered", () => tell("registered"));
agent.on("unregistered", () => tell("unregistered"));
agent.on("registrationFailed", ({ cause }) => tell("registration failed", { cause }));
agent.on("disconnected", () => tell("disconnected"));
agent.on("newMessage", ({ message }) => {
  for (const event of ["succeeded", "failed"]) message.on(event, ({ response }) => tell("message", { status: response?.status_code }));
});
agent.on("newRTCSession", ({ session, originator }) => {
  sessions.push(session);
  if (originator === "remote") tell("incoming");
  session.on("progress", () => originator === "local" && tell("ringing"));
  session.on("confirmed", () => tell("established"));
  session.on("ended", ({ cause }) => tell("ended", { cause }));
  session.on("failed", ({ cause }) => tell("ended", { cause }));
  session.on("newDTMF", ({ originator: who, dtmf }) => who === "remote" && tell("key", { key: dtmf.tone }));
  session.on("refer", (event) => tell("refer", { to: String(event.request.refer_to) }));
});

const commands = {
  dial: (target) => agent.call(`sip:${target}@${settings.domain}`, { mediaStream: stream() }),
  answer: () => latest().answer({ mediaStream: stream() }),
  hangup: () => sessions.filter((one) => !one.isEnded()).forEach((one) => one.terminate()),
  hold: () => latest().hold(),
  resume: () => latest().unhold(),
  press: (keys) => latest().sendDTMF(keys, { transportType: "INFO" }),
  transfer: (target) => {
    const refer = latest().refer(`sip:${target}@${settings.domain}`);
    for (const event of ["accepted", "failed"]) refer?.on?.(event, () => tell(`transfer ${event}`));
    const session = latest();
    refer?.on?.("accepted", () => session.terminate());
  },
  consult: (target) => {
    latest().hold();
    agent.call(`sip:${target}@${settings.domain}`, { mediaStream: stream() });
  },
  complete: () => {
    const [first, second] = sessions.slice(-2);
    const refer = first.refer(second.remote_identity.uri.toString(), { replaces: second });
    refer.on("accepted", () => [first, second].forEach((one) => one.isEnded() || one.terminate()));
  },
  message: (target) => agent.sendMessage(`sip:${target}@${settings.domain}`, "hello"),
  quit: () => {
    agent.stop();
    setTimeout(() => process.exit(0), 500);
  },
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [name, ...values] = JSON.parse(line);
  try {
    commands[name](...values);
  } catch (error) {
    tell("error", { name, error: String(error) });
  }
});
agent.start();
