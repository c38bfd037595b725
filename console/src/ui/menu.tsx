/** A button with a menu. */
import { useEffect, useId, useRef, useState } from "preact/hooks";

export interface Item {
    text: string;
    isDangerous?: boolean;
    /** A path of this server, for a download. */
    href?: string;
    /** The name of the file of a download. */
    file?: string;
    act?: () => void;
}

/** A button that opens a list of actions. Esc closes it, the arrow keys move in it. */
export function Menu({ label, text, items }: { label: string; text: string; items: Item[] }) {
    const [isOpen, open] = useState(false);
    const id = useId();
    const root = useRef<HTMLDivElement>(null);
    const button = useRef<HTMLButtonElement>(null);
    useEffect(() => {
        if (!isOpen) return undefined;
        root.current?.querySelector<HTMLElement>("[role=menuitem]")?.focus();
        const outside = (event: Event) => {
            if (!root.current?.contains(event.target as Node)) open(false);
        };
        document.addEventListener("pointerdown", outside);
        return () => document.removeEventListener("pointerdown", outside);
    }, [isOpen]);
    const close = () => {
        open(false);
        button.current?.focus();
    };
    const keys = (event: KeyboardEvent) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (event.key === "Escape") close();
        else if (step) {
            const all = [...(root.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
            const next = all.indexOf(document.activeElement as HTMLElement) + step;
            all[(next + all.length) % all.length]?.focus();
        } else return;
        event.preventDefault();
        event.stopPropagation();
    };
    const leave = (event: FocusEvent) => {
        if (event.relatedTarget && !root.current?.contains(event.relatedTarget as Node)) open(false);
    };
    return (
        <div class="menu" ref={root} onKeyDown={isOpen ? keys : undefined} onFocusOut={leave}>
            <button
                type="button"
                ref={button}
                aria-label={label}
                aria-haspopup="menu"
                aria-expanded={isOpen}
                aria-controls={isOpen ? id : undefined}
                onClick={() => open(!isOpen)}
            >
                {text} <span aria-hidden="true">▾</span>
            </button>
            {isOpen && (
                <div role="menu" id={id} aria-label={label}>
                    {items.map((item) =>
                        item.href ? (
                            <a
                                key={item.text}
                                role="menuitem"
                                tabIndex={-1}
                                href={item.href}
                                download={item.file}
                                onClick={close}
                            >
                                {item.text}
                            </a>
                        ) : (
                            <button
                                key={item.text}
                                type="button"
                                role="menuitem"
                                tabIndex={-1}
                                class={item.isDangerous ? "dangerous" : undefined}
                                onClick={() => {
                                    close();
                                    item.act?.();
                                }}
                            >
                                {item.text}
                            </button>
                        ),
                    )}
                </div>
            )}
        </div>
    );
}
