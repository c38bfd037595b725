/** The time axis of a call: the lanes of all legs under one scale, with zoom. */
import { useEffect, useRef, useState } from "preact/hooks";
import { kept } from "../kept";
import { useWidth } from "../ui/width";
import { Cursor, heightOf, LaneContent, type Choice, type Scale } from "./lanes";
import { KINDS, type Item, type Kind, type Lane, type Model } from "./model";
import { bounded, moved, ticks, tickText, zoomed, type View } from "./view";

const isKinds = (value: unknown): boolean => Array.isArray(value) && value.every((one) => typeof one === "string");
/** The kinds of lanes that the user has turned off. */
const hidden = kept<Kind[]>("hidden-lanes", [], isKinds);

const HEAD = 22;
const TRACK = 24;
const TITLE = 15;
const GAP = 8;
/** The space after the last event, in pixels. */
const MARGIN = 14;

interface Drawn {
    lane: Lane;
    y: number;
}

/** Gives each visible lane its place below the one before. */
function layout(
    model: Model,
    scale: Scale,
): { heads: { text: string; name: string; y: number }[]; drawn: Drawn[]; height: number } {
    let y = HEAD;
    const heads = [];
    const drawn: Drawn[] = [];
    for (const track of model.tracks) {
        const lanes = track.lanes.filter((lane) => !hidden.value.includes(lane.kind));
        if (lanes.length === 0) continue;
        heads.push({ name: track.name, text: track.text, y });
        y += TRACK;
        for (const lane of lanes) {
            y += TITLE;
            drawn.push({ lane, y });
            y += heightOf(lane, scale) + GAP;
        }
    }
    return { heads, drawn, height: y };
}

function Toggles({ model }: { model: Model }) {
    const present = KINDS.filter(([kind]) => model.tracks.some((track) => track.lanes.some((lane) => lane.kind === kind)));
    const toggle = (kind: Kind) => {
        const off = hidden.value.includes(kind);
        hidden.value = off ? hidden.value.filter((one) => one !== kind) : [...hidden.value, kind];
    };
    return (
        <fieldset class="toggles">
            <legend>Lanes</legend>
            {present.map(([kind, title]) => (
                <label key={kind}>
                    <input type="checkbox" checked={!hidden.value.includes(kind)} onChange={() => toggle(kind)} /> {title}
                </label>
            ))}
        </fieldset>
    );
}

/** Moves the focus to the item before or after, in the order of the lanes. */
function step(svg: Element, by: number): void {
    const items = [...svg.querySelectorAll<SVGElement>("[data-item]")];
    const at = items.indexOf(document.activeElement as SVGElement);
    items[Math.max(0, Math.min(items.length - 1, at + by))]?.focus();
}

interface Props {
    model: Model;
    selected: Item[];
    select: (items: Item[]) => void;
}

/** The axis with its buttons. `+`, `-`, `0` and Shift with the arrow keys change the view, the arrow keys the item. */
export function Axis({ model, selected, select }: Props) {
    const [box, width] = useWidth<HTMLDivElement>();
    const [chosen, choose] = useState<View | null>(null);
    const [focused, focus] = useState<string>();
    const [pointed, point] = useState("");
    const svg = useRef<SVGSVGElement>(null);
    const hasKeys = useRef(false);
    const drag = useRef<{ x: number; view: View } | null>(null);
    const view = chosen ? bounded(chosen, model.end) : { from: 0, to: model.end * (1 + MARGIN / Math.max(width, MARGIN)) };
    const length = view.to - view.from;
    const scale: Scale = {
        x: (time) => ((time - view.from) / length) * width,
        time: (x) => view.from + (x / Math.max(1, width)) * length,
        width,
        origin: model.origin,
    };
    const middle = (view.from + view.to) / 2;
    const zoom = (factor: number, at = middle) => choose(zoomed(view, factor, at, model.end));
    const { heads, drawn, height } = layout(model, scale);
    const first = drawn.flatMap(({ lane }) => lane.items)[0]?.id;
    const choice: Choice = { selected, select, focused: focused ?? first, focus, point };

    // The focused item may leave the view, or join another one. The keys then still change the view.
    useEffect(() => {
        if (hasKeys.current && !svg.current?.contains(document.activeElement)) svg.current?.focus();
    }, [chosen]);
    const near = () => {
        const at = drawn.flatMap(({ lane }) => lane.items).find((item) => item.id === focused)?.start;
        return at !== undefined && at >= view.from && at <= view.to ? at : middle;
    };
    const wheel = (event: WheelEvent & { currentTarget: Element }) => {
        const isZoom = event.ctrlKey || event.metaKey;
        const sideways = event.shiftKey ? event.deltaY : event.deltaX;
        if (!isZoom && !sideways) return;
        event.preventDefault();
        if (isZoom)
            zoom(event.deltaY > 0 ? 1.25 : 0.8, scale.time(event.clientX - event.currentTarget.getBoundingClientRect().left));
        else choose(moved(view, sideways / Math.max(1, width), model.end));
    };
    const keys = (event: KeyboardEvent & { currentTarget: Element }) => {
        const arrow = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
        if (arrow && event.shiftKey) choose(moved(view, arrow * 0.2, model.end));
        else if (arrow) step(event.currentTarget, arrow);
        else if (event.key === "+" || event.key === "=") zoom(0.5, near());
        else if (event.key === "-") zoom(2, near());
        else if (event.key === "0") choose(null);
        else if (event.key === "Escape") select([]);
        else return;
        event.preventDefault();
    };
    const down = (event: PointerEvent) => {
        if ((event.target as Element).closest(".item, .wave") || event.button !== 0) return;
        drag.current = { x: event.clientX, view };
        (event.currentTarget as Element).setPointerCapture(event.pointerId);
    };
    const move = (event: PointerEvent) => {
        if (drag.current && chosen) choose(moved(drag.current.view, (drag.current.x - event.clientX) / width, model.end));
    };
    const fitSelected = () => {
        const [from, to] = [Math.min(...selected.map((one) => one.start)), Math.max(...selected.map((one) => one.end))];
        const margin = Math.max(0.001, (to - from) * 0.3);
        choose(bounded({ from: from - margin, to: to + margin * 2 }, model.end));
    };
    return (
        <section class="axis" aria-label="Time axis">
            <div class="axis-tools">
                <Toggles model={model} />
                <div class="buttons" role="group" aria-label="Zoom">
                    {selected.length > 0 && (
                        <button type="button" onClick={fitSelected}>
                            Zoom to selection
                        </button>
                    )}
                    <button type="button" aria-label="Zoom out" onClick={() => zoom(2)}>
                        −
                    </button>
                    <button type="button" aria-label="Zoom in" onClick={() => zoom(0.5)}>
                        +
                    </button>
                    <button
                        type="button"
                        aria-label="Earlier"
                        disabled={!chosen}
                        onClick={() => choose(moved(view, -0.4, model.end))}
                    >
                        ◂
                    </button>
                    <button
                        type="button"
                        aria-label="Later"
                        disabled={!chosen}
                        onClick={() => choose(moved(view, 0.4, model.end))}
                    >
                        ▸
                    </button>
                    <button type="button" onClick={() => choose(null)} disabled={!chosen}>
                        Whole call
                    </button>
                </div>
            </div>
            <p class="pointed" aria-hidden="true">
                {pointed}
            </p>
            <div ref={box}>
                {width > 0 && (
                    <svg
                        ref={svg}
                        width={width}
                        height={height}
                        tabindex={-1}
                        role="group"
                        aria-label="Events of the call over time"
                        onWheel={wheel}
                        onKeyDown={keys}
                        onFocusIn={() => (hasKeys.current = true)}
                        onFocusOut={(event) => (hasKeys.current = event.relatedTarget === null)}
                        onPointerDown={down}
                        onPointerMove={move}
                        onPointerUp={() => (drag.current = null)}
                        onPointerCancel={() => (drag.current = null)}
                    >
                        {ticks(view, width).map((time) => (
                            <g key={time} class="tick" aria-hidden="true">
                                <path d={`M${scale.x(time).toFixed(1)} 16V${height}`} />
                                <text x={scale.x(time) + 3} y="12">
                                    {scale.x(time) < width - 40 ? tickText(time, view) : ""}
                                </text>
                            </g>
                        ))}
                        {heads.map((head) => (
                            <text key={head.name} class="track" x="0" y={head.y + 17}>
                                {head.name} <tspan class="muted">{head.text}</tspan>
                            </text>
                        ))}
                        {drawn.map(({ lane, y }) => (
                            <g key={lane.id} transform={`translate(0 ${y})`}>
                                <text class="title" x="0" y="-4" aria-hidden="true">
                                    {lane.title}
                                    {lane.kind === "sip" ? " (above: far end, below: Tandem)" : ""}
                                    {lane.kind === "quality" ? " (line: MOS, bars: packet loss)" : ""}
                                </text>
                                <LaneContent lane={lane} scale={scale} choice={choice} />
                            </g>
                        ))}
                        <Cursor lanes={drawn.map(({ lane }) => lane)} scale={scale} height={height} />
                    </svg>
                )}
            </div>
            <p class="muted hint">
                Zoom: buttons, + and -, or Ctrl with the wheel. Move: drag, or Shift with the arrow keys. Arrow keys choose an
                event, Enter shows it.
            </p>
        </section>
    );
}
