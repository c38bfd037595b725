/** Numbers and their destinations. */
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
    { name: "Source", cell: (row) => <Badge tone="idle">{row.source === "file" ? "configuration file" : "API"}</Badge> },
    { name: "Route", cell: (row) => <a href={link(["explain"], { to: row.number })}>Show route</a> },
];

/** The page of numbers. */
export function NumbersPage() {
    return (
        <FollowedPage<PhoneNumber>
            title="Numbers"
            path="/console/numbers"
            type="number"
            columns={columns}
            id={(row) => `${row.account} ${row.number}`}
            empty={
                <>
                    No numbers yet. Add a <code>[[numbers]]</code> entry to the configuration file, or run{" "}
                    <code>tandem dev URL</code>.
                </>
            }
        />
    );
}
