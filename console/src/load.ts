/** Data of a page: read once, again at intervals, and again after a loss of the connection. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get, lost } from "./api";

export interface Loaded<T> {
    data: T | undefined;
    error: ApiError | undefined;
    /** Reads again now. */
    reload: () => void;
}

/** The pause before attempt `tries`, in ms: 1, 2, 4 ... 30 s, with some chance so that not all pages come at once. */
export function backoff(tries: number): number {
    return Math.min(30_000, 1000 * 2 ** tries) * (0.75 + Math.random() / 2);
}

/** Reads JSON at this path, and again `every` ms while the page is visible. `null` reads nothing. */
export function useLoad<T>(path: string | null, every = 0): Loaded<T> {
    const [state, setState] = useState<{ path: string | null; data?: T; error?: ApiError }>({ path: null });
    const again = useRef<() => void>(() => {});
    useEffect(() => {
        if (path === null) return undefined;
        const abort = new AbortController();
        let timer = 0;
        let tries = 0;
        const read = async () => {
            clearTimeout(timer);
            if (document.hidden && every > 0) {
                timer = setTimeout(read, every);
                return;
            }
            try {
                const data = await get<T>(path, abort.signal);
                tries = 0;
                setState({ path, data });
                if (every > 0) timer = setTimeout(read, every);
            } catch (error) {
                if (abort.signal.aborted) return;
                const failed = error instanceof ApiError ? error : new ApiError(0, String(error));
                if (failed.isTemporary) {
                    lost.value = failed.message;
                    timer = setTimeout(read, Math.max(backoff(tries++), failed.retryAfter * 1000));
                } else setState((before) => ({ ...(before.path === path ? before : {}), path, error: failed }));
            }
        };
        again.current = () => void read();
        void read();
        return () => {
            abort.abort();
            clearTimeout(timer);
        };
    }, [path, every]);
    const reload = useCallback(() => again.current(), []);
    const isCurrent = state.path === path;
    return { data: isCurrent ? state.data : undefined, error: isCurrent ? state.error : undefined, reload };
}

interface Page {
    next: string | null;
}

export interface Pages<P> extends Loaded<P> {
    /** All pages that were read, the first one first. */
    pages: P[];
    /** Reads the next page. `null` if there is none. */
    more: (() => void) | null;
}

/** Reads the first page of a list, again at intervals, and further pages on demand. */
export function usePages<P extends Page>(path: string, every: number): Pages<P> {
    const first = useLoad<P>(path, every);
    const [older, setOlder] = useState<{ path: string; pages: P[]; error?: ApiError }>({ path, pages: [] });
    const own = older.path === path ? older : { path, pages: [] };
    const next = (own.pages.at(-1) ?? first.data)?.next;
    const more = async (cursor: string) => {
        const to = `${path}${path.includes("?") ? "&" : "?"}cursor=${encodeURIComponent(cursor)}`;
        try {
            const page = await get<P>(to);
            setOlder({ path, pages: [...own.pages, page] });
        } catch (error) {
            if (error instanceof ApiError) setOlder({ ...own, error });
        }
    };
    const pages = first.data ? [first.data, ...own.pages] : [];
    return { ...first, error: first.error ?? own.error, pages, more: next ? () => void more(next) : null };
}
