/** The softphone: call a number, an application or an agent, and talk; take calls as a client of an account. */
import { useEffect, useState } from "preact/hooks";
import { mayChange, pathOf, session } from "../api";
import { Turns, turnsOf } from "../call/turns";
import { follow } from "../follow";
import { useLoad } from "../load";
import type { Call, Parties } from "../phone/call";
import { client, current, dial, trouble } from "../phone/desk";
import { link, route } from "../route";
import type { PhoneNumber, TimelineLine } from "../types";
import { Badge, Empty } from "../ui/state";

const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];

/** What can be called without a number. */
interface Targets {
    providers: string[];
    applications: string[];
    agents: { name: string; prompt: string | null; first_message: string | null }[];
}

function Level({ name, value }: { name: string; value: number }) {
    return (
        <label class="level">
            <span>{name}</span>
            <meter min={0} max={100} value={value}>
                {Math.round(value)}
            </meter>
        </label>
    );
}

function useSeconds(since: number | null, isOver: boolean): string {
    const [now, tick] = useState(Date.now());
    useEffect(() => {
        if (!since || isOver) return undefined;
        const timer = setInterval(() => tick(Date.now()), 500);
        return () => clearInterval(timer);
    }, [since, isOver]);
    if (!since) return "";
    const seconds = Math.max(0, Math.floor((now - since) / 1000));
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function Keypad({ call }: { call: Call }) {
    useEffect(() => {
        const key = (event: KeyboardEvent) => {
            const target = event.target as HTMLElement;
            const isKey = KEYS.includes(event.key) && !event.ctrlKey && !event.metaKey;
            if (isKey && !target.closest("input, select, textarea")) call.press(event.key);
        };
        document.addEventListener("keydown", key);
        return () => document.removeEventListener("keydown", key);
    }, [call]);
    return (
        <div class="keypad" role="group" aria-label="Keypad">
            {KEYS.map((key) => (
                <button type="button" key={key} disabled={!call.answeredAt.value || call.isOver} onClick={() => call.press(key)}>
                    {key}
                </button>
            ))}
            <p class="muted">{call.keys.value ? `Keys sent: ${call.keys.value.slice(-24)}` : "Keys also work on the keyboard."}</p>
        </div>
    );
}

/** The turns of a call with an agent, as they come. */
function LiveTurns({ id }: { id: string }) {
    const [lines, set] = useState<TimelineLine[]>([]);
    useEffect(() => {
        const stop = follow(`${pathOf("calls", id)}?follow=true`, {
            opened: () => set([]),
            line(line) {
                if (line.line) set((before) => [...before, line.line as TimelineLine]);
                if (line.report) stop();
            },
            refused() {},
        });
        return stop;
    }, [id]);
    const turns = turnsOf(lines);
    if (turns.length === 0) return null;
    return (
        <section class="turns-now" aria-label="Turns" aria-live="polite">
            <h2>Turns</h2>
            <Turns of={turns} />
        </section>
    );
}

function Talk({ call }: { call: Call }) {
    const time = useSeconds(call.answeredAt.value, call.isOver);
    const figures = call.figures.value;
    const [mine, theirs] = call.levels.value;
    return (
        <>
            <section class="card softphone" aria-label="The call">
                <p class="now" role="status">
                    {call.end.value ?? call.state.value} <span class="muted">{time}</span>
                </p>
                <p class="muted">{call.title}</p>
                {call.problems.value.map((problem, at) => (
                    <p class={`notice ${problem.level === "warning" ? "warn" : "bad"}`} key={at}>
                        {problem.message}
                        {problem.advice && <span class="muted"> {problem.advice}</span>}
                    </p>
                ))}
                {!call.listens && <Level name="Microphone" value={mine} />}
                <Level name="Far end" value={theirs} />
                {!call.listens && <Keypad call={call} />}
                {figures && (
                    <p class="muted figures-line">
                        {figures.codec} · {figures.received} packets received, {figures.lost} lost
                        {figures.jitter !== null && ` · jitter ${figures.jitter.toFixed(1)} ms`}
                        {figures.roundTrip !== null && ` · round trip ${figures.roundTrip.toFixed(0)} ms`}
                    </p>
                )}
                <p class="actions">
                    {!call.isOver && !call.listens && (
                        <button type="button" aria-pressed={call.isMuted.value} onClick={() => call.mute()}>
                            {call.isMuted.value ? "Unmute" : "Mute"}
                        </button>
                    )}
                    {!call.isOver && (
                        <button type="button" class="danger" onClick={() => call.hangUp()}>
                            {call.listens ? "Stop listening" : "Hang up"}
                        </button>
                    )}
                    {call.id.value && <a href={link(["calls", call.id.value])}>Show this call</a>}
                </p>
            </section>
            {call.id.value && <LiveTurns key={call.id.value} id={call.id.value} />}
        </>
    );
}

function useMicrophones(): MediaDeviceInfo[] {
    const [found, set] = useState<MediaDeviceInfo[]>([]);
    useEffect(() => {
        const read = async () => set((await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === "audioinput" && one.deviceId));
        void read().catch(() => undefined);
        navigator.mediaDevices?.addEventListener("devicechange", read);
        return () => navigator.mediaDevices?.removeEventListener("devicechange", read);
    }, [current.value]);
    return found;
}

const KINDS = { number: "a number or a phone", url: "the URL of my application", application: "an application id", agent: "an agent" };
type Kind = keyof typeof KINDS;

/** The fields of what is called. */
function Target({ kind, targets, numbers }: { kind: Kind; targets: Targets | undefined; numbers: PhoneNumber[] }) {
    const agents = targets?.agents ?? [];
    const [name, choose] = useState<string | null>(null);
    const agent = agents.find((one) => one.name === name) ?? agents[0];
    if (kind === "url") {
        return (
            <>
                <label class="wide">
                    <span>Voice URL</span>
                    <input name="url" type="url" placeholder="https://app.example.com/voice" required autocomplete="off" />
                </label>
                <label>
                    <span>Answers as</span>
                    <select name="provider">
                        {targets?.providers.map((one) => (
                            <option key={one}>{one}</option>
                        ))}
                    </select>
                </label>
            </>
        );
    }
    if (kind === "application") {
        return (
            <label class="wide">
                <span>Application id</span>
                <input name="application" list="applications" required autocomplete="off" />
                <datalist id="applications">
                    {targets?.applications.map((one) => (
                        <option key={one}>{one}</option>
                    ))}
                </datalist>
            </label>
        );
    }
    if (kind === "agent") {
        if (targets && !agent) return <p class="notice">The configuration has no agent. Add an entry to [[agents]].</p>;
        return (
            <>
                <label>
                    <span>Agent</span>
                    <select name="agent" onChange={(event) => choose(event.currentTarget.value)}>
                        {agents.map((one) => (
                            <option key={one.name}>{one.name}</option>
                        ))}
                    </select>
                </label>
                <label class="whole">
                    <span>Prompt for this call only</span>
                    <textarea name="prompt" rows={6} key={agent?.name} defaultValue={agent?.prompt ?? ""} />
                </label>
            </>
        );
    }
    return (
        <label>
            <span>To</span>
            <input name="to" list="numbers" defaultValue={route.value.query.get("to") ?? ""} placeholder="700" required autocomplete="off" />
            <datalist id="numbers">
                {numbers.map((one) => (
                    <option key={`${one.account} ${one.number}`} value={one.number}>
                        {one.goes_to.text}
                    </option>
                ))}
            </datalist>
        </label>
    );
}

function Dialler({ numbers }: { numbers: PhoneNumber[] }) {
    const { data: targets } = useLoad<Targets>("/console/phone/targets");
    const microphones = useMicrophones();
    const [kind, choose] = useState<Kind>("number");
    const isBusy = current.value !== null && !current.value.isOver;
    const submit = (event: SubmitEvent) => {
        event.preventDefault();
        const { device = "", ...given } = Object.fromEntries(
            [...new FormData(event.currentTarget as HTMLFormElement)].map(([name, value]) => [name, String(value).trim()]),
        ) as Parties & { device?: string };
        const owner = numbers.find((one) => one.number === given.to)?.account ?? session.value?.account;
        // An agent keeps its own prompt unless the text was changed.
        const own = targets?.agents.find((one) => one.name === given.agent)?.prompt?.trim();
        if (given.prompt === own) delete given.prompt;
        dial(given.to || given.url || given.application || given.agent || "", { ...given, ...(owner && { account: owner }) }, device);
    };
    return (
        <form class="filters" onSubmit={submit} aria-label="Call">
            <label>
                <span>Call</span>
                <select value={kind} onChange={(event) => choose(event.currentTarget.value as Kind)}>
                    {Object.entries(KINDS).map(([name, text]) => (
                        <option key={name} value={name}>
                            {text}
                        </option>
                    ))}
                </select>
            </label>
            <Target kind={kind} targets={targets} numbers={numbers} />
            <label>
                <span>From</span>
                <input name="from" placeholder="+15550109999" autocomplete="off" />
            </label>
            {microphones.length > 1 && (
                <label>
                    <span>Microphone</span>
                    <select name="device">
                        {microphones.map((one) => (
                            <option key={one.deviceId} value={one.deviceId}>
                                {one.label || "a microphone"}
                            </option>
                        ))}
                    </select>
                </label>
            )}
            <button type="submit" class="primary" disabled={isBusy}>
                Call
            </button>
        </form>
    );
}

/** Takes calls as a client of an account. */
function Receiver({ accounts }: { accounts: string[] }) {
    const own = client.value;
    const submit = (event: SubmitEvent) => {
        event.preventDefault();
        if (own) {
            client.value = null;
            return;
        }
        const form = new FormData(event.currentTarget as HTMLFormElement);
        client.value = { name: String(form.get("name")).trim(), account: String(form.get("account") ?? "") };
    };
    return (
        <form class="filters" onSubmit={submit} aria-label="Take calls">
            <label>
                <span>Take calls as client:</span>
                <input name="name" key={own?.name} defaultValue={own?.name ?? ""} disabled={own !== null} required pattern="[A-Za-z0-9._+\-]{1,64}" placeholder="ana" autocomplete="off" />
            </label>
            {accounts.length > 1 && (
                <label>
                    <span>Account</span>
                    <select name="account" disabled={own !== null} defaultValue={own?.account ?? session.value?.account ?? ""}>
                        {accounts.map((one) => (
                            <option key={one}>{one}</option>
                        ))}
                    </select>
                </label>
            )}
            <button type="submit">{own ? "Stop" : "Register"}</button>
            {own && (
                <p role="status">
                    {trouble.value ? <Badge tone="warn">{trouble.value}</Badge> : <Badge tone="good">calls to client:{own.name} ring here</Badge>}
                </p>
            )}
        </form>
    );
}

/** The page. */
export function SoftphonePage() {
    const { data } = useLoad<{ numbers: PhoneNumber[] }>("/console/numbers");
    const numbers = data?.numbers ?? [];
    const call = current.value;
    if (!mayChange()) return <Empty>A reader makes no calls.</Empty>;
    const accounts = [...new Set([session.value?.account ?? "", ...numbers.map((one) => one.account)].filter(Boolean))].sort();
    return (
        <>
            <h1>Softphone</h1>
            <Dialler numbers={numbers} />
            <Receiver accounts={accounts} />
            {call && <Talk call={call} />}
        </>
    );
}
