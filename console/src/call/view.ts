/** The visible part of the time axis, and its scale. */

export interface View {
    from: number;
    to: number;
}

/** The shortest visible time in seconds. */
const SHORTEST = 0.002;

/** Keeps a view inside the call. */
export function bounded(view: View, end: number): View {
    const length = Math.min(end, Math.max(SHORTEST, view.to - view.from));
    const from = Math.max(0, Math.min(end - length, view.from));
    return { from, to: from + length };
}

/** A view that is `factor` times as long. The time `at` stays at its place. */
export function zoomed(view: View, factor: number, at: number, end: number): View {
    return bounded({ from: at - (at - view.from) * factor, to: at + (view.to - at) * factor }, end);
}

/** A view that is moved by a share of its length. */
export function moved(view: View, share: number, end: number): View {
    const by = (view.to - view.from) * share;
    return bounded({ from: view.from + by, to: view.to + by }, end);
}

/** The times of the marks below the axis: round numbers, about one each 90 pixels. */
export function ticks(view: View, width: number): number[] {
    const rough = ((view.to - view.from) * 90) / Math.max(90, width);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = ([1, 2, 5, 10].find((one) => one * power >= rough) ?? 10) * power;
    const first = Math.ceil(view.from / step);
    const last = Math.floor(view.to / step);
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => (first + index) * step);
}

/** The text of a mark. It has as many digits as the distance of the marks needs. */
export function tickText(time: number, view: View): string {
    const length = view.to - view.from;
    const digits = length > 20 ? 0 : length > 2 ? 1 : length > 0.2 ? 2 : 4;
    return `${time.toFixed(digits)} s`;
}
