/** Requests to the server. All paths begin with /console and are of the same origin. */
import { signal } from "@preact/signals";
import type { Session } from "./types";

/** The user: `undefined` before the first answer, `null` if nobody is signed in. */
export const session = signal<Session | null | undefined>(undefined);
/** The reason why the server cannot be reached, or `null`. */
export const lost = signal<string | null>(null);

/** What is wrong with a key of an entry, or with the whole entry. */
export interface Fault {
    key: string | null;
    message: string;
}

/** An answer that is no success. Status 0: there was no answer. */
export class ApiError extends Error {
    constructor(
        readonly status: number,
        message: string,
        readonly advice: string | null = null,
        readonly retryAfter = 0,
        readonly faults: Fault[] = [],
    ) {
        super(message);
    }

    /** Whether the same request may succeed later. */
    get isTemporary(): boolean {
        return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
    }
}

/** With this header the server sends no challenge that opens the browser's own password dialog, and takes changes. */
const OURS = { "X-Tandem-Console": "1" };

/** The path of a resource. Each part is encoded. */
export function pathOf(...parts: string[]): string {
    return `/console/${parts.map(encodeURIComponent).join("/")}`;
}

/** A path with parameters. Empty parameters are left out. */
export function withQuery(path: string, query: Record<string, string | undefined>): string {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value) search.set(name, value);
    const text = search.toString();
    return text ? `${path}?${text}` : path;
}

async function failure(answer: Response): Promise<ApiError> {
    let message = "";
    let advice: string | null = null;
    let faults: Fault[] = [];
    const body = await answer.text().catch(() => "");
    try {
        const json = JSON.parse(body) as { message?: unknown; advice?: unknown; faults?: Fault[] };
        message = String(json.message ?? "");
        advice = typeof json.advice === "string" ? json.advice : null;
        faults = json.faults ?? [];
    } catch {
        message = body.trim().slice(0, 300);
    }
    const wait = Number(answer.headers.get("retry-after")) || 0;
    return new ApiError(answer.status, message || `the server answered ${answer.status}`, advice, wait, faults);
}

/** Sends a request. A failure is an `ApiError`. After 401 the page shows the sign-in. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
    let answer: Response;
    try {
        const headers = { ...OURS, Accept: "application/json", ...init.headers };
        answer = await fetch(path, { ...init, headers, cache: "no-store", credentials: "same-origin" });
    } catch (error) {
        if (init.signal?.aborted) throw error;
        throw new ApiError(0, "the server cannot be reached");
    }
    if (answer.ok) {
        lost.value = null;
        return answer;
    }
    const error = await failure(answer);
    if (error.status === 401 && path !== "/console/session") session.value = null;
    throw error;
}

/** Reads JSON. */
export async function get<T>(path: string, abort?: AbortSignal): Promise<T> {
    const answer = await request(path, abort ? { signal: abort } : {});
    return (await answer.json()) as T;
}

/** Sends a change, with a JSON body if there is one. */
export async function send(method: "POST" | "PUT" | "DELETE", path: string, body?: unknown): Promise<Response> {
    if (body === undefined) return request(path, { method });
    return request(path, { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
}

/** Asks who is signed in. A server without sessions has signed the user in already (Basic). */
export async function findSession(): Promise<void> {
    try {
        session.value = await get<Session>("/console/session");
    } catch (error) {
        const status = error instanceof ApiError ? error.status : 0;
        if (status === 404) session.value = { name: "", role: "reader", account: "", version: "" };
        else if (status === 401) session.value = null;
        else {
            lost.value = error instanceof Error ? error.message : String(error);
            setTimeout(() => void findSession(), 3000);
        }
    }
}

/** Signs in. */
export async function signIn(user: string, password: string): Promise<void> {
    const answer = await send("POST", "/console/session", { user, password });
    session.value = (await answer.json()) as Session;
}

/** Signs out. */
export async function signOut(): Promise<void> {
    await send("DELETE", "/console/session");
    session.value = null;
}

/** Whether the user may change something. */
export function mayChange(): boolean {
    return session.value?.role === "operator" || session.value?.role === "account";
}
