/** Times, durations and figures as short texts. */

/** The instant of an RFC 3339 time in seconds since 1970, with all digits of its fraction. */
export function instant(at: string): number {
    const fraction = /\.(\d+)/.exec(at);
    const whole = Date.parse(at.replace(/\.\d+/, "")) / 1000;
    return fraction ? whole + Number(`0.${fraction[1]}`) : whole;
}

const two = (value: number) => String(value).padStart(2, "0");

/** The local time of day: 16:41:49. */
export function clock(at: string): string {
    const time = new Date(at);
    return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

/** The local date and time of day. Today needs no date. */
export function moment(at: string): string {
    const time = new Date(at);
    if (time.toDateString() === new Date().toDateString()) return clock(at);
    return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${clock(at)}`;
}

/** A duration: 0:07, 3:25, 1:02:03. */
export function duration(seconds: number): string {
    const all = Math.max(0, Math.floor(seconds));
    const [hours, minutes] = [Math.floor(all / 3600), Math.floor(all / 60) % 60];
    return hours > 0 ? `${hours}:${two(minutes)}:${two(all % 60)}` : `${minutes}:${two(all % 60)}`;
}

/** Seconds on the axis of a call, with three digits after the point. */
export function offset(seconds: number): string {
    return seconds.toFixed(3);
}

/** A number with so many digits after the point, or a dash. */
export function figure(value: number | null | undefined, digits = 1, unit = ""): string {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    return value.toFixed(digits) + (unit && ` ${unit}`);
}

/** The share of lost packets in percent. `null` if no packet arrived. */
export function loss(quality: { packets_in: number; lost: number }): number | null {
    const all = quality.packets_in + quality.lost;
    return all > 0 ? (100 * quality.lost) / all : null;
}

/** A count with its noun: 1 call, 2 calls. */
export function count(number: number, noun: string): string {
    return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** A value of unknown JSON as text. */
export function text(value: unknown): string {
    if (value === null || value === undefined) return "";
    return typeof value === "string" ? value : JSON.stringify(value, null, 1);
}

/** A body as text. JSON gets line breaks. */
export function pretty(body: string): string {
    if (!/^\s*[[{]/.test(body)) return body;
    try {
        return JSON.stringify(JSON.parse(body), null, 2);
    } catch {
        return body;
    }
}
