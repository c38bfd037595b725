/** The width of an element. */
import { useEffect, useRef, useState } from "preact/hooks";

/** A reference for an element, and its present width in pixels. */
export function useWidth<E extends Element>() {
    const element = useRef<E>(null);
    const [width, setWidth] = useState(0);
    useEffect(() => {
        const own = element.current;
        if (!own) return undefined;
        const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry?.contentRect.width ?? 0)));
        observer.observe(own);
        return () => observer.disconnect();
    }, []);
    return [element, width] as const;
}

/** Calls an action on Enter and Space, for elements that are no buttons. */
export function pressed(action: () => void) {
    return (event: KeyboardEvent) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();
        action();
    };
}
