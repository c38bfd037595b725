/** The softphone: call a number, an application, an agent or a phone, and talk. */
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { mayChange, session } from "../api";
import { useLoad } from "../load";
import { Call } from "../phone/call";
import { link, route } from "../route";
import type { PhoneNumber } from "../types";
import { Empty } from "../ui/state";

const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];
/** The call lasts while other pages are shown. */
const current = signal<Call | null>(null);

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
            if (KEYS.includes(event.key) && !event.ctrlKey && !event.metaKey && !target.closest("input, select")) call.press(event.key);
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

function Talk({ call }: { call: Call }) {
    const time = useSeconds(call.answeredAt.value, call.isOver);
    const [isMuted, mute] = useState(false);
    const figures = call.figures.value;
    const [mine, theirs] = call.levels.value;
    return (
        <section class="card softphone" aria-label="The call">
            <p class="now" role="status">
                {call.end.value ?? call.state.value} <span class="muted">{time}</span>
            </p>
            {call.problems.value.map((problem, at) => (
                <p class={`notice ${problem.level === "warning" ? "warn" : "bad"}`} key={at}>
                    {problem.message}
                    {problem.advice && <span class="muted"> {problem.advice}</span>}
                </p>
            ))}
            <Level name="Microphone" value={mine} />
            <Level name="Far end" value={theirs} />
            <Keypad call={call} />
            {figures && (
                <p class="muted figures-line">
                    {figures.codec} · {figures.received} packets received, {figures.lost} lost
                    {figures.jitter !== null && ` · jitter ${figures.jitter.toFixed(1)} ms`}
                    {figures.roundTrip !== null && ` · round trip ${figures.roundTrip.toFixed(0)} ms`}
                </p>
            )}
            <p class="actions">
                {!call.isOver && (
                    <button
                        type="button"
                        aria-pressed={isMuted}
                        onClick={() => {
                            call.mute(!isMuted);
                            mute(!isMuted);
                        }}
                    >
                        {isMuted ? "Unmute" : "Mute"}
                    </button>
                )}
                {call.id.value && <a href={link(["calls", call.id.value])}>Show this call</a>}
            </p>
        </section>
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

/** The page. */
export function SoftphonePage() {
    const { data } = useLoad<{ numbers: PhoneNumber[] }>("/console/numbers");
    const microphones = useMicrophones();
    const call = current.value;
    const isBusy = call !== null && !call.isOver;
    if (!mayChange()) return <Empty>A reader makes no calls.</Empty>;
    const submit = (event: SubmitEvent) => {
        event.preventDefault();
        if (isBusy) return call.hangUp();
        const form = new FormData(event.currentTarget as HTMLFormElement);
        const value = (name: string) => String(form.get(name) ?? "").trim();
        const to = value("to");
        const owner = data?.numbers.find((one) => one.number === to)?.account ?? session.value?.account ?? "";
        current.value = new Call({ to, from: value("from"), device: value("device"), ...(owner && { account: owner }) });
    };
    return (
        <>
            <h1>Softphone</h1>
            <p class="muted">Call a number of this server and talk with its application, or call a phone as client:NAME.</p>
            <form class="filters" onSubmit={submit}>
                <label>
                    <span>To</span>
                    <input name="to" list="numbers" defaultValue={route.value.query.get("to") ?? ""} placeholder="700" required autocomplete="off" />
                </label>
                <datalist id="numbers">
                    {data?.numbers.map((one) => (
                        <option key={`${one.account} ${one.number}`} value={one.number}>
                            {one.goes_to.text}
                        </option>
                    ))}
                </datalist>
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
                <button type="submit" class={isBusy ? "danger" : "primary"}>
                    {isBusy ? "Hang up" : "Call"}
                </button>
            </form>
            {call && <Talk call={call} />}
        </>
    );
}
