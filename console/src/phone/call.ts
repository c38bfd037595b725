/**
 * A call of the softphone. One POST makes a call: its response has a line of JSON for each event, and the last line says why the
 * call has ended; to hang up, the page closes the connection. A call that rings comes over the socket of `desk.ts`.
 */
import { signal } from "@preact/signals";
import { request } from "../api";

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

/** What is called. Without an application, the called number decides. */
export interface Parties {
    to?: string;
    from?: string;
    account?: string;
    url?: string;
    provider?: string;
    application?: string;
    agent?: string;
    prompt?: string;
}

/** A call that the server offers, and the way back to the server. */
export interface Offered {
    /** The id of the call for the other pages. */
    call: string;
    sdp: string;
    /** Whether this page only listens: it needs no microphone. */
    listens: boolean;
    answer: (sdp: string) => void;
    leave: () => void;
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

/** Waits until the description has all candidates. */
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

const NO_ADDRESS = "The browser gave this page no network address for the sound. Connect a network, or allow WebRTC in the browser and its extensions.";

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
    private tone = "";
    readonly figures = signal<Figures | null>(null);
    readonly isMuted = signal(false);
    private readonly abort = new AbortController();
    private readonly context = new AudioContext();
    private readonly sound = new Audio();
    private readonly analysers: AnalyserNode[] = [];
    private connection: RTCPeerConnection | null = null;
    private microphone: MediaStream | null = null;
    private sender: RTCRtpSender | null = null;
    private leave: (() => void) | null = null;
    private timer = 0;

    private constructor(
        /** The parties, for people. */
        readonly title: string,
        /** Whether the page only listens. */
        readonly listens: boolean,
        run: (call: Call) => Promise<void>,
    ) {
        run(this).catch((error: unknown) => this.finish(error instanceof Error ? error.message : String(error)));
    }

    /** Makes a call. */
    static to(title: string, parties: Parties, device: string): Call {
        return new Call(title, false, (call) => call.dial(parties, device));
    }

    /** Takes a call that rings. */
    static of(title: string, offered: Offered): Call {
        return new Call(title, offered.listens, (call) => call.take(offered));
    }

    get isOver(): boolean {
        return this.end.value !== null;
    }

    private async dial(parties: Parties, device: string): Promise<void> {
        const connection = await this.connect(device);
        if (!connection) return;
        this.state.value = "Calling";
        const offer = await this.describe(connection);
        if (offer === null) return;
        const answer = await request("/console/phone/calls", {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify({ ...parties, sdp: offer }),
            signal: this.abort.signal,
        });
        if (answer.body) for await (const line of lines(answer.body)) await this.read(line);
        if (!this.isOver) this.finish("The connection to the server was lost.");
    }

    private async take({ call, sdp, answer, leave }: Offered): Promise<void> {
        this.leave = leave;
        this.id.value = call;
        const connection = await this.connect("");
        if (!connection) return;
        await connection.setRemoteDescription({ type: "offer", sdp });
        const own = await this.describe(connection);
        if (own === null) return;
        answer(own);
        this.answered();
    }

    /** Returns the page's description with its addresses; `null` if the call is over. */
    private async describe(connection: RTCPeerConnection): Promise<string | null> {
        await connection.setLocalDescription();
        await gathered(connection);
        const sdp = connection.localDescription?.sdp ?? "";
        if (!sdp.includes("a=candidate")) this.finish(NO_ADDRESS);
        return this.isOver ? null : sdp;
    }

    /** Opens the microphone and a connection that has it. Without a microphone, the call is over. */
    private async connect(device: string): Promise<RTCPeerConnection | null> {
        if (!this.listens) {
            const audio = { echoCancellation: true, noiseSuppression: true, ...(device && { deviceId: { exact: device } }) };
            try {
                if (!navigator.mediaDevices) throw new Error("a page gets a microphone only over HTTPS or on 127.0.0.1");
                this.microphone = await navigator.mediaDevices.getUserMedia({ audio });
            } catch (error) {
                const { name, message } = error as Error;
                this.finish(REASONS[name] ?? `The browser gives this page no microphone: ${message}`);
                return null;
            }
            if (this.isOver) {
                this.stop();
                return null;
            }
            this.listen(this.microphone, 0);
        } else this.draw();
        const connection = new RTCPeerConnection();
        this.connection = connection;
        connection.addEventListener("track", ({ track }) => this.hear(track));
        connection.addEventListener("connectionstatechange", () => this.connected());
        const [track] = this.microphone?.getAudioTracks() ?? [];
        if (track && this.microphone) this.sender = connection.addTrack(track, this.microphone);
        this.timer = window.setInterval(() => void this.measure(), 1000);
        return connection;
    }

    private async read({ event, id, sdp, words, detail, level, message, advice }: Line): Promise<void> {
        if (this.isOver) return;
        if (sdp) await this.connection?.setRemoteDescription({ type: "answer", sdp });
        if (event === "call") this.id.value = id ?? null;
        if (event === "ringing") this.state.value = "Ringing";
        if (event === "problem" && message) {
            this.problems.value = [...this.problems.value, { level: level ?? "error", message, ...(advice && { advice }) }];
        }
        if (event === "answered") this.answered();
        if (event === "ended") this.finish([words, detail && `(${detail})`].filter(Boolean).join(" ") || "The call has ended.");
    }

    private answered(): void {
        this.answeredAt.value = Date.now();
        this.state.value = "Connecting the sound";
        this.connected();
    }

    private connected(): void {
        const state = this.connection?.connectionState;
        if (this.isOver || !this.answeredAt.value) return;
        if (state === "connected") this.state.value = this.listens ? "Listening" : "In the call";
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
        if (!this.isOver && found.codec) this.figures.value = found;
    }

    /** Sends a key. It counts as sent when its tone is over: then the tone changes to that of the next key, or to none. */
    press(key: string): void {
        const dtmf = this.sender?.dtmf;
        if (!this.answeredAt.value || !dtmf?.canInsertDTMF) return;
        dtmf.ontonechange = ({ tone }) => ([this.keys.value, this.tone] = [this.keys.value + this.tone, tone]);
        dtmf.insertDTMF(dtmf.toneBuffer + key, KEY_MS, GAP_MS);
    }

    /** Switches the microphone off or on. */
    mute(): void {
        this.isMuted.value = !this.isMuted.value;
        this.microphone?.getAudioTracks().forEach((track) => (track.enabled = !this.isMuted.value));
    }

    hangUp(): void {
        this.leave?.();
        this.finish(this.answeredAt.value ? "You hung up." : "You gave up the call before the answer.");
    }

    /** The server has ended the call. */
    ended(): void {
        this.finish("The other party hung up.");
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
