/** One call: all that is known about it, on one time axis. */
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { pathOf } from "../api";
import { Axis } from "../call/axis";
import { Details } from "../call/detail";
import { Ladder } from "../call/ladder";
import { model, type Detail, type Item } from "../call/model";
import { silence } from "../call/player";
import { Recordings } from "../call/recordings";
import { Legs, Problems, Summary } from "../call/summary";
import { Timeline, Webhooks } from "../call/timeline";
import { Turns, turnsOf } from "../call/turns";
import { follow } from "../follow";
import { useLoad, type Loaded } from "../load";
import type { Report, Trace } from "../types";
import { Empty, Failed, Loading } from "../ui/state";
import { Tabs, type Tab } from "../ui/tabs";

/** The pause between two reads of a live call, in ms. */
const REFRESH_MS = 800;

/** Reads the call again, soon after the server has reported a new line of it. */
function useGrowth(id: string, isLive: boolean, reload: () => void): void {
    useEffect(() => {
        if (!isLive) return undefined;
        let timer = 0;
        const stop = follow(`${pathOf("calls", id)}?follow=true`, {
            opened() {},
            line() {
                timer ||= setTimeout(() => {
                    timer = 0;
                    reload();
                }, REFRESH_MS);
            },
            refused() {},
        });
        return () => {
            clearTimeout(timer);
            stop();
        };
    }, [id, isLive, reload]);
}

/** Seconds since the report was read, for a live call. */
function useTick(report: Report | undefined, isLive: boolean): number {
    const read = useRef(performance.now());
    const [, draw] = useState(0);
    useEffect(() => {
        read.current = performance.now();
    }, [report]);
    useEffect(() => {
        if (!isLive) return undefined;
        const timer = setInterval(() => draw((count) => count + 1), 1000);
        return () => clearInterval(timer);
    }, [isLive]);
    return isLive ? (performance.now() - read.current) / 1000 : 0;
}

function LadderTab({ trace, selected, select }: { trace: Loaded<Trace>; selected: Detail[]; select: (detail: Detail) => void }) {
    if (trace.error) {
        return <Empty>No SIP messages: {trace.error.message}</Empty>;
    }
    const { data } = trace;
    if (!data) return <Loading />;
    const shown = selected.find((detail) => detail.type === "sip");
    return (
        <Ladder
            trace={data}
            selected={shown?.message}
            select={(message) => select({ type: "sip", message, leg: data.parties[message.party]?.name ?? "" })}
        />
    );
}

function Story({ report, trace, tick }: { report: Report; trace: Loaded<Trace>; tick: number }) {
    const [items, setItems] = useState<Item[]>([]);
    const [details, setDetails] = useState<Detail[]>([]);
    const isLive = report.calls.some((leg) => leg.live);
    // A live call grows to the present, which is `seconds` after its answer by the clock of the server.
    const now = Math.max(
        0,
        ...report.calls
            .filter((leg) => leg.live && leg.answered_at)
            .map((leg) => Date.parse(leg.answered_at ?? "") / 1000 + leg.seconds + tick),
    );
    const axis = useMemo(() => model(report, trace.data, isLive ? now : null), [report, trace.data, now]);
    const turns = useMemo(() => turnsOf(report.timeline), [report]);
    const [tab, setTab] = useState(turns.length > 0 ? "turns" : "timeline");
    const close = () => {
        setItems([]);
        setDetails([]);
    };
    const pick = (chosen: Item[]) => {
        setItems(chosen);
        setDetails(chosen.map((item) => item.detail));
    };
    const show = (detail: Detail) => {
        setItems([]);
        setDetails([detail]);
    };
    const tabs: Tab[] = [
        { id: "timeline", text: "Timeline", panel: () => <Timeline of={report.timeline} /> },
        { id: "ladder", text: "SIP ladder", panel: () => <LadderTab trace={trace} selected={details} select={show} /> },
        { id: "webhooks", text: `Webhooks (${report.requests.length})`, panel: () => <Webhooks report={report} select={show} /> },
        ...(turns.length > 0 ? [{ id: "turns", text: `Turns (${turns.length})`, panel: () => <Turns of={turns} /> }] : []),
        { id: "legs", text: `Legs (${report.calls.length})`, panel: () => <Legs of={report.calls} report={report} /> },
    ];
    return (
        <>
            <Problems of={report.errors} />
            <Recordings of={report.recordings} />
            <Axis model={axis} selected={items} select={pick} />
            <Tabs label="Parts of the call" tabs={tabs} selected={tab} select={setTab} />
            <Details of={details} close={close} />
        </>
    );
}

/** SIP messages that belong to no call, for example of a call to an unknown number. `id` is their Call-ID. */
function Refused({ id }: { id: string }) {
    const trace = useLoad<Trace>(pathOf("calls", id, "trace"));
    const [details, setDetails] = useState<Detail[]>([]);
    if (trace.error) return <Failed error={trace.error} missing="There is no such call, or it belongs to another account." />;
    return (
        <>
            <h1>SIP messages without a call</h1>
            <p class="muted">
                The server refused this request before there was a call. Call-ID <code>{id}</code>.
            </p>
            <LadderTab trace={trace} selected={details} select={(detail) => setDetails([detail])} />
            <Details of={details} close={() => setDetails([])} />
        </>
    );
}

/** The page of one call. */
export function CallPage({ id }: { id: string }) {
    const { data: report, error, reload } = useLoad<Report>(pathOf("calls", id));
    const trace = useLoad<Trace>(report ? pathOf("calls", id, "trace") : null);
    const isLive = report?.calls.some((leg) => leg.live) ?? false;
    const tick = useTick(report, isLive);
    const both = useCallback(() => {
        reload();
        trace.reload();
    }, [reload, trace.reload]);
    useGrowth(id, isLive, both);
    useEffect(() => silence, []);
    if (error?.status === 404) return <Refused id={id} />;
    if (error) return <Failed error={error} />;
    if (!report) return <Loading />;
    return (
        <>
            <Summary report={report} tick={tick} />
            <Story report={report} trace={trace} tick={tick} />
        </>
    );
}
