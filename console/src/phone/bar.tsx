/** The calls that ring, and the call of this tab, on every page. */
import { useEffect } from "preact/hooks";
import { link, page } from "../route";
import { caller, current, respond, rings } from "./desk";

/** Two tones each two seconds, until the result is called. */
function sound(): () => void {
    const context = new AudioContext();
    const tone = () => {
        for (const [at, hertz] of [[0, 660], [0.25, 520]] as const) {
            const gain = new GainNode(context, { gain: 0.08 });
            const oscillator = new OscillatorNode(context, { frequency: hertz });
            oscillator.connect(gain).connect(context.destination);
            oscillator.start(context.currentTime + at);
            oscillator.stop(context.currentTime + at + 0.2);
        }
    };
    tone();
    const timer = setInterval(tone, 2000);
    return () => {
        clearInterval(timer);
        context.close().catch(() => undefined);
    };
}

function Ringing() {
    const ring = rings.value[0];
    useEffect(() => {
        if (!ring) return undefined;
        const title = document.title;
        document.title = `${caller(ring)} calls · Tandem`;
        const keys = (event: KeyboardEvent) => {
            const target = event.target as HTMLElement;
            if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog")) return;
            if (event.key !== "a" && event.key !== "d") return;
            event.preventDefault();
            respond(ring, event.key === "a");
        };
        document.addEventListener("keydown", keys);
        const silence = sound();
        return () => {
            silence();
            document.title = title;
            document.removeEventListener("keydown", keys);
        };
    }, [ring?.id]);
    if (!ring) return null;
    return (
        <section class="phone-bar ringing" role="alert" aria-label="Incoming call">
            <p>
                <strong>{caller(ring)}</strong> calls <span class="muted">{ring.to}</span>
            </p>
            <button type="button" class="primary" onClick={() => respond(ring, true)}>
                Answer <kbd>a</kbd>
            </button>
            <button type="button" class="danger" onClick={() => respond(ring, false)}>
                Decline <kbd>d</kbd>
            </button>
        </section>
    );
}

function Current() {
    const call = current.value;
    if (!call || call.isOver || page.value === "softphone") return null;
    return (
        <section class="phone-bar" aria-label="Your call">
            <p role="status">
                {call.state.value} <a href={link(["softphone"])}>{call.title}</a>
            </p>
            <button type="button" onClick={() => call.hangUp()}>
                {call.listens ? "Stop listening" : "Hang up"}
            </button>
        </section>
    );
}

/** The bar at the top of every page. */
export function PhoneBar() {
    return (
        <>
            <Ringing />
            <Current />
        </>
    );
}
