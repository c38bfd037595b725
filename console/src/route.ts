/** Routing by the part of the address after `#`: `#/calls/CA...?search=...`. */
import { computed, signal } from "@preact/signals";

export interface Route {
    path: string[];
    query: URLSearchParams;
}

function decode(part: string): string {
    try {
        return decodeURIComponent(part);
    } catch {
        return part;
    }
}

function parse(hash: string): Route {
    const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
    return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

/** The page that the address names. */
export const route = signal(parse(location.hash));
/** The first part of the path. */
export const page = computed(() => route.value.path[0] ?? "live");

addEventListener("hashchange", () => {
    route.value = parse(location.hash);
});

type Query = Record<string, string | undefined>;

/** The address of a page of the console. Each part is encoded, so data cannot leave the console. */
export function link(path: string[], query: Query = {}): string {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value) search.set(name, value);
    const text = search.toString();
    return `#/${path.map(encodeURIComponent).join("/")}${text && `?${text}`}`;
}

/** Opens a page of the console. */
export function go(path: string[], query: Query = {}): void {
    location.hash = link(path, query);
}
