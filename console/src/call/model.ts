/** The report and the SIP messages of a call as lanes of one time axis. */
import { instant, text } from "../format";
import type { Exchange, QualitySeries, Recording, Report, SipMessage, TimelineLine, Trace, Webhook } from "../types";
import type { Tone } from "../ui/state";

export type Kind = "sip" | "verb" | "web" | "media" | "speech" | "quality" | "recording";

/** The kinds of lanes in their order, with their titles. */
export const KINDS: [kind: Kind, title: string][] = [
    ["sip", "SIP"],
    ["web", "Webhooks"],
    ["verb", "Verbs"],
    ["media", "Media"],
    ["speech", "Speech"],
    ["quality", "Quality"],
    ["recording", "Recordings"],
];

/** What a click on an item shows. */
export type Detail =
    | { type: "sip"; message: SipMessage; leg: string }
    | { type: "web"; exchange: Exchange; webhook: Webhook | undefined }
    | { type: "webhook"; webhook: Webhook }
    | { type: "lines"; lines: TimelineLine[] };

/** Something that happened at a time, or during a time. Times are seconds on the axis. */
export interface Item {
    id: string;
    start: number;
    end: number;
    text: string;
    tone: Tone;
    /** Whether the far end sent it. Only for SIP messages. */
    isReceived?: boolean;
    detail: Detail;
}

export interface Lane {
    id: string;
    kind: Kind;
    title: string;
    items: Item[];
    recording?: Recording;
    series?: QualitySeries;
}

/** A leg with its lanes. */
export interface Track {
    name: string;
    text: string;
    lanes: Lane[];
}

export interface Model {
    /** The instant at which the axis is 0, in seconds since 1970. */
    origin: number;
    /** The last event, in seconds on the axis. */
    end: number;
    tracks: Track[];
}

/** The tone of a SIP message. A challenge and the end of a cancelled call are no failure. */
export function sipTone(summary: string): Tone {
    if (/^[456]\d\d/.test(summary)) return /^(401|407|487) /.test(summary) ? "idle" : "bad";
    if (/^2\d\d/.test(summary)) return "good";
    return "busy";
}

function webTone(exchange: Exchange): Tone {
    if (!exchange.answer) return "bad";
    return exchange.answer.status >= 400 ? "bad" : "good";
}

function lineTone({ kind, data }: TimelineLine): Tone {
    if (data?.level === "error") return "bad";
    if (kind === "advice" || data?.level === "warning") return "warn";
    return data?.state === "started" ? "busy" : "idle";
}

/** The path of a URL, for a short label. */
function shortUrl(url: string): string {
    try {
        return new URL(url).pathname;
    } catch {
        return url;
    }
}

/** The callback that this request delivered. */
export function webhookOf(exchange: Exchange, webhooks: Webhook[]): Webhook | undefined {
    return webhooks.find((hook) => hook.id === exchange.webhook_id);
}

/** Joins the lines of one leg that begin, change and end something into one item. `end` is the end of the leg. */
function spans(lines: TimelineLine[], origin: number, end: number, prefix: string): Item[] {
    const items: Item[] = [];
    const open = new Map<string, { item: Item; lines: TimelineLine[] }>();
    lines.forEach((line, index) => {
        const at = instant(line.at) - origin;
        const { event, id, state, level } = line.data ?? {};
        const key = `${String(event)} ${text(id)}`;
        const before = state ? open.get(key) : undefined;
        // A leg runs one verb at a time.
        if (before && (event === "verb" || state === "ended")) {
            before.item.end = at;
            open.delete(key);
        }
        if (before && !(event === "verb" && state === "started")) {
            before.lines.push(line);
            if (level) before.item.tone = lineTone(line);
            return;
        }
        const own = [line];
        const detail: Detail = { type: "lines", lines: own };
        const item: Item = { id: `${prefix}${index}`, start: at, end: at, text: line.text, tone: lineTone(line), detail };
        items.push(item);
        if (state === "started") {
            item.end = Math.max(at, end);
            open.set(key, { item, lines: own });
        }
    });
    return items;
}

/** Gives the items of a conversation their length: a turn lasts from the end of speech to the first audio, and the agent speaks
 * from the first audio until the line that says so. */
function speechItems(items: Item[]): Item[] {
    let audio: number | null = null;
    return items.map((item) => {
        const data = item.detail.type === "lines" ? item.detail.lines[0]?.data : undefined;
        if (data?.event === "turn") {
            audio = item.start;
            const length = typeof data.audio_ms === "number" ? data.audio_ms / 1000 : 0;
            return {
                ...item,
                start: item.start - length,
                tone: "warn" as const,
                text: `turn ${String(data.turn)}: ${Math.round(length * 1000)} ms`,
            };
        }
        if (data?.event === "heard") return { ...item, tone: "good" as const };
        if (data?.event !== "said" || audio === null) return item;
        const start = audio;
        audio = null;
        return { ...item, start };
    });
}

function sipItems(trace: Trace, party: number, origin: number): Item[] {
    const leg = trace.parties[party]?.name ?? "";
    return trace.messages.flatMap((message, index) => {
        if (message.party !== party) return [];
        const at = instant(message.at) - origin;
        return {
            id: `sip${index}`,
            start: at,
            end: at,
            text: message.summary + (message.again ? " again" : ""),
            tone: sipTone(message.summary),
            isReceived: message.direction === "received",
            detail: { type: "sip", message, leg },
        };
    });
}

function webItems(report: Report, leg: string | null, origin: number): Item[] {
    return report.requests.flatMap((exchange, index) => {
        if (exchange.call !== leg) return [];
        const start = instant(exchange.at) - origin;
        const webhook = webhookOf(exchange, report.webhooks);
        const result = exchange.answer?.status ?? exchange.error ?? "no answer";
        return {
            id: `web${index}`,
            start,
            end: start + exchange.elapsed_ms / 1000,
            text: `${exchange.event ?? exchange.method} ${shortUrl(exchange.url)} ${result}`,
            tone: webTone(exchange),
            detail: { type: "web", exchange, webhook },
        };
    });
}

/** Which lane shows a line of the timeline. SIP messages and webhooks have richer sources. */
function laneOf(line: TimelineLine): Kind | null {
    if (line.kind === "sip" || line.kind === "webhook" || line.kind === "request") return null;
    if (line.kind === "speech") return "speech";
    return line.kind === "call" || line.kind === "verb" || line.kind === "advice" ? "verb" : "media";
}

function track(name: string | null, title: string, report: Report, trace: Trace | undefined, origin: number, end: number): Track {
    const own = report.timeline.filter((line) => line.call === name);
    const party = trace?.parties.findIndex((one) => one.name === name) ?? -1;
    const lines = (kind: Kind) =>
        spans(
            own.filter((line) => laneOf(line) === kind),
            origin,
            end,
            `${kind}${name}`,
        );
    const traced = trace && party >= 0 ? sipItems(trace, party, origin) : [];
    // Without messages in memory, the timeline still has a line for each message.
    const plain = own.filter((line) => line.kind === "sip");
    const sip =
        traced.length > 0
            ? traced
            : spans(plain, origin, end, `sip${name}`).map((item) => ({
                  ...item,
                  isReceived: item.text.startsWith("<-"),
                  text: item.text.replace(/^(<-|->) \S+ \w+ /, ""),
              }));
    const items: Partial<Record<Kind, Item[]>> = {
        sip,
        web: webItems(report, name, origin),
        verb: lines("verb"),
        media: lines("media"),
        speech: speechItems(lines("speech")),
    };
    const series = report.quality_series.find((one) => one.call === name);
    const lanes = KINDS.flatMap(([kind, title]): Lane[] => {
        const id = `${name} ${kind}`;
        if (kind === "quality") return series ? [{ id, kind, title, items: [], series }] : [];
        if (kind === "recording") {
            const recordings = report.recordings.filter((one) => one.call === name);
            return recordings.map((recording) => ({
                id: `${id} ${recording.id}`,
                kind,
                title: "Recording",
                items: [],
                recording,
            }));
        }
        const found = items[kind] ?? [];
        return found.length > 0 ? [{ id, kind, title, items: found }] : [];
    });
    return { name: name ?? "whole call", text: title, lanes };
}

/** Builds the lanes of all legs. */
export function model(report: Report, trace: Trace | undefined, now: number | null): Model {
    const starts = [...report.timeline.slice(0, 1), ...report.calls.map((leg) => ({ at: leg.created_at }))];
    const first = [...starts.map((one) => one.at), ...(trace?.messages.slice(0, 1) ?? []).map((message) => message.at)];
    const origin = Math.min(...first.map(instant));
    const ends = [
        ...report.timeline.map((line) => instant(line.at)),
        ...report.requests.map((exchange) => instant(exchange.at) + exchange.elapsed_ms / 1000),
        ...(trace?.messages ?? []).map((message) => instant(message.at)),
        now ?? 0,
    ];
    const end = Math.max(0.1, ends.reduce((last, one) => Math.max(last, one), origin) - origin);
    const tracks = report.calls.map((leg) => {
        const until = leg.ended_at ? instant(leg.ended_at) - origin : end;
        return track(leg.name, `${leg.from} → ${leg.to}`, report, trace, origin, until);
    });
    const shared = track(null, "", report, trace, origin, end);
    if (shared.lanes.length > 0) tracks.push(shared);
    return { origin, end, tracks };
}
