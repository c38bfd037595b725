/**
 * A call of the softphone. One POST is one call: its body is the offer, and its response has a line of JSON for each event. The
 * last line says why the call has ended. To hang up, the page closes the connection.
 */
import { signal } from "@preact/signals";
import { request, withQuery } from "../api";

const GATHERING_MS = 2000;
const KEY_MS = 120;
const GAP_MS = 70;
/** The left end of a level, in dB. */
const QUIETEST = -60;

export interface Problem {
    level: string;
    message: string;
    advice?: string;
}

export interface Parties {
    to: string;
    from: string;
    account?: string;
    device?: string;
}

/** What the network does to the sound. */
export interface Figures {
    codec: string;
    lost: number;
    received: number;
    jitter: number | null;
    roundTrip: number | null;
}

type Line = { event: string; id?: string; sdp?: string; words?: string; detail?: string; failed?: boolean } & Partial<Problem>;

/** Waits until the offer has all candidates. */
function gathered(connection: RTCPeerConnection): Promise<void> {
    return new Promise((resolve) => {
        const check = () => connection.iceGatheringState === "complete" && resolve();
        connection.addEventListener("icegatheringstatechange", check);
        setTimeout(resolve, GATHERING_MS);
        check();
    });
}

async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<Line> {
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const found = (rest + decoder.decode(value, { stream: true })).split("\n");
        rest = found.pop() ?? "";
        // An empty line only shows that the connection is alive.
        for (const one of found) if (one) yield JSON.parse(one) as Line;
    }
}

const REASONS: Record<string, string> = {
    NotAllowedError: "The browser did not allow the microphone. Allow it for this page, and call again.",
    NotFoundError: "The browser found no microphone. Connect one, and call again.",
    NotReadableError: "The microphone does not work: another program may use it.",
};

/** One call. */
export class Call {
    readonly state = signal("Waiting for the microphone");
    /** Why the call has ended; `null` while it lasts. */
    readonly end = signal<string | null>(null);
    readonly id = signal<string | null>(null);
    readonly answeredAt = signal<number | null>(null);
    readonly problems = signal<Problem[]>([]);
    /** The levels of the microphone and of the far end, 0 to 100. */
    readonly levels = signal<[number, number]>([0, 0]);
    readonly keys = signal("");
    readonly figures = signal<Figures | null>(null);
    private readonly abort = new AbortController();
    private readonly context = new AudioContext();
    private readonly sound = new Audio();
    private readonly analysers: AnalyserNode[] = [];
    private connection: RTCPeerConnection | null = null;
    private microphone: MediaStream | null = null;
    private sender: RTCRtpSender | null = null;
    private timer = 0;

    constructor(parties: Parties) {
        this.run(parties).catch((error: unknown) => this.finish(error instanceof Error ? error.message : String(error)));
    }

    get isOver(): boolean {
        return this.end.value !== null;
    }

    private async run({ to, from, account, device }: Parties): Promise<void> {
        const audio = { echoCancellation: true, noiseSuppression: true, ...(device && { deviceId: { exact: device } }) };
        try {
            if (!navigator.mediaDevices) throw new Error("a page gets a microphone only over HTTPS or on 127.0.0.1");
            this.microphone = await navigator.mediaDevices.getUserMedia({ audio });
        } catch (error) {
            const { name, message } = error as Error;
            return this.finish(REASONS[name] ?? `The browser gives this page no microphone: ${message}`);
        }
        if (this.isOver) return this.stop();
        this.state.value = "Calling";
        this.listen(this.microphone, 0);
        const connection = new RTCPeerConnection();
        this.connection = connection;
        connection.addEventListener("track", ({ track }) => this.hear(track));
        connection.addEventListener("connectionstatechange", () => this.connected());
        const [track] = this.microphone.getAudioTracks();
        if (track) this.sender = connection.addTrack(track, this.microphone);
        await connection.setLocalDescription();
        await gathered(connection);
        if (this.isOver) return;
        this.timer = window.setInterval(() => void this.measure(), 1000);
        const answer = await request(withQuery("/console/phone/calls", { to, from, account }), {
            method: "POST",
            headers: { "Content-Type": "application/sdp" },
            body: connection.localDescription?.sdp ?? "",
            signal: this.abort.signal,
        });
        if (answer.body) for await (const line of lines(answer.body)) await this.take(line);
        if (!this.isOver) this.finish("The connection to the server was lost.");
    }

    private async take({ event, id, sdp, words, detail, level, message, advice }: Line): Promise<void> {
        if (this.isOver) return;
        if (sdp) await this.connection?.setRemoteDescription({ type: "answer", sdp });
        if (event === "call") this.id.value = id ?? null;
        if (event === "ringing") this.state.value = "Ringing";
        if (event === "problem" && message) {
            this.problems.value = [...this.problems.value, { level: level ?? "error", message, ...(advice && { advice }) }];
        }
        if (event === "answered") {
            this.answeredAt.value = Date.now();
            this.state.value = "Connecting the sound";
            this.connected();
        }
        if (event === "ended") this.finish([words, detail && `(${detail})`].filter(Boolean).join(" ") || "The call has ended.");
    }

    private connected(): void {
        const state = this.connection?.connectionState;
        if (this.isOver || !this.answeredAt.value) return;
        if (state === "connected") this.state.value = "In the call";
        if (state === "failed" || state === "disconnected") this.state.value = "The sound is interrupted";
    }

    private hear(track: MediaStreamTrack): void {
        const stream = new MediaStream([track]);
        this.sound.srcObject = stream;
        this.sound.play().catch(() => undefined);
        this.listen(stream, 1);
    }

    /** Draws the level of a stream: 0 the microphone, 1 the far end. */
    private listen(stream: MediaStream, place: 0 | 1): void {
        const analyser = new AnalyserNode(this.context, { fftSize: 1024 });
        new MediaStreamAudioSourceNode(this.context, { mediaStream: stream }).connect(analyser);
        this.analysers[place] = analyser;
        if (place === 0) this.draw();
    }

    private draw(): void {
        if (this.isOver) return;
        const samples = new Float32Array(1024);
        const level = (place: 0 | 1) => {
            this.analysers[place]?.getFloatTimeDomainData(samples);
            const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
            const now = Math.max(0, 100 * (1 - (10 * Math.log10(power || 1e-12)) / QUIETEST));
            // A level falls slowly, so that an eye can follow.
            return this.analysers[place] ? Math.min(100, Math.max(now, this.levels.value[place] - 4)) : 0;
        };
        this.levels.value = [level(0), level(1)];
        setTimeout(() => this.draw(), 50);
    }

    private async measure(): Promise<void> {
        const found: Figures = { codec: "", lost: 0, received: 0, jitter: null, roundTrip: null };
        const stats = await this.connection?.getStats();
        stats?.forEach((one: Record<string, unknown>) => {
            if (one.type === "inbound-rtp") {
                found.lost = Number(one.packetsLost) || 0;
                found.received = Number(one.packetsReceived) || 0;
                found.jitter = Number(one.jitter) * 1000;
                const codec = stats.get(String(one.codecId)) as { mimeType?: string } | undefined;
                found.codec = codec?.mimeType?.replace("audio/", "") ?? "";
            }
            if (one.type === "remote-inbound-rtp" && one.roundTripTime) found.roundTrip = Number(one.roundTripTime) * 1000;
        });
        if (!this.isOver) this.figures.value = found;
    }

    /** Sends a key. */
    press(key: string): void {
        const dtmf = this.sender?.dtmf;
        if (!this.answeredAt.value || !dtmf?.canInsertDTMF) return;
        dtmf.insertDTMF(dtmf.toneBuffer + key, KEY_MS, GAP_MS);
        this.keys.value += key;
    }

    /** Switches the microphone off or on. */
    mute(isMuted: boolean): void {
        this.microphone?.getAudioTracks().forEach((track) => (track.enabled = !isMuted));
    }

    hangUp(): void {
        this.finish(this.answeredAt.value ? "You hung up." : "You gave up the call before the answer.");
    }

    private finish(words: string): void {
        if (this.isOver) return;
        this.end.value = words;
        this.state.value = "The call has ended";
        this.stop();
    }

    private stop(): void {
        clearInterval(this.timer);
        this.levels.value = [0, 0];
        this.abort.abort();
        this.connection?.close();
        this.microphone?.getTracks().forEach((track) => track.stop());
        this.sound.srcObject = null;
        this.context.close().catch(() => undefined);
    }
}
