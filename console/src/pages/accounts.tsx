/** Accounts, their subaccounts and their API keys. */
import { useEffect, useRef, useState } from "preact/hooks";
import { mayChange, pathOf, send } from "../api";
import { moment } from "../format";
import { useLoad } from "../load";
import type { Account } from "../types";
import { ask, attempt } from "../ui/dialog";
import { Badge, Empty, Failed, Loading } from "../ui/state";
import { NONE, Table, type Column } from "../ui/table";

interface Made {
    id: string;
    secret: string;
}

interface Key {
    id: string;
    friendly_name: string;
    created_at: string;
}

/** Makes something with a secret. The server shows the secret only in this answer. */
async function make(path: string, body: unknown): Promise<Made | null> {
    let made: Made | null = null;
    await attempt("Made.", async () => {
        made = (await (await send("POST", path, body)).json()) as Made;
    });
    return made;
}

/** A dialog that a page opens and closes. */
function Window({ title, close, children }: { title: string; close: () => void; children: preact.ComponentChildren }) {
    const dialog = useRef<HTMLDialogElement>(null);
    useEffect(() => dialog.current?.showModal(), []);
    return (
        <dialog ref={dialog} class="editor" aria-labelledby="window" onCancel={close}>
            <h2 id="window">{title}</h2>
            {children}
            <div class="buttons">
                <button type="button" onClick={close}>
                    Close
                </button>
            </div>
        </dialog>
    );
}

function Secret({ of }: { of: Made }) {
    return (
        <div class="notice good" role="status">
            <p>The server shows the secret only now. Keep it.</p>
            <pre class="json">{`${of.id}\n${of.secret}`}</pre>
        </div>
    );
}

function Keys({ account, close }: { account: Account; close: () => void }) {
    const path = pathOf("accounts", account.name, "keys");
    const { data, error, reload } = useLoad<{ keys: Key[] }>(path);
    const [made, setMade] = useState<Made | null>(null);
    const name = useRef<HTMLInputElement>(null);
    const create = async (event: Event) => {
        event.preventDefault();
        setMade(await make(path, { friendly_name: name.current?.value ?? "" }));
        reload();
    };
    const remove = async (key: Key) => {
        await attempt(`Deleted the key ${key.friendly_name}.`, () => send("DELETE", pathOf("accounts", account.name, "keys", key.id)));
        reload();
    };
    return (
        <Window title={`API keys of ${account.friendly_name ?? account.name}`} close={close}>
            {error && <Failed error={error} />}
            {!data && !error && <Loading />}
            {data?.keys.length === 0 && <p class="muted">No keys. A key is for a program that must not know the account's own secret.</p>}
            <ul class="plain">
                {data?.keys.map((key) => (
                    <li key={key.id}>
                        <strong>{key.friendly_name || "no name"}</strong> <span class="muted">{moment(key.created_at)}</span>
                        <code>{key.id}</code>
                        {mayChange() && (
                            <button type="button" aria-label={`Delete the key ${key.friendly_name}`} onClick={() => void remove(key)}>
                                Delete
                            </button>
                        )}
                    </li>
                ))}
            </ul>
            {made && <Secret of={made} />}
            {mayChange() && (
                <form class="filters" onSubmit={create}>
                    <label>
                        <span>Name of the new key</span>
                        <input ref={name} required maxLength={64} autocomplete="off" />
                    </label>
                    <button type="submit" class="primary">
                        Make a key
                    </button>
                </form>
            )}
        </Window>
    );
}

/** The page of accounts. */
export function AccountsPage() {
    const { data, error, reload } = useLoad<{ accounts: Account[] }>("/console/accounts", 10_000);
    const [opened, open] = useState<Account | null>(null);
    const [made, setMade] = useState<Made | null>(null);
    const below = async (parent: Account) => {
        const text = "A subaccount has its own credentials, numbers and calls.";
        const friendly_name = await ask({ title: `New subaccount of ${parent.name}`, text, action: "Make", field: "Name" });
        if (friendly_name === null) return;
        setMade(await make("/console/accounts", { parent: parent.name, friendly_name }));
        reload();
    };
    const become = async (account: Account, status: string) => {
        const title = `Make ${account.friendly_name ?? account.name} ${status}?`;
        const text = status === "active" ? "It may make calls and requests again." : "It may not make calls and requests any more.";
        if ((await ask({ title, text, action: `Make it ${status}`, isDangerous: status !== "active" })) === null) return;
        await attempt(`The account is ${status}.`, () => send("PUT", pathOf("accounts", account.name), { status }));
        reload();
    };
    const buttons = (row: Account) => (
        <span class="buttons">
            <button type="button" aria-label={`Keys (${row.keys}) of ${row.name}`} onClick={() => open(row)}>
                Keys ({row.keys})
            </button>
            {mayChange() && row.has_subaccounts && (
                <button type="button" aria-label={`New subaccount of ${row.name}`} onClick={() => void below(row)}>
                    New subaccount
                </button>
            )}
            {mayChange() && row.parent && row.status !== "closed" && (
                <button type="button" onClick={() => void become(row, row.status === "active" ? "suspended" : "active")}>
                    {row.status === "active" ? "Suspend" : "Activate"}
                </button>
            )}
        </span>
    );
    const columns: Column<Account>[] = [
        {
            name: "Account",
            cell: (row) => (
                <>
                    <strong>{row.friendly_name ?? row.name}</strong> {row.friendly_name && <span class="muted">{row.name}</span>}
                </>
            ),
        },
        { name: "Status", cell: (row) => <Badge tone={row.status === "active" ? "good" : "bad"}>{row.status}</Badge> },
        { name: "Operator", cell: (row) => (row.is_operator ? "yes" : NONE) },
        { name: "Parent", cell: (row) => row.parent ?? NONE },
        { name: "APIs", cell: (row) => row.apis.map((api) => (api.id ? `${api.provider} ${api.id}` : api.provider)).join(", ") || NONE, isLong: true },
        { name: "Source", cell: (row) => <Badge tone="idle">{row.source === "file" ? "configuration file" : "API"}</Badge> },
        { name: "Actions", cell: buttons },
    ];
    return (
        <>
            <h1>Accounts</h1>
            {error && <Failed error={error} />}
            {!data && !error && <Loading />}
            {made && <Secret of={made} />}
            {data?.accounts.length === 0 && <Empty>No accounts.</Empty>}
            {data && <Table label="Accounts" columns={columns} rows={data.accounts} id={(row) => row.name} />}
            {opened && <Keys account={opened} close={() => (open(null), reload())} />}
        </>
    );
}
