/** The softphone: call a number, an application or an agent, and talk; take calls as a client of an account. */
import type { InputHTMLAttributes, SelectHTMLAttributes } from "preact";
import { useEffect, useState } from "preact/hooks";
import { mayChange, pathOf, session } from "../api";
import { Turns, turnsOf } from "../call/turns";
import { follow } from "../follow";
import { duration } from "../format";
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
    return since ? duration((now - since) / 1000) : "";
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

/** A field with its label. `isWide` lets it take the rest of the row. */
function Field({ text, isWide, ...input }: { text: string; isWide?: boolean } & InputHTMLAttributes<HTMLInputElement>) {
    return (
        <label class={isWide ? "wide" : undefined}>
            <span>{text}</span>
            <input autocomplete="off" {...input} />
        </label>
    );
}

/** A choice with its label: values, and the texts of those that have another one. */
function Choice({ text, options, ...select }: { text: string; options: [value: string, text?: string][] } & SelectHTMLAttributes<HTMLSelectElement>) {
    return (
        <label>
            <span>{text}</span>
            <select {...select}>
                {options.map(([value, shown]) => <option key={value} value={value}>{shown ?? value}</option>)}
            </select>
        </label>
    );
}

/** The suggestions for a field. */
function Suggestions({ id, options }: { id: string; options: [value: string, text?: string][] }) {
    return (
        <datalist id={id}>
            {options.map(([value, text], at) => <option key={at} value={value}>{text}</option>)}
        </datalist>
    );
}

/** The fields of what is called. */
function Target({ kind, targets, numbers }: { kind: Kind; targets: Targets | undefined; numbers: PhoneNumber[] }) {
    const agents = targets?.agents ?? [];
    const [name, choose] = useState<string | null>(null);
    const agent = agents.find((one) => one.name === name) ?? agents[0];
    if (kind === "url") {
        return (
            <>
                <Field text="Voice URL" name="url" type="url" placeholder="https://app.example.com/voice" required isWide />
                <Choice text="Answers as" name="provider" options={(targets?.providers ?? []).map((one) => [one])} />
            </>
        );
    }
    if (kind === "application") {
        return (
            <>
                <Field text="Application id" name="application" list="applications" required isWide />
                <Suggestions id="applications" options={(targets?.applications ?? []).map((one) => [one])} />
            </>
        );
    }
    if (kind === "agent") {
        if (targets && !agent) return <p class="notice">The configuration has no agent. Add an entry to [[agents]].</p>;
        return (
            <>
                <Choice text="Agent" name="agent" options={agents.map((one) => [one.name])} onChange={(event) => choose(event.currentTarget.value)} />
                <label class="whole">
                    <span>Prompt for this call only</span>
                    <textarea name="prompt" rows={6} key={agent?.name} defaultValue={agent?.prompt ?? ""} />
                </label>
            </>
        );
    }
    return (
        <>
            <Field text="To" name="to" list="numbers" defaultValue={route.value.query.get("to") ?? ""} placeholder="600" required />
            <Suggestions id="numbers" options={numbers.map((one) => [one.number, one.goes_to.text])} />
        </>
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
            <Choice text="Call" value={kind} options={Object.entries(KINDS)} onChange={(event) => choose(event.currentTarget.value as Kind)} />
            <Target kind={kind} targets={targets} numbers={numbers} />
            <Field text="From" name="from" placeholder="+15550109999" />
            {microphones.length > 1 && (
                <Choice text="Microphone" name="device" options={microphones.map((one) => [one.deviceId, one.label || "a microphone"])} />
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
            <Field
                text="Take calls as client:"
                key={own?.name}
                name="name"
                defaultValue={own?.name ?? ""}
                disabled={own !== null}
                required
                pattern="[A-Za-z0-9._+\-]{1,64}"
                placeholder="ana"
            />
            {accounts.length > 1 && (
                <Choice
                    text="Account"
                    name="account"
                    options={accounts.map((one) => [one])}
                    disabled={own !== null}
                    defaultValue={own?.account || (session.value?.account ?? "")}
                />
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
