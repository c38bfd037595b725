/** The SIP messages of a call as a ladder: one column for each far end, one for this server. */
import { Fragment } from "preact";
import { count, offset } from "../format";
import type { SipMessage, Trace } from "../types";
import { pressed, useWidth } from "../ui/width";
import { sipTone } from "./model";

const ROW = 34;
const HEAD = 34;
const TIME = 62;

interface Props {
    trace: Trace;
    selected: SipMessage | undefined;
    select: (message: SipMessage) => void;
}

/** The ladder. A click on a message shows it. */
export function Ladder({ trace, selected, select }: Props) {
    const [box, width] = useWidth<HTMLDivElement>();
    // This server stands between the first far end and the others.
    const columns = trace.parties.length + 1;
    const between = Math.max(150, (Math.max(width, 320) - TIME) / columns);
    const x = (column: number) => TIME + between * (column + 0.5);
    const ours = Math.min(1, columns - 1);
    const columnOf = (party: number) => (party < ours ? party : party + 1);
    const height = HEAD + trace.messages.length * ROW + 6;
    const names = trace.parties.map((party, index) => ({ name: party.name, column: columnOf(index) }));
    return (
        <div class="ladder" ref={box} tabIndex={0} role="group" aria-label="SIP ladder">
            {trace.left_out > 0 && <p class="muted">{count(trace.left_out, "further message")} of this call were not kept.</p>}
            {width > 0 && (
                <svg width={TIME + between * columns} height={height}>
                    {[...names, { name: "Tandem", column: ours }].map(({ name, column }) => (
                        <g key={`${name} ${column}`} aria-hidden="true">
                            <path class="lifeline" d={`M${x(column)} ${HEAD - 8}V${height}`} />
                            <text class="party" x={x(column)} y="16" text-anchor="middle">
                                {name}
                            </text>
                        </g>
                    ))}
                    {trace.messages.map((message, index) => {
                        const far = x(columnOf(message.party));
                        const [from, to] = message.direction === "received" ? [far, x(ours)] : [x(ours), far];
                        const y = HEAD + index * ROW + 20;
                        const head = to > from ? -7 : 7;
                        const room = Math.floor((Math.abs(to - from) - 12) / 6.9);
                        const text = message.summary + (message.again ? " again" : "");
                        const drawn = text.length > room ? `${text.slice(0, room - 1)}…` : text;
                        const name = trace.parties[message.party]?.name ?? "";
                        // The accessible name begins with what is drawn.
                        const label = `${drawn}, ${offset(message.seconds)} s, ${message.direction}, ${name}`;
                        const act = () => select(message);
                        return (
                            <Fragment key={index}>
                                <text class="muted" x="0" y={y} aria-hidden="true">
                                    {offset(message.seconds)}
                                </text>
                                <g
                                    class={`item ${message === selected ? "selected" : ""} ${sipTone(message.summary)}`}
                                    role="button"
                                    tabindex={0}
                                    aria-pressed={message === selected}
                                    aria-label={drawn === text ? label : `${label}: ${text}`}
                                    onClick={act}
                                    onKeyDown={pressed(act)}
                                >
                                    <rect class="hit" x={TIME} y={y - 20} width={between * columns} height={ROW} />
                                    <text x={(from + to) / 2} y={y - 6} text-anchor="middle">
                                        {drawn}
                                    </text>
                                    <path
                                        class="arrow"
                                        d={`M${from} ${y}H${to}M${to + head} ${y - 4}L${to} ${y}L${to + head} ${y + 4}`}
                                    />
                                </g>
                            </Fragment>
                        );
                    })}
                </svg>
            )}
        </div>
    );
}
