/** Where the items of a lane are drawn. Items that would cover each other are drawn as one. */
import type { Item } from "./model";

export interface Placed {
    items: Item[];
    /** Left and right edge in pixels. */
    left: number;
    right: number;
    row: number;
    /** The distance of the text from the left edge. The text of a short item stands beside it. */
    indent: number;
    /** The text that has room, or nothing. */
    text: string;
    label: string;
}

/** The smallest width of an item, and the smallest distance of two, in pixels. */
const SMALLEST = 8;
/** The width of a character, in pixels. */
const CHARACTER = 6.9;

function cut(text: string, room: number): string {
    const characters = Math.floor((room - 8) / CHARACTER);
    if (text.length <= characters) return text;
    return characters >= 5 ? `${text.slice(0, characters - 1)}…` : "";
}

/** Places items in at most `rows` rows. `x` gives the pixel of a time. */
export function place(items: Item[], x: (time: number) => number, width: number, rows: number): Placed[] {
    const groups: Placed[] = [];
    const ends: number[] = [];
    const last: (Placed | undefined)[] = [];
    const sorted = [...items].sort((a, b) => a.start - b.start);
    for (const item of sorted) {
        const left = x(item.start);
        const right = Math.max(left + SMALLEST, x(item.end));
        if (right < 0 || left > width) continue;
        let row = ends.findIndex((end) => end + 2 <= left);
        if (row < 0 && ends.length < rows) row = ends.length;
        const before = row < 0 ? last.findLast((one) => one !== undefined) : undefined;
        if (before) {
            before.items.push(item);
            before.right = Math.max(before.right, right);
            ends[before.row] = before.right;
            continue;
        }
        const placed: Placed = { items: [item], left, right, row: Math.max(0, row), indent: 4, text: "", label: "" };
        groups.push(placed);
        ends[placed.row] = right;
        last[placed.row] = placed;
    }
    for (const [index, group] of groups.entries()) {
        const next = groups.slice(index + 1).find((one) => one.row === group.row);
        const more = group.items.length - 1;
        const first = group.items[0]?.text ?? "";
        group.label = more > 0 ? `${first} and ${more} more` : first;
        if (group.right - group.left <= 2 * SMALLEST) group.indent = group.right - group.left + 3;
        const start = Math.max(group.left, 0) + group.indent - 4;
        group.text = cut(more > 0 ? `${first} +${more}` : first, (next?.left ?? width) - start);
        if (!group.text && more > 0) group.text = cut(`+${more}   `, (next?.left ?? width) - start + 8).trim();
    }
    return groups;
}
