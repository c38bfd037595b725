/** The turns of a conversation: what was said, which tools ran, how long each step took. */
import { figure, offset, text } from "../format";
import type { TimelineLine } from "../types";
import { NONE, Table, type Column } from "../ui/table";

interface Turn {
    /** The line that begins the turn. */
    start: TimelineLine;
    heard: string[];
    said: string[];
    tools: string[];
    notes: string[];
    words: number | null;
    token: number | null;
    audio: number | null;
}

const number = (value: unknown) => (typeof value === "number" ? value : null);

/** Groups the speech lines of a call: a turn begins with the caller's words after the agent has spoken. */
export function turnsOf(lines: TimelineLine[]): Turn[] {
    const turns: Turn[] = [];
    for (const line of lines) {
        if (line.kind !== "speech" || !line.data) continue;
        const { data } = line;
        const event = String(data.event);
        if (event === "conversation") continue;
        let turn = turns.at(-1);
        if (!turn || (event === "heard" && turn.said.length > 0)) {
            turn = { start: line, heard: [], said: [], tools: [], notes: [], words: null, token: null, audio: null };
            turns.push(turn);
        }
        if (event === "heard") turn.heard.push(text(data.text) || "(words are not kept)");
        else if (event === "said") turn.said.push(text(data.text) || "(words are not kept)");
        else if (event === "tool") turn.tools.push(text(data.tool));
        else if (event === "tool_result") turn.tools.push(data.ok === true ? "ok" : "failed");
        else if (event === "turn") {
            [turn.words, turn.token, turn.audio] = [number(data.words_ms), number(data.token_ms), number(data.audio_ms)];
        } else turn.notes.push(line.text);
    }
    return turns;
}

/** The time to the first audio as a bar: words, first token, first audio. The full width is 2 s. */
function Latency({ of }: { of: Turn }) {
    if (of.audio === null) return <span>–</span>;
    const x = (ms: number | null) => Math.min(100, (ms ?? 0) / 20);
    return (
        <span class="latency">
            <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
                <rect class="under" width="100" height="6" />
                <rect class="audio" width={x(of.audio)} height="6" />
                <rect class="token" width={x(of.token)} height="6" />
                <rect class="words" width={x(of.words)} height="6" />
            </svg>
            <span class="figure">{figure(of.audio, 0, "ms")}</span>
        </span>
    );
}

const columns: Column<Turn>[] = [
    { name: "At", cell: (turn) => `${offset(turn.start.seconds)} s`, isNumber: true },
    { name: "Caller", cell: (turn) => turn.heard.map((words) => `“${words}”`).join(" ") || NONE, isLong: true },
    { name: "Agent", cell: (turn) => turn.said.map((words) => `“${words}”`).join(" ") || NONE, isLong: true },
    { name: "Tools and notes", cell: (turn) => [...turn.tools, ...turn.notes].join(", ") || NONE, isLong: true },
    { name: "To the words", cell: (turn) => figure(turn.words, 0, "ms"), isNumber: true },
    { name: "To the first token", cell: (turn) => figure(turn.token, 0, "ms"), isNumber: true },
    { name: "To the first audio", cell: (turn) => <Latency of={turn} /> },
];

/** The table of turns. All times count from the end of the caller's speech. */
export function Turns({ of }: { of: Turn[] }) {
    return (
        <>
            <p class="muted">Times count from the end of the caller's speech.</p>
            <Table label="Turns" columns={columns} rows={of} id={(turn) => `${turn.start.at} ${turn.start.text}`} />
        </>
    );
}
