/** Phones: who is registered, from where, and who was refused. */
import { moment } from "../format";
import { useEntries } from "../edit/entries";
import type { Phone } from "../types";
import { FollowedPage } from "../ui/followed";
import { NONE, type Column } from "../ui/table";
import { Badge } from "../ui/state";

function Refusal({ of }: { of: NonNullable<Phone["last_refusal"]> }) {
    return (
        <>
            <Badge tone="warn">{of.reason}</Badge> {of.method} from {of.source}, {moment(of.at)}
            {of.count > 1 && `, ${of.count} times`}
        </>
    );
}

const columns: Column<Phone>[] = [
    { name: "User", cell: (row) => <strong>{row.username}</strong> },
    {
        name: "State",
        cell: (row) => <Badge tone={row.registered ? "good" : "idle"}>{row.registered ? "registered" : "not registered"}</Badge>,
    },
    {
        name: "Registered from",
        isLong: true,
        cell: (row) =>
            row.registered
                ? [
                      ...row.contacts.map((contact) => (
                          <div key={contact.contact}>
                              {contact.source} {contact.transport.toUpperCase()}, until {moment(contact.expires_at)}
                          </div>
                      )),
                      ...row.pages.map((sdk, at) => <div key={at}>a web page ({sdk})</div>),
                  ]
                : NONE,
    },
    {
        name: "User agent",
        isLong: true,
        cell: (row) =>
            row.contacts.length > 0 ? row.contacts.map((contact) => <div key={contact.contact}>{contact.user_agent ?? NONE}</div>) : NONE,
    },
    { name: "Last refusal", cell: (row) => (row.last_refusal ? <Refusal of={row.last_refusal} /> : NONE), isLong: true },
    { name: "SIP URI", cell: (row) => row.uri, isLong: true },
    { name: "Account", cell: (row) => row.account },
];

/** The page of phones. */
export function PhonesPage() {
    const { entries, controls, cell } = useEntries("endpoints");
    const source = (row: Phone) => {
        const isIt = (one: (typeof entries)[number]) => one.name === row.username && (one.account ?? row.account) === row.account;
        return cell(row.domain ? undefined : entries.find(isIt), row.domain ? "API" : "configuration file");
    };
    return (
        <FollowedPage<Phone>
            title="Phones"
            path="/console/phones"
            type="phone"
            columns={[...columns, { name: "Source", cell: source }]}
            controls={controls}
            id={(row) => `${row.account} ${row.uri} ${row.username}`}
            empty={
                <>
                    No phones. Make one here, or add an <code>[[endpoints]]</code> entry with user name and password to the
                    configuration file. Then register the phone.
                </>
            }
        />
    );
}
