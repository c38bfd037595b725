/** The trunk board: can each trunk take calls, and if not, why. */
import { useEntries } from "../edit/entries";
import type { Trunk } from "../types";
import { FollowedPage } from "../ui/followed";
import { NONE, type Column } from "../ui/table";
import { Badge, type Tone } from "../ui/state";

const HEALTH: Record<Trunk["health"], Tone> = { up: "good", doubtful: "warn", down: "bad", unknown: "idle" };
const REGISTRATION: Record<string, Tone> = { registered: "good", pending: "busy", refused: "bad", unanswered: "bad" };

function Registration({ of }: { of: Trunk }) {
    if (of.registration === "none") return <span>not needed</span>;
    return (
        <Badge tone={REGISTRATION[of.registration] ?? "idle"}>
            {of.registration} {of.registration_status ?? ""}
        </Badge>
    );
}

const columns: Column<Trunk>[] = [
    {
        name: "Trunk",
        cell: (row) => (
            <>
                <strong>{row.name}</strong> <span class="muted">{row.account ?? "all accounts"}</span>
            </>
        ),
    },
    { name: "Health", cell: (row) => <Badge tone={HEALTH[row.health]}>{row.health}</Badge> },
    {
        name: "Reason and advice",
        isLong: true,
        cell: (row) =>
            row.reason || row.advice ? (
                <>
                    <div>{row.reason}</div>
                    <div class="advice">{row.advice}</div>
                </>
            ) : row.health === "unknown" ? (
                "The trunk has not answered a call or OPTIONS yet."
            ) : (
                NONE
            ),
    },
    { name: "Registration", cell: (row) => <Registration of={row} /> },
    { name: "Live / max", cell: (row) => `${row.live_calls} / ${row.max_calls ?? "no limit"}`, isNumber: true },
    { name: "Limits", cell: (row) => `${row.max_cps ? `${row.max_cps} calls a second` : "no rate"}, ${row.limited} refused` },
    { name: "Target", cell: (row) => row.uri ?? "only inbound", isLong: true },
    { name: "Prefixes", cell: (row) => row.prefixes.join(", ") || NONE, isLong: true },
    { name: "Inbound from", cell: (row) => row.inbound_from.join(", ") || NONE, isLong: true },
];

/** The page of trunks. */
export function TrunksPage() {
    const { entries, controls, cell } = useEntries("trunks");
    const source = (row: Trunk) => cell(entries.find((one) => one.name === row.name), "configuration file");
    return (
        <FollowedPage<Trunk>
            title="Trunks"
            path="/console/trunks"
            type="trunk"
            columns={[...columns, { name: "Source", cell: source }]}
            controls={controls}
            id={(row) => row.name}
            empty={
                <>
                    No trunks. Make one here, or add a <code>[[trunks]]</code> entry with the address of your carrier or PBX to the
                    configuration file.
                </>
            }
        />
    );
}
