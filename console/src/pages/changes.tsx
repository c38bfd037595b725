/** Who changed what. */
import { moment, text } from "../format";
import { usePages } from "../load";
import type { Change } from "../types";
import { NONE, Table, type Column } from "../ui/table";
import { Empty, Failed, Loading } from "../ui/state";

interface Page {
    changes: Change[];
    next: string | null;
}

const value = (of: unknown) => (text(of) ? <code class="json">{text(of)}</code> : NONE);

const columns: Column<Change>[] = [
    { name: "Time", cell: (row) => moment(row.at) },
    { name: "Who", cell: (row) => row.who },
    { name: "Role", cell: (row) => row.role },
    { name: "Action", cell: (row) => row.action },
    { name: "Object", cell: (row) => row.object, isLong: true },
    { name: "Parameters", cell: (row) => value(row.parameters), isLong: true },
];

/** The page of changes. */
export function ChangesPage() {
    const { data, error, pages, more } = usePages<Page>("/console/changes", 10_000);
    const id = (row: Change) => row.id;
    const rows = [...new Map(pages.flatMap((page) => page.changes).map((row) => [id(row), row])).values()];
    return (
        <>
            <h1>Changes</h1>
            {error && <Failed error={error} />}
            {!data && !error && <Loading />}
            {data && rows.length === 0 && (
                <Empty>Nobody has changed anything yet. Each action in this console and each
                    change by an application is listed here.</Empty>
            )}
            {rows.length > 0 && <Table label="Changes" columns={columns} rows={rows} id={id} />}
            {more && (
                <button type="button" onClick={more}>
                    Older changes
                </button>
            )}
        </>
    );
}
