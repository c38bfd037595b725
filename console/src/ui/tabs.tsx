/** Tabs: one of several panels is shown. */
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

export interface Tab {
    id: string;
    text: string;
    panel: () => ComponentChildren;
}

/** A row of tabs and the panel of the selected one. The arrow keys move among the tabs. */
export function Tabs({
    label,
    tabs,
    selected,
    select,
}: {
    label: string;
    tabs: Tab[];
    selected: string;
    select: (id: string) => void;
}) {
    const prefix = useId();
    const current = tabs.find((tab) => tab.id === selected) ?? tabs[0];
    if (!current) return null;
    const keys = (event: KeyboardEvent & { currentTarget: HTMLElement }) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = tabs[(tabs.indexOf(current) + step + tabs.length) % tabs.length];
        if (!next) return;
        event.preventDefault();
        select(next.id);
        event.currentTarget.querySelector<HTMLElement>(`[data-tab="${next.id}"]`)?.focus();
    };
    return (
        <section class="tabs">
            <div role="tablist" aria-label={label} onKeyDown={keys}>
                {tabs.map((tab) => (
                    <button
                        key={tab.id}
                        type="button"
                        role="tab"
                        data-tab={tab.id}
                        id={`${prefix}-${tab.id}`}
                        aria-selected={tab === current}
                        aria-controls={`${prefix}-panel`}
                        tabIndex={tab === current ? 0 : -1}
                        onClick={() => select(tab.id)}
                    >
                        {tab.text}
                    </button>
                ))}
            </div>
            <div role="tabpanel" id={`${prefix}-panel`} aria-labelledby={`${prefix}-${current.id}`} tabIndex={0}>
                {current.panel()}
            </div>
        </section>
    );
}
