/** Problems by cause: how often, since when, what to do, which calls. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, withQuery } from "../api";
import { count, moment } from "../format";
import { useLoad } from "../load";
import { go, link, route } from "../route";
import type { CauseCount, Problem } from "../types";
import { attempt } from "../ui/dialog";
import { Badge, Empty, Failed, Loading } from "../ui/state";

/** The number of problems of one cause that the page shows at most. */
const MOST = 1000;
const SPANS: [value: string, text: string, hours: number][] = [
    ["hour", "last hour", 1],
    ["", "last 24 hours", 24],
    ["week", "last 7 days", 168],
    ["all", "all", 0],
];

/** The page of the call. A refused request has no call, but its SIP messages are found by its Call-ID. */
function idOf(problem: Problem): string | undefined {
    return problem.call ?? problem.session ?? problem.request?.sip_call_id;
}

function Where({ of }: { of: Problem }) {
    const id = idOf(of);
    if (id) return <a href={link(["calls", id])}>{moment(of.at)}</a>;
    return <span>{moment(of.at)}</span>;
}

function Cause({ of, since, isChosen }: { of: CauseCount; since: string | undefined; isChosen: boolean }) {
    const [isOpen, open] = useState(isChosen);
    const [all, setAll] = useState<Problem[] | null>(null);
    const article = useRef<HTMLElement>(null);
    useEffect(() => {
        if (isChosen) article.current?.scrollIntoView();
    }, [isChosen]);
    const isError = of.level === "error";
    const shown = all ?? of.newest;
    // The advice of the newest problem also has what is special about it.
    const advice = of.newest[0]?.advice ?? of.advice;
    const showAll = () =>
        attempt("All are shown.", async () => {
            const path = withQuery("/console/errors", { cause: of.cause, limit: String(MOST), since });
            setAll((await get<{ errors: Problem[] }>(path)).errors);
        });
    return (
        <article ref={article} class={`problem ${of.level}`}>
            <h2>
                <Badge tone={isError ? "bad" : "warn"}>{of.level}</Badge> {of.cause} <small>{count(of.count, "time")}</small>
            </h2>
            <p>{of.happened ?? of.newest[0]?.message}</p>
            {advice && (
                <p class="advice">
                    <strong>What to do:</strong> {advice}
                </p>
            )}
            <p class="muted">
                First {moment(of.first_at)}, last {moment(of.last_at)}
            </p>
            {of.more && (
                <details open={isChosen}>
                    <summary>More about this cause</summary>
                    <pre tabIndex={0}>{of.more}</pre>
                </details>
            )}
            <button type="button" aria-expanded={isOpen} onClick={() => open(!isOpen)}>
                {isOpen ? "Hide" : "Show"} {of.newest.some(idOf) ? "the calls" : "each time"}
            </button>
            {isOpen && (
                <ul class="occurrences">
                    {shown.map((problem) => (
                        <li key={problem.id}>
                            <Where of={problem} /> <span>{problem.message}</span>
                        </li>
                    ))}
                </ul>
            )}
            {isOpen && !all && shown.length < of.count && (
                <button type="button" onClick={() => void showAll()}>
                    Show {of.count > MOST ? `the newest ${MOST.toLocaleString("en")} of ` : "all "}
                    {of.count.toLocaleString("en")}
                </button>
            )}
        </article>
    );
}

/** The page of problems. `cause` in the address opens one cause. */
export function ProblemsPage() {
    const span = route.value.query.get("since") ?? "";
    const chosen = route.value.query.get("cause");
    const since = useMemo(() => {
        const hours = SPANS.find(([value]) => value === span)?.[2] ?? 24;
        return hours ? new Date(Date.now() - hours * 3600_000).toISOString() : undefined;
    }, [span]);
    const { data, error } = useLoad<{ causes: CauseCount[] }>(withQuery("/console/errors/causes", { since }), 10_000);
    return (
        <>
            <h1>Problems</h1>
            <div class="filters">
                <label>
                    <span>Since</span>
                    <select value={span} onChange={(event) => go(["problems"], { since: event.currentTarget.value })}>
                        {SPANS.map(([value, text]) => (
                            <option key={value} value={value}>
                                {text}
                            </option>
                        ))}
                    </select>
                </label>
            </div>
            {error && <Failed error={error} />}
            {!data && !error && <Loading />}
            {data?.causes.length === 0 && <Empty>No problems in this time.</Empty>}
            {data?.causes.map((one) => (
                <Cause key={one.cause} of={one} since={since} isChosen={one.cause === chosen} />
            ))}
        </>
    );
}
