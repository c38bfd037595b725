/** What happens now: live calls, conferences and queues, and what needs attention. */
import { useEffect, useState } from "preact/hooks";
import { inPlaceOf, useFollow } from "../follow";
import { count } from "../format";
import { useLoad } from "../load";
import { link } from "../route";
import type { Conference, LiveCall, Phone, Problem, Quality, Queue, Trunk } from "../types";
import { Badge, Empty, Failed, Loading, Note } from "../ui/state";
import { LegCard } from "./live_leg";
import { ConferenceCard, QueueCard } from "./live_rooms";

type Row = LiveCall | Conference | Queue;

/** Puts a new measurement into the row of its leg. */
function measured(rows: Map<string, Row>, line: Record<string, unknown>): void {
    for (const [key, row] of rows) {
        if (!("legs" in row) || !row.legs.some((leg) => leg.id === line.leg)) continue;
        const change = { quality: line.quality as Quality, lacks_audio: line.lacks_audio === true };
        const legs = row.legs.map((leg) => (leg.id === line.leg ? { ...leg, ...change } : leg));
        rows.set(key, inPlaceOf(row, { ...row, legs }));
    }
}

/** A number that grows each second. It is a property of what ticks, because only changed properties draw a component again. */
function useSeconds(): number {
    const [seconds, tick] = useState(0);
    useEffect(() => {
        const timer = setInterval(() => tick((now) => now + 1), 1000);
        return () => clearInterval(timer);
    }, []);
    return seconds;
}

const HEALTH_MS = 10_000;

function Health() {
    const [since] = useState(() => new Date(Date.now() - 3600_000).toISOString());
    const trunks = useLoad<{ trunks: Trunk[] }>("/console/trunks", HEALTH_MS).data?.trunks ?? [];
    const phones = useLoad<{ phones: Phone[] }>("/console/phones", HEALTH_MS).data?.phones ?? [];
    const errors = useLoad<{ errors: Problem[] }>(`/console/errors?limit=200&since=${since}`, HEALTH_MS).data?.errors ?? [];
    const troubled = trunks.filter((trunk) => trunk.health === "down" || trunk.health === "doubtful");
    const registered = phones.filter((phone) => phone.registered).length;
    const refused = phones.filter((phone) => phone.last_refusal).length;
    const causes = [...new Set(errors.map((error) => error.cause ?? "other"))];
    return (
        <ul class="health" aria-label="Health">
            <li>
                <a href={link(["trunks"])}>{count(trunks.length, "trunk")}</a>{" "}
                {troubled.map(({ name, health }) => (
                    <Badge key={name} tone={health === "down" ? "bad" : "warn"}>{`${name} ${health}`}</Badge>
                ))}
                {trunks.length > 0 && troubled.length === 0 && <Badge tone="good">none is down</Badge>}
            </li>
            <li>
                <a href={link(["phones"])}>{count(phones.length, "phone")}</a>{" "}
                <Badge tone={registered > 0 ? "good" : "idle"}>{registered} registered</Badge>{" "}
                {refused > 0 && <Badge tone="warn">{refused} refused</Badge>}
            </li>
            <li>
                <a href={link(["problems"])}>{count(errors.length, "problem")} in the last hour</a>{" "}
                {causes.slice(0, 4).map((cause) => (
                    <Badge key={cause} tone="bad">{cause}</Badge>
                ))}
                {causes.length > 4 && ` and ${causes.length - 4} more`}
            </li>
        </ul>
    );
}

/** The page of what happens now. */
export function LivePage() {
    const { rows, isReady, note, error } = useFollow<Row>("/console/now", ["live", "conference", "queue"], measured);
    const seconds = useSeconds();
    const all = [...rows.value.values()].reverse();
    const calls = all.filter((row) => "legs" in row);
    const conferences = all.filter((row) => "participants" in row);
    const queues = all.filter((row) => "callers" in row).filter((one) => one.callers.length + one.agents.length > 0);
    const legs = calls.reduce((sum, call) => sum + call.legs.length, 0);
    return (
        <>
            <h1>
                Live <small>{isReady.value ? `${count(calls.length, "call")}, ${count(legs, "leg")}` : ""}</small>
            </h1>
            <Health />
            <Note text={note.value} />
            {error.value && <Failed error={error.value} />}
            {!isReady.value && !error.value && <Loading />}
            {isReady.value && calls.length === 0 && (
                <Empty>
                    <p>
                        No live calls. Call one of your <a href={link(["numbers"])}>numbers</a> with a phone or the <a href={link(["softphone"])}>softphone</a>.
                    </p>
                </Empty>
            )}
            {conferences.length + queues.length > 0 && (
                <ul class="live rooms" aria-label="Conferences and queues">
                    {[...conferences, ...queues].map((one) => (
                        <li key={one.id}>{"callers" in one ? <QueueCard of={one} tick={seconds} /> : <ConferenceCard of={one} />}</li>
                    ))}
                </ul>
            )}
            <ul class="live" aria-label="Calls">
                {calls.map((call) => (
                    <li key={call.session} aria-label={`Call of ${call.legs[0]?.from ?? "?"}`}>
                        {call.legs.map((leg) => (
                            <LegCard key={leg.id} leg={leg} call={call} tick={seconds} />
                        ))}
                    </li>
                ))}
            </ul>
        </>
    );
}
