/**
 * Followed lists, as server-sent events. The events are read with fetch instead of EventSource, because EventSource hides
 * the status of a refusal (401, 404, 503 with Retry-After).
 */
import { signal, type Signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { ApiError, lost, request } from "./api";
import { backoff } from "./load";

/** Time without any octet after which a connection counts as lost. The server sends a comment each 15 s. */
const SILENCE_MS = 40_000;

interface Listener {
    opened: () => void;
    line: (line: Record<string, unknown>) => void;
    refused: (error: ApiError) => void;
}

async function read(path: string, listener: Listener, abort: AbortController): Promise<void> {
    const answer = await request(path, { headers: { Accept: "text/event-stream" }, signal: abort.signal });
    listener.opened();
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let watchdog = 0;
    try {
        while (reader) {
            clearTimeout(watchdog);
            watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
            const { done, value } = await reader.read();
            if (done) return;
            const lines = (rest + value).split("\n");
            rest = lines.pop() ?? "";
            for (const line of lines) {
                if (line.startsWith("data:")) listener.line(JSON.parse(line.slice(5)) as Record<string, unknown>);
            }
        }
    } finally {
        clearTimeout(watchdog);
    }
}

/** Follows a list or a call until the result is called. It connects again after a loss, and rests in a hidden tab. */
export function follow(path: string, listener: Listener): () => void {
    let stopped = false;
    let tries = 0;
    let timer = 0;
    let abort: AbortController | undefined;
    const connect = async () => {
        clearTimeout(timer);
        if (stopped || document.hidden || abort) return;
        const own = new AbortController();
        abort = own;
        let wait = 0;
        try {
            const opened = () => {
                tries = 0;
                listener.opened();
            };
            await read(path, { ...listener, opened }, own);
        } catch (error) {
            if (error instanceof ApiError) {
                wait = error.retryAfter * 1000;
                if (!error.isTemporary) {
                    abort = undefined;
                    if (!stopped) listener.refused(error);
                    return;
                }
                lost.value = error.message;
            }
        }
        abort = undefined;
        if (!stopped && !document.hidden) timer = setTimeout(connect, Math.max(backoff(tries++), wait));
    };
    const shown = () => {
        // A browser has at most six connections to a server: a hidden tab keeps none.
        if (document.hidden) abort?.abort();
        else void connect();
    };
    document.addEventListener("visibilitychange", shown);
    void connect();
    return () => {
        stopped = true;
        clearTimeout(timer);
        document.removeEventListener("visibilitychange", shown);
        abort?.abort();
    };
}

export interface Followed<R> {
    rows: Signal<ReadonlyMap<string, R>>;
    /** Whether the first rows have come. */
    isReady: Signal<boolean>;
    /** Why the list is not complete: it has stopped, or nodes do not answer. */
    note: Signal<string | null>;
    error: Signal<ApiError | null>;
}

/** When a row arrived, in ms of `performance.now()`. */
const arrivals = new WeakMap<object, number>();

/** Seconds since this row arrived. Durations tick with this, because the clocks of server and browser differ. */
export function sinceArrival(row: object): number {
    return (performance.now() - (arrivals.get(row) ?? performance.now())) / 1000;
}

/**
 * Follows the list at `path`. `type` is the key of a row in its line, or several such keys. `part` takes other lines and
 * returns the changed rows.
 */
export function useFollow<R extends object>(
    path: string | null,
    type: string | string[],
    part?: (rows: Map<string, R>, line: Record<string, unknown>) => void,
): Followed<R> {
    const list = useMemo<Followed<R>>(
        () => ({ rows: signal(new Map<string, R>()), isReady: signal(false), note: signal(null), error: signal(null) }),
        [path],
    );
    useEffect(() => {
        if (path === null) return undefined;
        let rows = new Map<string, R>();
        let frame = 0;
        // Many lines come at once after a connect: the page is drawn once for all of them.
        const publish = () => {
            cancelAnimationFrame(frame);
            frame = requestAnimationFrame(() => {
                list.rows.value = new Map(rows);
                list.isReady.value = true;
            });
        };
        const stop = follow(path, {
            opened() {
                rows = new Map();
                list.error.value = null;
                list.note.value = null;
                setTimeout(publish, 150);
            },
            line(line) {
                if (typeof line.note === "string") list.note.value = `The list has stopped: ${line.note}. Connecting again…`;
                else if (Array.isArray(line.away)) list.note.value = line.away.length ? `Without an answer: node ${line.away.join(", ")}. Its rows are missing or old.` : null;
                else if (typeof line.gone === "string") rows.delete(line.gone);
                else if (typeof line.key === "string") {
                    const row = [type].flat().map((name) => line[name]).find(Boolean) as R;
                    arrivals.set(row, performance.now());
                    rows.set(line.key, row);
                } else part?.(rows, line);
                publish();
            },
            refused(error) {
                list.error.value = error;
            },
        });
        return () => {
            cancelAnimationFrame(frame);
            stop();
        };
    }, [path]);
    return list;
}

/** Gives a changed copy of a row the arrival of the row. */
export function inPlaceOf<R extends object>(old: R, row: R): R {
    arrivals.set(row, arrivals.get(old) ?? performance.now());
    return row;
}
