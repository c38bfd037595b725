/** A live conference or a queue, with its actions. */
import type { ComponentChildren } from "preact";
import { mayChange, pathOf, send, session } from "../api";
import { sinceArrival } from "../follow";
import { count, duration } from "../format";
import { listenTo } from "../phone/desk";
import { link } from "../route";
import type { Conference, Participant, Queue, Seat } from "../types";
import { ask, attempt } from "../ui/dialog";
import { Menu, type Item } from "../ui/menu";
import { Badge } from "../ui/state";

/** Whether the user may listen to calls. */
export const mayListen = () => session.value?.role === "operator";

function party(seat: Seat): string {
    return seat.from ? `${seat.from} → ${seat.to}` : seat.leg;
}

function Name({ of }: { of: Seat }) {
    return of.session ? <a href={link(["calls", of.session])}>{party(of)}</a> : <span>{party(of)}</span>;
}

function Row({ label, items, children }: { label: string; items: Item[]; children: ComponentChildren }) {
    return (
        <li>
            <span class="who">{children}</span>
            {mayChange() && items.length > 0 && <Menu label={`Actions for ${label}`} text="Actions" items={items} />}
        </li>
    );
}

/** Asks, and sends an action if the answer is yes. */
async function confirmed(title: string, text: string, action: string, done: string, path: string, body: object): Promise<void> {
    const answer = await ask({ title, text, action, isDangerous: true });
    if (answer !== null) await attempt(done, () => send("POST", path, body));
}

function participantActions(conference: Conference, one: Participant): Item[] {
    const path = pathOf("conferences", conference.id, "participants", one.leg);
    const order = (text: string, done: string, action: string): Item => ({
        text,
        act: () => void attempt(done, () => send("POST", path, { action })),
    });
    const remove = () =>
        confirmed("Remove the participant?", `${party(one)} leaves ${conference.name}.`, "Remove", "The participant was removed.", path, {
            action: "remove",
        });
    return [
        one.muted ? order("Unmute", "The participant is no longer muted.", "unmute") : order("Mute", "The participant is muted.", "mute"),
        one.on_hold ? order("Take off hold", "The participant is back.", "resume") : order("Hold", "The participant is on hold.", "hold"),
        { text: "Remove…", isDangerous: true, act: () => void remove() },
    ];
}

function conferenceActions(conference: Conference): Item[] {
    const path = pathOf("conferences", conference.id);
    const listen: Item = {
        text: "Listen",
        act: () => void attempt(`You listen to ${conference.name}.`, () => listenTo(conference.name, `${path}/listen`)),
    };
    const text = `All participants of ${conference.name} are hung up at once.`;
    const end = () => confirmed("End the conference?", text, "End it", "The conference has ended.", path, { action: "end" });
    return [...(mayListen() ? [listen] : []), { text: "End the conference…", isDangerous: true, act: () => void end() }];
}

function Marks({ of }: { of: Participant }) {
    const silent = of.coaches?.length === 0;
    return (
        <>
            {of.is_expected && <Badge tone="busy">being called</Badge>}
            {silent && <Badge tone="idle">only listens</Badge>}
            {of.coaches && !silent && <Badge tone="busy">coach</Badge>}
            {of.muted && !silent && <Badge tone="warn">muted</Badge>}
            {of.on_hold && <Badge tone="warn">on hold</Badge>}
        </>
    );
}

/** A conference with its participants. */
export function ConferenceCard({ of }: { of: Conference }) {
    return (
        <article class="leg">
            <header>
                <h2>
                    <span class="muted">conference</span> {of.name}
                </h2>
                {mayChange() && <Menu label={`Actions for the conference ${of.name}`} text="Actions" items={conferenceActions(of)} />}
            </header>
            <p class="facts">
                <Badge tone={of.status === "in-progress" ? "busy" : "idle"}>{of.status}</Badge>
                <span>{count(of.participants.length, "participant")}</span>
            </p>
            <ul class="seats">
                {of.participants.map((one) => (
                    <Row key={one.leg} label={`the participant ${party(one)}`} items={participantActions(of, one)}>
                        <Name of={one} /> {one.label && <span class="muted">{one.label}</span>} <Marks of={one} />
                    </Row>
                ))}
            </ul>
        </article>
    );
}

async function redirect(path: string, seat: Seat): Promise<void> {
    const text = `${party(seat)} leaves the queue and continues with this document.`;
    const url = await ask({ title: "Redirect the caller", text, action: "Redirect", field: "URL of the document" });
    if (url) await attempt("The caller was redirected.", () => send("POST", path, { action: "redirect", url }));
}

function callerActions(queue: Queue, seat: Seat): Item[] {
    const path = pathOf("queues", queue.id, "callers", seat.leg);
    const take = () => attempt("The caller left the queue.", () => send("POST", path, { action: "take-out" }));
    const hangUp = () =>
        confirmed("Hang up the caller?", party(seat), "Hang up", "The caller was hung up.", pathOf("legs", seat.leg), { action: "hang-up" });
    return [
        { text: "Take out of the queue", act: () => void take() },
        { text: "Redirect…", act: () => void redirect(path, seat) },
        { text: "Hang up…", isDangerous: true, act: () => void hangUp() },
    ];
}

/** A queue with its callers and its agents. */
export function QueueCard({ of }: { of: Queue; tick: number }) {
    const since = sinceArrival(of);
    return (
        <article class="leg">
            <header>
                <h2>
                    <span class="muted">queue</span> {of.name}
                </h2>
            </header>
            <p class="facts">
                <span>
                    {count(of.callers.length, "caller")} of at most {of.max_size.toLocaleString("en")}
                </span>
                <span>{of.agents.length === 0 ? "no agent waits" : `${count(of.agents.length, "agent")} waiting`}</span>
            </p>
            <ul class="seats">
                {of.callers.map((one) => (
                    <Row key={one.leg} label={`the caller ${party(one)}`} items={callerActions(of, one)}>
                        {one.position}. <Name of={one} /> <span class="figure">{duration(one.seconds + since)}</span>
                    </Row>
                ))}
                {of.agents.map((one) => (
                    <Row key={one.leg} label="" items={[]}>
                        <Name of={one} /> <Badge tone="good">agent</Badge>
                    </Row>
                ))}
            </ul>
        </article>
    );
}
