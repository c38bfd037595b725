// The parts of a page that are the same for each library: the microphone, the sounds that arrive, events, calls, sockets.

const RATE = 48_000;
const WINDOW = 8_192; // samples of a look at the sound: 170 ms, and 6 Hz a step
const QUIET = -60; // dB

/** The events that a test has not read yet: [name, detail]. */
window.events = [];
export const tell = (name, detail = null) => window.events.push([name, detail]);

/** The calls of the page: {session, ear}, in the order in which they began. */
export const calls = [];
export const latest = () => calls.at(-1);

let context;
const microphones = []; // Chromium collects a node that nothing names, and its stream falls silent.

/** Replaces the microphone of the page by a tone. 0 Hz is silence. */
export async function microphone(hertz) {
  context = new AudioContext({ sampleRate: RATE });
  await context.resume();
  const tone = new OscillatorNode(context, { frequency: hertz });
  const volume = new GainNode(context, { gain: hertz ? 0.4 : 0 });
  tone.connect(volume);
  tone.start();
  navigator.mediaDevices.getUserMedia = async () => {
    const microphone = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    microphones.push(microphone);
    volume.connect(microphone);
    return microphone.stream;
  };
}

/** The sound of a peer connection. */
export class Ear {
  constructor(connection) {
    this.analyser = new AnalyserNode(context, { fftSize: WINDOW, smoothingTimeConstant: 0 });
    this.connection = connection;
    connection.addEventListener("track", ({ track }) => this.listen(track));
    for (const { track } of connection.getReceivers()) this.listen(track);
  }

  listen(track) {
    if (track === this.track) return;
    this.track = track;
    const stream = new MediaStream([track]);
    // Chromium gives a track to Web Audio only if an element plays the track.
    this.element = Object.assign(new Audio(), { srcObject: stream, muted: true });
    this.element.play().catch(() => {});
    this.source?.disconnect();
    this.source = new MediaStreamAudioSourceNode(context, { mediaStream: stream });
    this.source.connect(this.analyser);
  }

  /** The frequencies in Hz that are loud now, the loudest first. None is within 60 Hz of a louder one. */
  hears() {
    const levels = new Float32Array(this.analyser.frequencyBinCount);
    this.analyser.getFloatFrequencyData(levels);
    const loudest = [...levels.keys()].filter((at) => levels[at] > QUIET).sort((a, b) => levels[b] - levels[a]);
    const found = [];
    for (const at of loudest) {
      const hertz = (at * RATE) / WINDOW;
      // A tone of a telephone has faint neighbours. A second tone is at most 20 dB fainter.
      if (levels[at] < levels[loudest[0]] - 20) break;
      if (found.every((one) => Math.abs(one - hertz) > 60)) found.push(Math.round(hertz));
    }
    return found;
  }

  /** The codecs, DTLS, ICE and packets of the connection. */
  async facts() {
    const facts = {};
    const stats = await this.connection.getStats();
    stats.forEach((one) => {
      if (one.type === "outbound-rtp" && one.codecId) facts.sends = stats.get(one.codecId).mimeType;
      if (one.type === "outbound-rtp") facts.sent = one.packetsSent;
      if (one.type === "inbound-rtp" && one.codecId) facts.receives = stats.get(one.codecId).mimeType;
      if (one.type === "inbound-rtp") facts.received = one.packetsReceived;
      if (one.type === "transport" && one.selectedCandidatePairId) {
        const { localCandidateId, remoteCandidateId } = stats.get(one.selectedCandidatePairId);
        const { candidateType, relayProtocol, protocol } = stats.get(localCandidateId);
        const { port } = stats.get(remoteCandidateId);
        Object.assign(facts, { candidate: candidateType, relay: relayProtocol, protocol, port });
      }
      if (one.type === "transport") Object.assign(facts, { dtls: one.dtlsState, role: one.dtlsRole, ice: one.iceState });
    });
    const ufrag = (description) => description?.sdp.match(/a=ice-ufrag:(\S+)/)?.[1];
    // Whether its candidates have names instead of addresses.
    facts.named = this.connection.localDescription?.sdp.includes(".local ") ?? false;
    facts.ours = ufrag(this.connection.localDescription);
    facts.theirs = ufrag(this.connection.remoteDescription);
    return facts;
  }

  /** Takes the track of the microphone away: no RTP is sent from now on. */
  async unplug() {
    for (const sender of this.connection.getSenders()) await sender.replaceTrack(null);
  }
}

/** Hands each peer connection that a library makes to `take`. `adjusted` changes the configuration of a connection. */
export function eachConnection(take, adjusted = (configuration) => configuration) {
  const Connection = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Connection {
    constructor(configuration) {
      super(adjusted(configuration));
      take(this);
    }
  };
}

/**
 * A configuration without the pool of 10 candidates that SignalWire's SDK asks for. With a pool, Chromium sometimes gathers no candidate
 * for an answer, and the SDK never sends the answer.
 */
export const withoutPool = (configuration) => ({ ...configuration, iceCandidatePoolSize: 0 });

const sockets = [];
const Socket = window.WebSocket;
window.WebSocket = class extends Socket {
  constructor(...options) {
    super(...options);
    sockets.push(this);
  }
};

/** The functions of `window.phone` that are the same for each library. */
export const common = {
  /** Closes the sockets of the page, as a network that changes does: with a code that is not the normal one. */
  cut: () => sockets.splice(0).forEach((socket) => socket.close(3001, "cut")),
  unplug: () => latest().ear.unplug(),
  hears: () => latest()?.ear?.hears() ?? [],
  facts: () => latest().ear.facts(),
  /** The description that the server has sent. */
  theirs: () => latest().ear.connection.remoteDescription.sdp,
};
