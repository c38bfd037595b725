/** Numbers and their destinations. */
import { useEntries } from "../edit/entries";
import { link } from "../route";
import type { PhoneNumber } from "../types";
import { FollowedPage } from "../ui/followed";
import { NONE, type Column } from "../ui/table";
import { Badge } from "../ui/state";

const columns: Column<PhoneNumber>[] = [
    { name: "Number", cell: (row) => <a href={link(["calls"], { search: row.number.replace(/\*$/, "") })}>{row.number}</a> },
    { name: "Name", cell: (row) => row.friendly_name ?? NONE },
    {
        name: "Goes to",
        isLong: true,
        cell: (row) => (row.goes_to.kind === "nowhere" ? <Badge tone="bad">{row.goes_to.text}</Badge> : row.goes_to.text),
    },
    { name: "Status callback", cell: (row) => row.status_callback ?? NONE, isLong: true },
    { name: "Account", cell: (row) => row.account },
    { name: "Provider", cell: (row) => row.provider ?? NONE },
    { name: "Route", cell: (row) => <a href={link(["explain"], { to: row.number })}>Show route</a> },
];

/** The page of numbers. */
export function NumbersPage() {
    const { entries, controls, cell } = useEntries("numbers");
    const source = (row: PhoneNumber) =>
        cell(entries.find((one) => one.name === row.number), row.source === "file" ? "configuration file" : "API");
    return (
        <FollowedPage<PhoneNumber>
            title="Numbers"
            path="/console/numbers"
            type="number"
            columns={[...columns, { name: "Source", cell: source }]}
            controls={controls}
            id={(row) => `${row.account} ${row.number}`}
            empty={
                <>
                    No numbers yet. Make one here, add a <code>[[numbers]]</code> entry to the configuration file, or run{" "}
                    <code>tandem dev URL</code>.
                </>
            }
        />
    );
}
