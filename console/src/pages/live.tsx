/** The live calls, and what needs attention now. */
import { useEffect, useState } from "preact/hooks";
import { inPlaceOf, useFollow } from "../follow";
import { count } from "../format";
import { useLoad } from "../load";
import { link } from "../route";
import type { LiveCall, Phone, Problem, Quality, Trunk } from "../types";
import { Badge, Empty, Failed, Loading, Note } from "../ui/state";
import { LegCard } from "./live_leg";

/** Puts a new measurement into the row of its leg. */
function measured(rows: Map<string, LiveCall>, line: Record<string, unknown>): void {
    for (const [key, row] of rows) {
        if (!row.legs.some((leg) => leg.id === line.leg)) continue;
        const change = { quality: line.quality as Quality, lacks_audio: line.lacks_audio === true };
        const legs = row.legs.map((leg) => (leg.id === line.leg ? { ...leg, ...change } : leg));
        rows.set(key, inPlaceOf(row, { ...row, legs }));
    }
}

/** Draws the component again each second. */
function useSeconds(): void {
    const [, tick] = useState(0);
    useEffect(() => {
        const timer = setInterval(() => tick((now) => now + 1), 1000);
        return () => clearInterval(timer);
    }, []);
}

const CARDS_MS = 10_000;

function TrunkCard() {
    const { data } = useLoad<{ trunks: Trunk[] }>("/console/trunks", CARDS_MS);
    const trunks = data?.trunks ?? [];
    const down = trunks.filter((trunk) => trunk.health === "down" || trunk.health === "doubtful");
    return (
        <a class="card" href={link(["trunks"])}>
            <h2>Trunks</h2>
            <p>{count(trunks.length, "trunk")}</p>
            {down.length > 0 ? (
                down.map((trunk) => (
                    <Badge key={trunk.name} tone={trunk.health === "down" ? "bad" : "warn"}>
                        {trunk.name} {trunk.health}
                    </Badge>
                ))
            ) : (
                <Badge tone="good">no trunk is down</Badge>
            )}
        </a>
    );
}

function PhoneCard() {
    const { data } = useLoad<{ phones: Phone[] }>("/console/phones", CARDS_MS);
    const phones = data?.phones ?? [];
    const registered = phones.filter((phone) => phone.registered).length;
    const refused = phones.filter((phone) => phone.last_refusal).length;
    return (
        <a class="card" href={link(["phones"])}>
            <h2>Phones</h2>
            <p>
                {registered} of {phones.length} registered
            </p>
            {refused > 0 && <Badge tone="warn">{refused} refused</Badge>}
        </a>
    );
}

function ProblemCard() {
    const [since] = useState(() => new Date(Date.now() - 3600_000).toISOString());
    const { data } = useLoad<{ errors: Problem[] }>(`/console/errors?limit=200&since=${since}`, CARDS_MS);
    const errors = data?.errors ?? [];
    const causes = [...new Set(errors.map((error) => error.cause ?? "other"))];
    return (
        <a class="card" href={link(["problems"])}>
            <h2>Problems of the last hour</h2>
            <p>{count(errors.length, "problem")}</p>
            {causes.slice(0, 4).map((cause) => (
                <Badge key={cause} tone="bad">
                    {cause}
                </Badge>
            ))}
            {data && errors.length === 0 && <Badge tone="good">none</Badge>}
        </a>
    );
}

/** The page of live calls. */
export function LivePage() {
    const { rows, isReady, note, error } = useFollow<LiveCall>("/console/live?follow=true", "live", measured);
    useSeconds();
    const calls = [...rows.value.values()].reverse();
    const legs = calls.reduce((sum, call) => sum + call.legs.length, 0);
    return (
        <>
            <h1>
                Live <small>{isReady.value ? `${count(calls.length, "call")}, ${count(legs, "leg")}` : ""}</small>
            </h1>
            <div class="cards">
                <TrunkCard />
                <PhoneCard />
                <ProblemCard />
            </div>
            <Note text={note.value} />
            {error.value && <Failed error={error.value} />}
            {!isReady.value && !error.value && <Loading />}
            {isReady.value && calls.length === 0 && (
                <Empty>
                    <p>
                        No live calls. Call one of your <a href={link(["numbers"])}>numbers</a>, or run{" "}
                        <code>tandem call 700</code>.
                    </p>
                </Empty>
            )}
            <ul class="live">
                {calls.map((call) => (
                    <li key={call.session} aria-label={`Call of ${call.legs[0]?.from ?? "?"}`}>
                        {call.legs.map((leg) => (
                            <LegCard key={leg.id} leg={leg} call={call} />
                        ))}
                    </li>
                ))}
            </ul>
        </>
    );
}
