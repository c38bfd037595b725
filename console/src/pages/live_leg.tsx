/** One live leg, with its actions. */
import { mayChange, pathOf, send } from "../api";
import { sinceArrival } from "../follow";
import { duration, figure, loss } from "../format";
import { link } from "../route";
import type { LiveCall, LiveLeg } from "../types";
import { ask, attempt } from "../ui/dialog";
import { Menu, type Item } from "../ui/menu";
import { Badge, Mos, Status } from "../ui/state";

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

function actions(leg: LiveLeg): Item[] {
    const mute: Item = { text: "Mute", act: () => void order(leg, "The leg is muted.", { action: "mute" }) };
    const unmute: Item = { text: "Unmute", act: () => void order(leg, "The leg is no longer muted.", { action: "unmute" }) };
    return [
        ...(leg.muted === true ? [] : [mute]),
        ...(leg.muted === false ? [] : [unmute]),
        { text: "Transfer…", act: () => void transfer(leg) },
        { text: "Hang up…", isDangerous: true, act: () => void hangUp(leg) },
    ];
}

function Audio({ leg }: { leg: LiveLeg }) {
    if (leg.lacks_audio) return <Badge tone="bad">no audio for 2 s</Badge>;
    if (leg.quality?.packets_in) return <Badge tone="good">audio arrives</Badge>;
    return <Badge tone="idle">no audio yet</Badge>;
}

/** A leg with its parties, its verb, its quality and the menu of actions. */
export function LegCard({ leg, call }: { leg: LiveLeg; call: LiveCall }) {
    const other = call.legs.find((one) => one.id === leg.bridged_with);
    const { quality } = leg;
    const since = leg.answered_at ? leg.seconds + sinceArrival(call) : null;
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
                {leg.muted && <Badge tone="warn">muted</Badge>}
                {leg.trunk && <span>trunk {leg.trunk}</span>}
                {leg.codec && <span>{leg.codec}</span>}
                <Audio leg={leg} />
            </p>
            <dl class="measures">
                <div>
                    <dt>MOS</dt>
                    <dd>
                        <Mos value={quality?.mos} />
                    </dd>
                </div>
                <div>
                    <dt>Packet loss</dt>
                    <dd>{quality ? figure(loss(quality), 1, "%") : "–"}</dd>
                </div>
                <div>
                    <dt>Jitter</dt>
                    <dd>{figure(quality?.jitter_ms, 1, "ms")}</dd>
                </div>
                <div>
                    <dt>Round trip</dt>
                    <dd>{figure(quality?.round_trip_ms, 1, "ms")}</dd>
                </div>
            </dl>
        </article>
    );
}
