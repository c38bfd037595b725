/** Numbers and their destinations. */
import { mayChange, pathOf, send } from "../api";
import { useEntries } from "../edit/entries";
import { link } from "../route";
import type { PhoneNumber } from "../types";
import { ask, attempt } from "../ui/dialog";
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
    const act = async (row: PhoneNumber, isRelease: boolean) => {
        const text = isRelease ? "Callers get 404 at once." : "The document of each new call to the number comes from this URL.";
        const title = `${isRelease ? "Release" : "Another URL for"} ${row.number}?`;
        const question = isRelease ? { action: "Release", isDangerous: true } : { action: "Save", field: "URL" };
        const url = await ask({ title, text, ...question });
        if (url === null) return;
        const path = pathOf("numbers", row.account, row.number);
        await attempt("Saved.", () => (isRelease ? send("DELETE", path) : send("PUT", path, { url })));
    };
    const source = (row: PhoneNumber) =>
        row.source === "file" ? (
            cell(entries.find((one) => one.name === row.number), "configuration file")
        ) : (
            <span class="buttons">
                <Badge tone="idle">API</Badge>
                {mayChange() && (
                    <>
                        <button type="button" aria-label={`Edit ${row.number}`} onClick={() => void act(row, false)}>
                            Edit
                        </button>
                        <button type="button" aria-label={`Release ${row.number}`} onClick={() => void act(row, true)}>
                            Release
                        </button>
                    </>
                )}
            </span>
        );
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
