/** Words with a colour, and what a page shows while it has no data. */
import type { ComponentChildren } from "preact";
import type { ApiError } from "../api";
import type { CallRow } from "../types";

export type Tone = "good" | "warn" | "bad" | "idle" | "busy";

const STATUS: Record<string, Tone> = {
    completed: "good",
    "in-progress": "busy",
    ringing: "busy",
    initiated: "busy",
    queued: "busy",
    busy: "warn",
    "no-answer": "warn",
    canceled: "idle",
    failed: "bad",
};

/** A word in a colour. The word alone says the same. */
export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
    return <span class={`badge ${tone}`}>{children}</span>;
}

/** Whether an error was reported for a call. */
export const hasFailed = (call: CallRow) => call.problems.some((one) => one.level === "error");

/** The status of a call. `isBad`: an error was reported. */
export function Status({ of, isBad }: { of: string; isBad?: boolean }) {
    return <Badge tone={isBad ? "bad" : (STATUS[of] ?? "idle")}>{of}</Badge>;
}

/** The causes of a call's errors and warnings. */
export function Problems({ of }: { of: CallRow }) {
    const end = of.end?.cause;
    const isNew = end && !of.problems.some((one) => one.cause === end);
    return [...of.problems, ...(isNew ? [{ level: "error", cause: end }] : [])].map(({ level, cause }) => (
        <Badge key={level + cause} tone={level === "error" ? "bad" : "warn"}>
            {cause}
        </Badge>
    ));
}

/** The tone of a mean opinion score. */
export function mosTone(mos: number | null | undefined): Tone {
    if (mos === null || mos === undefined) return "idle";
    return mos >= 4 ? "good" : mos >= 3.5 ? "warn" : "bad";
}

/** A mean opinion score as a figure and a bar from 1 to 4.5. */
export function Mos({ value }: { value: number | null | undefined }) {
    if (value === null || value === undefined) return <span>–</span>;
    return (
        <span class={`mos ${mosTone(value)}`}>
            <span class="figure">{value.toFixed(2)}</span>
            <svg class="bar" viewBox="0 0 35 4" preserveAspectRatio="none" aria-hidden="true">
                <rect class="under" width="35" height="4" />
                <rect class="over" width={Math.max(0, value - 1) * 10} height="4" />
            </svg>
        </span>
    );
}

/** What to do when a list is empty. */
export function Empty({ children }: { children: ComponentChildren }) {
    return <div class="empty">{children}</div>;
}

/** A page that waits for its first data. */
export function Loading() {
    return <p class="loading" role="status">Loading…</p>;
}

/** A request that failed for good. 404: the server is older than this page. */
export function Failed({ error, missing }: { error: ApiError; missing?: string }) {
    if (error.status === 404) {
        return <Empty>{missing ?? "This server does not offer this page. A newer version of Tandem has it."}</Empty>;
    }
    return (
        <div class="notice bad" role="alert">
            <strong>{error.message}</strong>
            {error.advice && <p>{error.advice}</p>}
        </div>
    );
}

/** The last line of a followed list. */
export function Note({ text }: { text: string | null }) {
    if (!text) return null;
    return (
        <p class="notice warn" role="status">
            {text}
        </p>
    );
}
