/** A table. At a telephone's width each row becomes a block of labelled values. */
import type { ComponentChildren } from "preact";
import { go } from "../route";

export interface Column<R> {
    name: string;
    cell: (row: R) => ComponentChildren;
    isNumber?: boolean;
    /** Whether the text is long, so that it may break anywhere. */
    isLong?: boolean;
}

interface Props<R> {
    label: string;
    columns: Column<R>[];
    rows: R[];
    id: (row: R) => string;
    /** The page that a click on the row opens. The first cell then has the link for the keyboard. */
    opens?: (row: R) => string[] | undefined;
    tone?: (row: R) => string | undefined;
    /** Whether a row has few short values, so that it needs no labels at a telephone's width. */
    isCompact?: boolean;
}

/** A cell without a value. Blocks of labelled values leave it out. */
export const NONE = "–";

/** Moves the focus among the links of the rows by the arrow keys. */
function arrows(event: KeyboardEvent & { currentTarget: HTMLElement }): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const links = [...event.currentTarget.querySelectorAll<HTMLElement>("[data-row] td:first-child a")];
    const at = links.indexOf(document.activeElement as HTMLElement);
    const next = links[at < 0 ? 0 : at + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
}

/** A table with a heading row. */
export function Table<R>({ label, columns, rows, id, opens, tone, isCompact }: Props<R>) {
    return (
        <div class="table-box">
            <table class={`table ${isCompact ? "compact" : ""}`} role="table" aria-label={label} onKeyDown={arrows}>
                <thead role="rowgroup">
                    <tr role="row">
                        {columns.map((column) => (
                            <th key={column.name} role="columnheader" scope="col" class={column.isNumber ? "number" : undefined}>
                                {column.name}
                            </th>
                        ))}
                    </tr>
                </thead>
                <tbody role="rowgroup">
                    {rows.map((row) => {
                        const path = opens?.(row);
                        const click = (event: MouseEvent) => {
                            const inside = (event.target as HTMLElement).closest("a, button, input, select");
                            if (path && !inside && !getSelection()?.toString()) go(path);
                        };
                        return (
                            <tr
                                key={id(row)}
                                role="row"
                                data-row
                                class={`${path ? "opens" : ""} ${tone?.(row) ?? ""}`}
                                onClick={click}
                            >
                                {columns.map((column) => {
                                    const value = column.cell(row);
                                    const look = column.isNumber ? "number" : column.isLong ? "long" : "";
                                    return (
                                        <td
                                            key={column.name}
                                            role="cell"
                                            data-label={column.name}
                                            class={`${look} ${value === NONE ? "none" : ""}`}
                                        >
                                            <span class="value">{value}</span>
                                        </td>
                                    );
                                })}
                            </tr>
                        );
                    })}
                </tbody>
            </table>
        </div>
    );
}
