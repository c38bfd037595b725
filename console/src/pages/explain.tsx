/** What would happen to a call, without calling. */
import { withQuery } from "../api";
import { useLoad } from "../load";
import { go, route } from "../route";
import type { Explanation, Trunk } from "../types";
import { Badge, Empty, Failed, Loading } from "../ui/state";

function Answer({ of }: { of: Explanation }) {
    return (
        <section aria-label="The route">
            <ol class="steps">
                {of.steps.map((step, at) => (
                    <li key={at}>
                        <p>{step.text}</p>
                        <p class="muted">{step.because}</p>
                    </li>
                ))}
            </ol>
            <p class={`notice ${of.ok ? "good" : "bad"}`} role="status">
                <Badge tone={of.ok ? "good" : "bad"}>{of.ok ? "the call is taken" : "the call is refused"}</Badge>{" "}
                {of.goes_to?.text}
            </p>
        </section>
    );
}

/** The page with the form and the route. */
export function ExplainPage() {
    const { query } = route.value;
    const [from, to, trunk] = ["from", "to", "trunk"].map((name) => query.get(name) ?? "");
    const { data: known } = useLoad<{ trunks: Trunk[] }>("/console/trunks");
    const { data, error } = useLoad<Explanation>(to ? withQuery("/console/explain", { from, to, trunk }) : null);
    const submit = (event: SubmitEvent) => {
        event.preventDefault();
        const form = new FormData(event.currentTarget as HTMLFormElement);
        const value = (name: string) => String(form.get(name) ?? "").trim();
        go(["explain"], { from: value("from"), to: value("to"), trunk: value("trunk") });
    };
    return (
        <>
            <h1>What would happen</h1>
            <p class="muted">The route of a call and the reason for each step. No call is made.</p>
            <form class="filters" onSubmit={submit} key={query.toString()}>
                <label>
                    <span>From</span>
                    <input name="from" defaultValue={from} placeholder="+15550109999" autocomplete="off" />
                </label>
                <label>
                    <span>To</span>
                    <input name="to" defaultValue={to} placeholder="+15551230001" required autocomplete="off" />
                </label>
                <label>
                    <span>Comes in over</span>
                    <select name="trunk" defaultValue={trunk}>
                        <option value="">no trunk (a phone or the API)</option>
                        {known?.trunks.map((one) => (
                            <option key={one.name} value={one.name} selected={one.name === trunk}>
                                {one.name}
                            </option>
                        ))}
                    </select>
                </label>
                <button type="submit" class="primary">
                    Show the route
                </button>
            </form>
            {error && <Failed error={error} />}
            {to && !data && !error && <Loading />}
            {!to && <Empty>Enter the called number, and the calling number if the route depends on it.</Empty>}
            {data && <Answer of={data} />}
        </>
    );
}
