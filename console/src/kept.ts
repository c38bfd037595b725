/** Settings of this browser, in its localStorage. */
import { effect, signal, type Signal } from "@preact/signals";

/** A signal whose value this browser keeps. `check` says whether a kept value is usable. */
export function kept<T>(name: string, initial: T, check: (value: unknown) => boolean): Signal<T> {
    const key = `tandem.${name}`;
    let value = initial;
    try {
        const found: unknown = JSON.parse(localStorage.getItem(key) ?? "null");
        if (check(found)) value = found as T;
    } catch {
        // A damaged or forbidden storage is the same as an empty one.
    }
    const kept = signal(value);
    effect(() => {
        try {
            localStorage.setItem(key, JSON.stringify(kept.value));
        } catch {
            // The setting then lasts as long as the page.
        }
    });
    return kept;
}
