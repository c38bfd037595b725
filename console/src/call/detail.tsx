/** What a click on an event shows: a SIP message, a request with its answer, or lines of the timeline. */
import { mayChange, pathOf, send } from "../api";
import { figure, moment, offset, pretty, text } from "../format";
import type { Exchange, SipMessage, TimelineLine, Webhook } from "../types";
import { attempt } from "../ui/dialog";
import { Pairs } from "../ui/pairs";
import { Badge } from "../ui/state";
import type { Detail } from "./model";

function Sip({ of, leg }: { of: SipMessage; leg: string }) {
    return (
        <>
            <Pairs
                of={[
                    ["Leg", leg],
                    ["Direction", `${of.direction} ${of.transport}`],
                    ["Far end", of.peer],
                    ["Tandem", of.local],
                    ["At", `${moment(of.at)}, ${offset(of.seconds)} s`],
                    ["SDP", of.sdp],
                ]}
            />
            <pre tabIndex={0}>{of.message}</pre>
        </>
    );
}

/** A button that sends a callback again. */
export function Replay({ webhook }: { webhook: Webhook }) {
    if (!mayChange()) return null;
    const act = () => attempt("The webhook is sent again.", () => send("POST", pathOf("webhooks", webhook.id, "replay")));
    return (
        <button type="button" onClick={() => void act()}>
            Send again
        </button>
    );
}

/** The state of a callback. */
export function Delivery({ of }: { of: Webhook }) {
    const tone = { delivered: "good", failed: "bad", pending: "busy" } as const;
    return (
        <>
            <Badge tone={tone[of.state]}>{of.state}</Badge> {of.last_status} {of.last_error}
            {of.attempts > 1 && ` ${of.attempts} attempts`}
        </>
    );
}

function Parameters({ of }: { of: [string, string][] }) {
    const shown = of.filter(([, value]) => value !== "");
    if (shown.length === 0) return null;
    return (
        <details>
            <summary>Parameters ({shown.length})</summary>
            <Pairs of={shown} class="pairs code" />
        </details>
    );
}

function Web({ of, webhook }: { of: Exchange; webhook: Webhook | undefined }) {
    const { answer, signature } = of;
    return (
        <>
            <Pairs
                of={[
                    [of.direction === "sent" ? "Request" : "Request received", `${of.method} ${of.url}`],
                    ["Leg", of.call],
                    ["Sent at", moment(of.at)],
                    ["Time", figure(of.elapsed_ms, 0, "ms")],
                    ["Answer", answer ? `${answer.status} ${answer.content_type ?? ""}` : null],
                    ["Error", of.error],
                    ["Callback", webhook && <Delivery of={webhook} />],
                ]}
            />
            {webhook && <Replay webhook={webhook} />}
            <Parameters of={of.parameters} />
            {of.body && <pre tabIndex={0}>{pretty(of.body)}</pre>}
            {answer?.body && (
                <>
                    <h3>Answer</h3>
                    <pre tabIndex={0}>{pretty(answer.body)}</pre>
                </>
            )}
            {signature ? (
                <details>
                    <summary>Signature</summary>
                    <Pairs of={[["Signed URL", signature.url], ...signature.headers]} class="pairs code" />
                    <p class="muted">
                        If your application refuses the signature, <code>tandem signature last --checked URL</code> shows the
                        difference.
                    </p>
                </details>
            ) : (
                of.direction === "sent" && <p class="muted">The request was not signed.</p>
            )}
        </>
    );
}

function Lines({ of }: { of: TimelineLine[] }) {
    return (
        <ul class="lines">
            {of.map((line, index) => (
                <li key={index}>
                    <span class="figure">{offset(line.seconds)}</span> {line.text}
                    {line.data && <pre tabIndex={0}>{text(line.data)}</pre>}
                </li>
            ))}
        </ul>
    );
}

function heading(of: Detail): string {
    if (of.type === "sip") return of.message.summary;
    if (of.type === "web") return of.webhook ? `Webhook ${of.webhook.event}` : `Request for a document or an action`;
    if (of.type === "webhook") return `Webhook ${of.webhook.event}`;
    return of.lines[0]?.kind ?? "Event";
}

function Content({ of }: { of: Detail }) {
    if (of.type === "sip") return <Sip of={of.message} leg={of.leg} />;
    if (of.type === "web") return <Web of={of.exchange} webhook={of.webhook} />;
    if (of.type === "lines") return <Lines of={of.lines} />;
    const { body } = of.webhook;
    return (
        <>
            <Pairs
                of={[
                    ["Request", `${of.webhook.method} ${of.webhook.url}`],
                    ["State", <Delivery of={of.webhook} />],
                ]}
            />
            <Replay webhook={of.webhook} />
            {"Form" in body ? <Parameters of={body.Form} /> : <pre tabIndex={0}>{text(body.Json)}</pre>}
        </>
    );
}

/** The panel of the selected events. */
export function Details({ of, close }: { of: Detail[]; close: () => void }) {
    if (of.length === 0) return null;
    return (
        <section class="details" aria-label="Selected event" onKeyDown={(event) => event.key === "Escape" && close()}>
            <button type="button" class="close" onClick={close}>
                Close
            </button>
            {of.map((detail, index) => (
                <details key={`${index} ${heading(detail)}`} open={index === 0}>
                    <summary>
                        <h2>{heading(detail)}</h2>
                    </summary>
                    <Content of={detail} />
                </details>
            ))}
        </section>
    );
}
