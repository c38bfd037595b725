/** The entries of a list of the configuration: their buttons, and pages that show nothing else. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { mayChange, pathOf, send, session } from "../api";
import { useLoad } from "../load";
import type { Entry } from "../types";
import { ask, attempt } from "../ui/dialog";
import { Badge, Empty, Failed, Loading } from "../ui/state";
import { NONE, Table, type Column } from "../ui/table";
import { Editor, type Edited } from "./editor";
import { FORMS, value, type ListName } from "./fields";

/** What a page needs to show and change the entries of a list. */
export interface Entries {
    entries: Entry[];
    /** The button for a new entry, and the open form. */
    controls: ComponentChildren;
    /** The source and the buttons of an entry. */
    cell: (entry: Entry | undefined, otherwise: string) => ComponentChildren;
    state: ReturnType<typeof useLoad<{ entries: Entry[] }>>;
}

const mayEdit = (list: ListName) => {
    const isOwn = list === "applications" || list === "endpoints";
    return mayChange() && (session.value?.role === "operator" || isOwn);
};

/** Reads the entries of a list, if the user may change them. */
export function useEntries(list: ListName): Entries {
    const state = useLoad<{ entries: Entry[] }>(mayEdit(list) ? pathOf("entries", list) : null);
    const [edited, edit] = useState<Edited | null>(null);
    const { one } = FORMS[list];
    const close = (isChanged: boolean) => {
        edit(null);
        if (isChanged) state.reload();
    };
    const remove = async ({ id, name }: Entry) => {
        if (!id || (await ask({ title: `Remove the ${one} ${name}?`, text: "It ends at once. Live calls go on.", action: "Remove", isDangerous: true })) === null) return;
        await attempt(`Removed the ${one} ${name}.`, () => send("DELETE", pathOf("entries", list, id)));
        state.reload();
    };
    const controls = mayEdit(list) && (
        <>
            <button type="button" class="primary" onClick={() => edit({ list, entry: null })}>
                New {one}
            </button>
            {edited && <Editor key={edited.entry?.id ?? ""} of={edited} close={close} />}
        </>
    );
    const cell = (entry: Entry | undefined, otherwise: string) =>
        entry ? (
            <span class="buttons">
                {entry.faults.length > 0 && <Badge tone="bad">not in use</Badge>}
                {entry.id && <Badge tone="idle">console</Badge>}
                <button type="button" aria-label={entry.id ? `Edit ${entry.name}` : `In the ${entry.source}: ${entry.name}`} onClick={() => edit({ list, entry })}>
                    {entry.id ? "Edit" : `In the ${entry.source}`}
                </button>
                {entry.id && (
                    <button type="button" aria-label={`Remove ${entry.name}`} onClick={() => void remove(entry)}>
                        Remove
                    </button>
                )}
            </span>
        ) : (
            <Badge tone="idle">{otherwise}</Badge>
        );
    return { entries: state.data?.entries ?? [], controls, cell, state };
}

function EntriesPage({ list, title, columns, empty }: { list: ListName; title: string; columns: Column<Entry>[]; empty: ComponentChildren }) {
    const { entries, controls, cell, state } = useEntries(list);
    const all = [...columns, { name: "Source", cell: (row: Entry) => cell(row, "") }];
    return (
        <>
            <div class="head">
                <h1>{title}</h1>
                {controls}
            </div>
            {!mayEdit(list) && <Empty>Only an operator sees and changes these entries.</Empty>}
            {state.error && <Failed error={state.error} />}
            {mayEdit(list) && !state.data && !state.error && <Loading />}
            {state.data && entries.length === 0 && <Empty>{empty}</Empty>}
            {entries.length > 0 && <Table label={title} columns={all} rows={entries} id={(row) => row.id ?? row.name} />}
        </>
    );
}

const column = (name: string, key: string, isLong = false): Column<Entry> => {
    return { name, isLong, cell: (row) => (value(row.fields, key) === undefined ? NONE : String(value(row.fields, key))) };
};

/** The page of applications. */
export function ApplicationsPage() {
    const columns = [column("Id", "id"), column("URL", "webhook_url", true), column("Provider", "provider"), column("Account", "account")];
    const empty = "No applications. A number with a URL of its own needs none.";
    return <EntriesPage list="applications" title="Applications" columns={columns} empty={empty} />;
}

/** The page of agents. */
export function AgentsPage() {
    const columns = [column("Name", "name"), column("Prompt", "prompt", true), column("Model", "model.url", true), column("Language", "language")];
    const empty = "No agents. An agent answers calls with a language model: give it a prompt and the URL of the model.";
    return <EntriesPage list="agents" title="Agents" columns={columns} empty={empty} />;
}
