/** Names with values. */
import type { ComponentChildren } from "preact";

/** A list of names with values. Pairs without a value are left out. */
export function Pairs({ of, class: name }: { of: [string, ComponentChildren][]; class?: string }) {
    const shown = of.filter(([, value]) => value !== null && value !== undefined && value !== "");
    return (
        <dl class={name ?? "pairs"}>
            {shown.map(([title, value], at) => (
                <div key={`${at} ${title}`} class={typeof value === "string" && value.length > 30 ? "wide" : undefined}>
                    <dt>{title}</dt>
                    <dd>{value}</dd>
                </div>
            ))}
        </dl>
    );
}
