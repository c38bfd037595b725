/** What would happen to a call, without calling. */
import { withQuery } from "../api";
import { useLoad } from "../load";
import { go, route } from "../route";
import type { Outcome, Phone, Trunk } from "../types";
import { Badge, Empty, Failed, Loading } from "../ui/state";

function Answer({ of }: { of: Outcome }) {
    return (
        <section aria-label={`The route from ${of.callers.join("; ")}`}>
            <h2>From {of.callers.join("; ")}</h2>
            <ol class="steps">
                {of.steps.map((step, at) => (
                    <li key={at}>
                        {step.text} <p class="muted">because {step.because}</p>
                    </li>
                ))}
            </ol>
            <p class={`notice ${of.ok ? "good" : "bad"}`} role="status">
                <Badge tone={of.ok ? "good" : "bad"}>{of.ok ? "the call reaches its destination" : "the call reaches nothing"}</Badge>{" "}
                {of.ok ? of.goes_to?.text : of.advice}
            </p>
        </section>
    );
}

/** The page with the form and the route. */
export function ExplainPage() {
    const { query } = route.value;
    const [from, to, trunk] = ["from", "to", "trunk"].map((name) => query.get(name) ?? "");
    const { data: known } = useLoad<{ trunks: Trunk[] }>("/console/trunks");
    const { data: users } = useLoad<{ phones: Phone[] }>("/console/phones");
    const { data, error } = useLoad<{ outcomes: Outcome[] }>(to ? withQuery("/console/explain", { from, to, trunk }) : null);
    const submit = (event: SubmitEvent) => {
        event.preventDefault();
        const form = new FormData(event.currentTarget as HTMLFormElement);
        const value = (name: string) => String(form.get(name) ?? "").trim();
        go(["explain"], { from: value("from"), to: value("to"), trunk: value("trunk") });
    };
    return (
        <>
            <h1>What would happen</h1>
            <p class="muted">The route of a call and the reason for each step, for each kind of caller. No call is made.</p>
            <form class="filters" onSubmit={submit} key={query.toString()}>
                <label>
                    <span>From</span>
                    <input name="from" list="callers" defaultValue={from} placeholder="a phone, or +15550109999" autocomplete="off" />
                    <datalist id="callers">{users?.phones.map((one) => <option key={one.uri} value={one.username} />)}</datalist>
                </label>
                <label>
                    <span>To</span>
                    <input name="to" defaultValue={to} placeholder="a number or a phone" required autocomplete="off" />
                </label>
                <label>
                    <span>Comes in over</span>
                    <select name="trunk" defaultValue={trunk}>
                        <option value="">the phone in From, or any caller</option>
                        {known?.trunks.map((one) => (
                            <option key={one.name} value={one.name} selected={one.name === trunk}>{one.name}</option>
                        ))}
                    </select>
                </label>
                <button type="submit" class="primary">Show the route</button>
            </form>
            {error && <Failed error={error} />}
            {to && !data && !error && <Loading />}
            {!to && <Empty>Enter the called number or phone, and the calling phone or the trunk if you know the caller.</Empty>}
            {data?.outcomes.map((one) => <Answer of={one} key={one.callers.join()} />)}
        </>
    );
}
