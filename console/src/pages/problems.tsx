/** Problems by cause: how often, since when, what to do, which calls. */
import { useMemo, useState } from "preact/hooks";
import { withQuery } from "../api";
import { count, moment } from "../format";
import { useLoad } from "../load";
import { go, link, route } from "../route";
import type { Problem } from "../types";
import { Badge, Empty, Failed, Loading } from "../ui/state";

interface Group {
    cause: string;
    /** Newest first. */
    problems: Problem[];
}

const MOST = 1000;
const SHOWN = 20;
const SPANS: [value: string, text: string, hours: number][] = [
    ["hour", "last hour", 1],
    ["", "last 24 hours", 24],
    ["week", "last 7 days", 168],
    ["all", "all", 0],
];

/** Groups problems by cause. The group with the newest problem is first. */
function grouped(problems: Problem[]): Group[] {
    const groups = new Map<string, Problem[]>();
    for (const problem of problems) {
        const cause = problem.cause ?? (problem.code ? `error ${problem.code}` : "other");
        groups.set(cause, [...(groups.get(cause) ?? []), problem]);
    }
    return [...groups].map(([cause, list]) => ({ cause, problems: list }));
}

/** The page of the call. A refused request has no call, but its SIP messages are found by its Call-ID. */
function idOf(problem: Problem): string | undefined {
    return problem.call ?? problem.session ?? problem.request?.sip_call_id;
}

function Where({ of }: { of: Problem }) {
    const id = idOf(of);
    if (id) return <a href={link(["calls", id])}>{moment(of.at)}</a>;
    return <span>{moment(of.at)}</span>;
}

function Cause({ group }: { group: Group }) {
    const [isOpen, open] = useState(false);
    const [all, showAll] = useState(false);
    const [newest, oldest] = [group.problems[0], group.problems.at(-1)];
    if (!newest || !oldest) return null;
    const level = group.problems.some((problem) => problem.level === "error") ? "error" : "warning";
    const hasCalls = group.problems.some(idOf);
    const shown = all ? group.problems : group.problems.slice(0, SHOWN);
    return (
        <article class={`problem ${level}`}>
            <h2>
                <Badge tone={level === "error" ? "bad" : "warn"}>{level}</Badge> {group.cause}{" "}
                <small>{count(group.problems.length, "time")}</small>
            </h2>
            <p>{newest.happened ?? newest.message}</p>
            {newest.advice && (
                <p class="advice">
                    <strong>What to do:</strong> {newest.advice}
                </p>
            )}
            <p class="muted">
                First {moment(oldest.at)}, last {moment(newest.at)}
                {newest.page && (
                    <>
                        {" · "}
                        <code>{newest.page}</code>
                    </>
                )}
            </p>
            <button type="button" aria-expanded={isOpen} onClick={() => open(!isOpen)}>
                {isOpen ? "Hide" : "Show"} {hasCalls ? "the calls" : "each time"}
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
            {isOpen && shown.length < group.problems.length && (
                <button type="button" onClick={() => showAll(true)}>
                    Show all {group.problems.length}
                </button>
            )}
        </article>
    );
}

/** The page of problems. */
export function ProblemsPage() {
    const span = route.value.query.get("since") ?? "";
    const path = useMemo(() => {
        const hours = SPANS.find(([value]) => value === span)?.[2] ?? 24;
        const since = hours ? new Date(Date.now() - hours * 3600_000).toISOString() : undefined;
        return withQuery("/console/errors", { limit: String(MOST), since });
    }, [span]);
    const { data, error } = useLoad<{ errors: Problem[]; next: string | null }>(path, 10_000);
    const groups = useMemo(() => grouped(data?.errors ?? []), [data]);
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
            {data && groups.length === 0 && <Empty>No problems in this time.</Empty>}
            {data?.next && <p class="muted">Only the newest {MOST.toLocaleString("en")} problems are counted.</p>}
            {groups.map((group) => (
                <Cause key={group.cause} group={group} />
            ))}
        </>
    );
}
