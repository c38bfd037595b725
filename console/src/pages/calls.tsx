/** The list of calls, with search and filters. */
import { useMemo } from "preact/hooks";
import { session, withQuery } from "../api";
import { duration, moment } from "../format";
import { usePages } from "../load";
import { go, link, route } from "../route";
import type { CallRow } from "../types";
import { NONE, Table, type Column } from "../ui/table";
import { Empty, Failed, Loading, Problems, Status, hasFailed } from "../ui/state";
import { Views } from "./views";

interface Page {
    calls: CallRow[];
    next: string | null;
    /** The number of calls that a search for a part of a number has read. */
    searched?: number;
}

const REFRESH_MS = 5000;
const SINCE: Record<string, [hours: number, label: string]> = { hour: [1, "last hour"], day: [24, "last 24 hours"], week: [168, "last 7 days"] };
const FILTERS: [name: string, label: string, choices: [string, string][]][] = [
    ["status", "Status", ["live", "ended", "completed", "busy", "failed", "no-answer", "canceled"].map((word) => [word, word])],
    ["direction", "Direction", ["inbound", "outbound-api", "outbound-dial"].map((word) => [word, word])],
    ["since", "Since", Object.entries(SINCE).map(([name, [, label]]) => [name, label])],
];

const columns: Column<CallRow>[] = [
    { name: "Time", cell: (call) => <a href={link(["calls", call.id])}>{moment(call.created_at)}</a> },
    { name: "From", cell: (call) => call.from },
    { name: "To", cell: (call) => call.to },
    { name: "Direction", cell: (call) => call.direction },
    { name: "Status", cell: (call) => <Status of={call.status} isBad={hasFailed(call)} /> },
    { name: "Duration", cell: (call) => (call.answered_at ? duration(call.seconds) : NONE), isNumber: true },
    { name: "Trunk", cell: (call) => call.trunk ?? NONE },
    {
        name: "How it ended",
        isLong: true,
        cell: (call) => (
            <>
                {call.end?.text ?? (call.live ? "live" : NONE)} <Problems of={call} />
            </>
        ),
    },
];

/** The filters of the address, as parameters of the request. */
function parameters(query: URLSearchParams, now: number): Record<string, string | undefined> {
    const value = (name: string) => query.get(name) ?? undefined;
    const hours = SINCE[query.get("since") ?? ""]?.[0];
    return {
        search: value("search"),
        status: value("status"),
        direction: value("direction"),
        account: value("account"),
        since: hours ? new Date(now - hours * 3600_000).toISOString() : undefined,
        limit: "50",
    };
}

function Filters({ query }: { query: URLSearchParams }) {
    const change = (name: string, value: string) => go(["calls"], { ...Object.fromEntries(query), [name]: value });
    return (
        <div class="filters" role="group" aria-label="Filters">
            {FILTERS.map(([name, label, choices]) => (
                <label key={name}>
                    <span>{label}</span>
                    <select value={query.get(name) ?? ""} onChange={(event) => change(name, event.currentTarget.value)}>
                        <option value="">any</option>
                        {choices.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
                    </select>
                </label>
            ))}
            {session.value?.role === "operator" && (
                <label>
                    <span>Account</span>
                    <input
                        value={query.get("account") ?? ""}
                        placeholder="all"
                        size={10}
                        onChange={(event) => change("account", event.currentTarget.value.trim())}
                    />
                </label>
            )}
            {query.size > 0 && <a href={link(["calls"])}>Clear</a>}
            <Views />
        </div>
    );
}

function Nothing({ isFiltered }: { isFiltered: boolean }) {
    if (isFiltered) return <Empty>No call matches. Remove a filter, or search for a shorter part of the number or id.</Empty>;
    return (
        <Empty>
            No calls yet. Call one of your <a href={link(["numbers"])}>numbers</a> with a phone or with the <a href={link(["softphone"])}>softphone</a>.
        </Empty>
    );
}

/** The page with the list of calls. */
export function CallsPage() {
    const { query } = route.value;
    const key = query.toString();
    const path = useMemo(() => withQuery("/console/calls", parameters(query, Date.now())), [key]);
    const { data, error, pages, more } = usePages<Page>(path, REFRESH_MS);
    // The first page is read again and again: a call may be on it and on an older page.
    const rows = [...new Map(pages.flatMap((page) => page.calls).map((call) => [call.id, call])).values()];
    const search = query.get("search");
    return (
        <>
            <h1>Calls {search && <small>matching “{search}”</small>}</h1>
            <Filters query={query} />
            {error && <Failed error={error} />}
            {!data && !error && <Loading />}
            {data?.searched !== undefined && <p class="muted">Searched the newest {data.searched.toLocaleString("en")} calls.</p>}
            {data && rows.length === 0 && <Nothing isFiltered={query.size > 0} />}
            {rows.length > 0 && (
                <Table
                    label="Calls"
                    isCompact
                    columns={columns}
                    rows={rows}
                    id={(call) => call.id}
                    opens={(call) => ["calls", call.id]}
                    tone={(call) => (call.parent ? "child" : undefined)}
                />
            )}
            {more && (
                <p>
                    <button type="button" onClick={more}>
                        Older calls
                    </button>
                </p>
            )}
        </>
    );
}
