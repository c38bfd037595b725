/** The lanes of the time axis. Each draws its items at the scale that it is given. */
import { pathOf } from "../api";
import { instant, offset } from "../format";
import { useLoad } from "../load";
import type { Peaks, QualitySeries, Recording } from "../types";
import { pressed } from "../ui/width";
import type { Item, Lane } from "./model";
import { place, type Placed } from "./place";
import { playing, position, seek } from "./player";

export interface Scale {
    x: (time: number) => number;
    time: (x: number) => number;
    width: number;
    /** The instant of 0 on the axis. */
    origin: number;
}

export interface Choice {
    selected: Item[];
    select: (items: Item[]) => void;
    /** The id of the item that the Tab key reaches. */
    focused: string | undefined;
    focus: (id: string) => void;
    /** Shows the whole text of an item that the pointer or the focus is at. */
    point: (text: string) => void;
}

const BAR = 17;
const GAP = 3;
const ROWS = 4;
const SIP = 34;

/** The height of a lane without its title. */
export function heightOf(lane: Lane, scale: Scale): number {
    if (lane.kind === "sip") return SIP;
    if (lane.kind === "quality") return 40;
    if (lane.kind === "recording") return 56;
    const rows = place(lane.items, scale.x, scale.width, ROWS).reduce((most, one) => Math.max(most, one.row + 1), 1);
    return rows * (BAR + GAP);
}

function Group({ of, choice, children }: { of: Placed; choice: Choice; children: preact.ComponentChildren }) {
    const first = of.items[0];
    if (!first) return null;
    const isSelected = choice.selected.some((item) => of.items.some((one) => one.id === item.id));
    const tone = (["bad", "warn"] as const).find((one) => of.items.some((item) => item.tone === one)) ?? first.tone;
    const act = () => choice.select(of.items);
    const text = `${offset(first.start)} s: ${of.label}`;
    return (
        <g
            class={`item ${tone} ${isSelected ? "selected" : ""}`}
            role="button"
            data-item={first.id}
            tabindex={choice.focused === first.id ? 0 : -1}
            aria-label={of.label.includes(of.text) ? text : `${of.text} ${text}`}
            aria-pressed={isSelected}
            onClick={act}
            onKeyDown={pressed(act)}
            onFocus={() => {
                choice.focus(first.id);
                choice.point(text);
            }}
            onPointerEnter={() => choice.point(text)}
            onPointerLeave={() => choice.point("")}
        >
            {children}
        </g>
    );
}

/** SIP messages as arrows between the far end (above) and this server (below). */
function SipLane({ lane, scale, choice }: { lane: Lane; scale: Scale; choice: Choice }) {
    return (
        <>
            <path class="lifeline" d={`M0 1H${scale.width}M0 ${SIP - 1}H${scale.width}`} />
            {place(lane.items, scale.x, scale.width, 1).map((one) => {
                const x = one.left + 3;
                const [from, to] = one.items[0]?.isReceived ? [2, SIP - 2] : [SIP - 2, 2];
                const head = to > from ? -6 : 6;
                return (
                    <Group key={one.items[0]?.id} of={one} choice={choice}>
                        <rect class="hit" x={one.left - 2} y="0" width={one.right - one.left + 2} height={SIP} />
                        <path class="arrow" d={`M${x} ${from}V${to}M${x - 3} ${to + head}L${x} ${to}L${x + 3} ${to + head}`} />
                        {one.items.length > 1 && <path class="arrow more" d={`M${x + 4} ${from}V${to}`} />}
                        <text x={x + 9} y={SIP / 2 + 4}>
                            {one.text}
                        </text>
                    </Group>
                );
            })}
        </>
    );
}

/** Bars from the start to the end of each item. */
function BarLane({ lane, scale, choice }: { lane: Lane; scale: Scale; choice: Choice }) {
    return (
        <>
            {place(lane.items, scale.x, scale.width, ROWS).map((one) => {
                const y = one.row * (BAR + GAP);
                const left = Math.max(one.left, -4);
                return (
                    <Group key={one.items[0]?.id} of={one} choice={choice}>
                        <rect
                            class="bar"
                            x={left}
                            y={y}
                            width={Math.min(one.right, scale.width + 4) - left}
                            height={BAR}
                            rx="3"
                        />
                        <text x={Math.max(one.left, 0) + one.indent} y={y + 12.5}>
                            {one.text}
                        </text>
                    </Group>
                );
            })}
        </>
    );
}

/** MOS as a line, from 1 to 4.5, and packet loss as bars from below. */
function QualityLane({ series, scale }: { series: QualitySeries; scale: Scale }) {
    let line = "";
    let bars = "";
    for (const point of series.points) {
        const x = scale.x(instant(point.at) - scale.origin);
        if (point.mos === null) continue;
        line += `${line ? "L" : "M"}${x.toFixed(1)} ${(40 - ((point.mos - 1) / 3.5) * 36).toFixed(1)}`;
        if (point.loss_percent) bars += `M${x.toFixed(1)} 40v${(-Math.min(1, point.loss_percent / 10) * 38).toFixed(1)}`;
    }
    const lowest = Math.min(...series.points.map((point) => point.mos ?? 5));
    return (
        <g role="img" aria-label={`MOS over time, lowest ${lowest.toFixed(1)}`}>
            <path class="lifeline" d={`M0 39H${scale.width}`} />
            <path class="loss" d={bars} />
            <path class="line" d={line} />
        </g>
    );
}

const WAVE = 56;

function wave(peaks: number[], middle: number, half: number, x: (index: number) => number, width: number): string {
    let above = "";
    let below = "";
    peaks.forEach((peak, index) => {
        const at = x(index);
        if (at < -2 || at > width + 2) return;
        const height = Math.max(0.4, (peak / 100) * half);
        above += `${above ? "L" : "M"}${at.toFixed(1)} ${(middle - height).toFixed(1)}`;
        below = `L${at.toFixed(1)} ${(middle + height).toFixed(1)}${below}`;
    });
    return above && `${above}${below}Z`;
}

/** A recording as the waveform of its channels. A click plays from there. */
function WaveLane({ of, scale }: { of: Recording; scale: Scale }) {
    const isReady = of.status === "completed";
    const { data, error } = useLoad<Peaks>(isReady ? `${pathOf("recordings", of.id, "peaks")}?points=800` : null);
    const start = instant(of.started_at) - scale.origin;
    // A recording that runs lasts until now.
    const isRunning = of.status === "runs" || of.status === "paused";
    const seconds = data?.seconds ?? of.seconds ?? (isRunning ? Math.max(0, scale.time(scale.width) - start) : 0);
    const [left, right] = [scale.x(start), scale.x(start + seconds)];
    const missing = error ? `No waveform: ${error.message}` : isReady ? "" : `Recording: ${of.status}`;
    const channels = data?.peaks ?? [];
    const half = WAVE / (2 * Math.max(1, channels.length));
    const x = (index: number) => left + ((right - left) * (index + 0.5)) / (channels[0]?.length || 1);
    const click = (event: MouseEvent & { currentTarget: Element }) => {
        const box = event.currentTarget.closest("svg")?.getBoundingClientRect();
        if (box && isReady) seek(of.id, scale.time(event.clientX - box.left) - start, true);
    };
    return (
        <g class="wave" role="img" aria-label={`Waveform of a recording of ${seconds.toFixed(1)} s`} onClick={click}>
            <rect class="under" x={left} y="0" width={Math.max(1, right - left)} height={WAVE} rx="3" />
            {channels.map((peaks, channel) => (
                <path
                    key={channel}
                    class={`channel${channel}`}
                    d={wave(peaks, half * (2 * channel + 1), half - 2, x, scale.width)}
                />
            ))}
            {missing && (
                <text x={Math.max(left, 0) + 6} y={WAVE / 2 + 4}>
                    {missing}
                </text>
            )}
        </g>
    );
}

/** The content of a lane. */
export function LaneContent({ lane, scale, choice }: { lane: Lane; scale: Scale; choice: Choice }) {
    if (lane.kind === "sip") return <SipLane lane={lane} scale={scale} choice={choice} />;
    if (lane.series) return <QualityLane series={lane.series} scale={scale} />;
    if (lane.recording) return <WaveLane of={lane.recording} scale={scale} />;
    return <BarLane lane={lane} scale={scale} choice={choice} />;
}

/** The position of the recording that plays, over all lanes. */
export function Cursor({ lanes, scale, height }: { lanes: Lane[]; scale: Scale; height: number }) {
    const recording = lanes.find((lane) => lane.recording?.id === playing.value?.id)?.recording;
    if (!recording) return null;
    const x = scale.x(instant(recording.started_at) - scale.origin + position.value);
    return <rect class="cursor" x={x.toFixed(1)} y="0" width="1.6" height={height} />;
}
