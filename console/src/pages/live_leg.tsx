/** One live leg, with its actions. */
import type { ComponentChildren } from "preact";
import { mayChange, pathOf, send } from "../api";
import { sinceArrival } from "../follow";
import { count, duration, figure, loss } from "../format";
import { listenTo } from "../phone/desk";
import { link } from "../route";
import type { Conversation, LiveCall, LiveLeg, Stream } from "../types";
import { ask, attempt } from "../ui/dialog";
import { Menu, type Item } from "../ui/menu";
import { Badge, Mos, Status } from "../ui/state";
import { mayListen } from "./live_rooms";

function order(leg: LiveLeg, done: string, body: { action: string; to?: string }): Promise<void> {
    return attempt(done, () => send("POST", pathOf("legs", leg.id), body));
}

async function hangUp(leg: LiveLeg): Promise<void> {
    const text = `${leg.from} → ${leg.to}. The leg ends at once, and the application is notified.`;
    const answer = await ask({ title: `Hang up the ${leg.name}?`, text, action: "Hang up", isDangerous: true });
    if (answer !== null) await order(leg, "The leg was hung up.", { action: "hang-up" });
}

async function transfer(leg: LiveLeg): Promise<void> {
    const text = `The ${leg.name} (${leg.from} → ${leg.to}) leaves the application and is connected with this party.`;
    const to = await ask({ title: `Transfer the ${leg.name}`, text, action: "Transfer", field: "Number, phone or SIP URI" });
    if (to) await order(leg, `The leg is being transferred to ${to}.`, { action: "transfer", to });
}

function listen(leg: LiveLeg): Promise<void> {
    return attempt(`You listen to the ${leg.name}.`, () => listenTo(`${leg.from} → ${leg.to}`, pathOf("legs", leg.id, "listen")));
}

function actions(leg: LiveLeg): Item[] {
    const mute: Item = { text: "Mute", act: () => void order(leg, "The leg is muted.", { action: "mute" }) };
    const unmute: Item = { text: "Unmute", act: () => void order(leg, "The leg is no longer muted.", { action: "unmute" }) };
    return [
        leg.muted ? unmute : mute,
        ...(mayListen() && leg.answered_at && !leg.listens_to ? [{ text: "Listen", act: () => void listen(leg) }] : []),
        { text: "Transfer…", act: () => void transfer(leg) },
        { text: "Hang up…", isDangerous: true, act: () => void hangUp(leg) },
    ];
}

function Audio({ leg }: { leg: LiveLeg }) {
    if (leg.lacks_audio) return <Badge tone="bad">no audio for 2 s</Badge>;
    if (leg.quality?.packets_in) return <Badge tone="good">audio arrives</Badge>;
    return <Badge tone="idle">no audio yet</Badge>;
}

const octets = (count: number) => (count < 1e6 ? `${(count / 1e3).toFixed(0)} kB` : `${(count / 1e6).toFixed(1)} MB`);

function StreamLine({ of, since }: { of: Stream; since: number }) {
    return (
        <p class="runs">
            <strong>stream</strong> {of.url} <span class="muted">{of.track}</span>, {duration(of.seconds + since)}:{" "}
            {of.frames_out.toLocaleString("en")} frames out ({octets(of.octets_out)}), {octets(of.octets_in)} in{" "}
            {of.frames_dropped > 0 && <Badge tone="bad">{of.frames_dropped.toLocaleString("en")} dropped</Badge>}
        </p>
    );
}

function Talk({ of }: { of: Conversation }) {
    return (
        <p class="runs">
            <strong>{of.is_agent ? "agent" : "application"}</strong> {of.with}: {count(of.turns, "turn")}
            {of.interruptions > 0 && `, ${count(of.interruptions, "interruption")}`}
            {of.state && `, ${of.state.replace("caller-speaks", "the caller speaks")}`}{" "}
            {of.engines.map((engine) => (
                <Badge key={engine.name} tone={engine.ok ? "good" : "bad"}>
                    {engine.name} {engine.ok ? "works" : "failed"}
                </Badge>
            ))}
            {of.last_error && <span class="error">last error: {of.last_error}</span>}
        </p>
    );
}

/** A leg with its parties, its verb, its quality and the menu of actions. */
export function LegCard({ leg, call }: { leg: LiveLeg; call: LiveCall; tick: number }) {
    const other = call.legs.find((one) => one.id === leg.bridged_with);
    const { quality } = leg;
    const since = leg.answered_at ? leg.seconds + sinceArrival(call) : null;
    // The first packet may come with the first measurement, 2 s after the answer.
    const isSilent = leg.lacks_audio || (quality?.packets_in === 0 && since !== null && since > 2 && !leg.on_hold && !leg.listens_to);
    const measures: [name: string, value: ComponentChildren, isBad?: boolean][] = [
        ["MOS", <Mos value={quality?.mos} />],
        ["Packets in", figure(quality?.packets_in, 0), isSilent],
        ["Packets out", figure(quality?.packets_out, 0)],
        ["Packet loss", quality ? figure(loss(quality), 1, "%") : "–"],
        ["Jitter", figure(quality?.jitter_ms, 1, "ms")],
        ["Round trip", figure(quality?.round_trip_ms, 1, "ms")],
    ];
    return (
        <article class={`leg ${leg.lacks_audio ? "bad" : ""}`}>
            <header>
                <h2>
                    <span class="muted">{leg.name}</span>{" "}
                    <a href={link(["calls", call.session])}>
                        {leg.from} → {leg.to}
                    </a>
                </h2>
                {mayChange() && (
                    <Menu label={`Actions for the ${leg.name}, ${leg.from} to ${leg.to}`} text="Actions" items={actions(leg)} />
                )}
            </header>
            <p class="facts">
                <Status of={leg.status} />
                <span class="figure">{since === null ? "not answered" : duration(since)}</span>
                {leg.verb && <span>{leg.verb}</span>}
                {other && <span>bridged with {other.name}</span>}
                {leg.conference && <span>in {leg.conference}</span>}
                {leg.listens_to && <Badge tone="idle">only listens</Badge>}
                {leg.muted && <Badge tone="warn">muted</Badge>}
                {leg.on_hold && <Badge tone="warn">on hold</Badge>}
                {leg.trunk && <span>trunk {leg.trunk}</span>}
                {leg.codec && <span>{leg.codec}</span>}
                {!leg.listens_to && <Audio leg={leg} />}
            </p>
            {leg.streams.map((one) => (
                <StreamLine key={one.id} of={one} since={sinceArrival(call)} />
            ))}
            {leg.conversation && <Talk of={leg.conversation} />}
            <dl class="measures">
                {measures.map(([name, value, isBad]) => (
                    <div key={name}>
                        <dt>{name}</dt>
                        <dd class={isBad ? "bad" : undefined}>{value}</dd>
                    </div>
                ))}
            </dl>
        </article>
    );
}
