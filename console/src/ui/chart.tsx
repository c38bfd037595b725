/** A small chart of one figure over time. */
import { useState } from "preact/hooks";
import { clock } from "../format";
import type { FigureSeries } from "../types";

const WIDTH = 320;
const HEIGHT = 90;

/** The smallest round number that is at least `value`: 1, 2 or 5 times a power of ten. */
function round(value: number): number {
    if (value <= 0) return 1;
    const power = 10 ** Math.floor(Math.log10(value));
    return ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10) * power;
}

function short(value: number | null | undefined): string {
    if (value === null || value === undefined) return "–";
    return value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 10 ? 2 : 1 });
}

/** A chart with its latest value. The pointer and the arrow keys show the value of a time. */
export function Chart({ series }: { series: FigureSeries }) {
    const [at, pick] = useState<number | null>(null);
    const { points, title, unit } = series;
    const values = points.map(([, value]) => value).filter((value) => value !== null);
    const [first, last] = [points[0]?.[0] ?? 0, points.at(-1)?.[0] ?? 1];
    const top = round(Math.max(0, ...values));
    const x = (time: number) => ((time - first) / Math.max(1, last - first)) * WIDTH;
    const y = (value: number) => HEIGHT - (value / top) * (HEIGHT - 8);
    let path = "";
    points.forEach(([time, value], index) => {
        if (value === null) return;
        const isStart = index === 0 || points[index - 1]?.[1] === null;
        path += `${isStart ? "M" : "L"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
    });
    const picked = at === null ? undefined : points[at];
    const latest = points.findLast(([, value]) => value !== null);
    const shown = picked ?? latest;
    const move = (event: PointerEvent & { currentTarget: Element }) => {
        const box = event.currentTarget.getBoundingClientRect();
        const share = (event.clientX - box.left) / box.width;
        pick(Math.max(0, Math.min(points.length - 1, Math.round(share * (points.length - 1)))));
    };
    const keys = (event: KeyboardEvent) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (event.key === "Escape") pick(null);
        if (!step) return;
        event.preventDefault();
        pick(Math.max(0, Math.min(points.length - 1, (at ?? points.length) + step)));
    };
    const summary = values.length
        ? `Latest ${short(latest?.[1])}${unit && ` ${unit}`}, lowest ${short(Math.min(...values))}, highest ${short(Math.max(...values))}`
        : "No values";
    return (
        <figure class="chart">
            <figcaption>
                <h2>{title}</h2>
                <span class="figure">
                    {short(shown?.[1])} <small>{unit}</small>
                </span>
                <span class="muted">{shown ? clock(new Date(shown[0] * 1000).toISOString()) : ""}</span>
            </figcaption>
            <svg
                viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
                preserveAspectRatio="none"
                role="img"
                aria-label={`${title}. ${summary}`}
                tabindex={0}
                onPointerMove={move}
                onPointerLeave={() => pick(null)}
                onKeyDown={keys}
                onBlur={() => pick(null)}
            >
                <path class="grid" d={`M0 ${y(top)}H${WIDTH}M0 ${y(top / 2)}H${WIDTH}M0 ${HEIGHT}H${WIDTH}`} />
                <path class="line" d={path} />
                {picked && <path class="pick" d={`M${x(picked[0])} 0V${HEIGHT}`} />}
            </svg>
            <p class="muted">
                Scale 0 to {short(top)}. {summary}
            </p>
        </figure>
    );
}
