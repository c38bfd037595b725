/** The form of an entry. The server checks it while somebody types, and says what is wrong with which key. */
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, pathOf, send, type Fault } from "../api";
import { useLoad } from "../load";
import type { Account, Entry } from "../types";
import { attempt, say } from "../ui/dialog";
import { FORMS, read, shown, value, withValue, type Field, type ListName } from "./fields";

/** A new entry, or an entry of the list. */
export interface Edited {
    list: ListName;
    entry: Entry | null;
}

/** The pause after the last key until the server checks the form, in ms. */
const PAUSE = 350;

function Input({ field, text, set, accounts }: { field: Field; text: string; set: (text: string) => void; accounts: string[] }) {
    const choices = field.kind === "account" ? accounts : field.choices;
    const common = { name: field.key, required: field.isRequired ?? false, autocomplete: "off", placeholder: field.placeholder ?? "" };
    const input = (event: { currentTarget: { value: string } }) => set(event.currentTarget.value);
    if (choices) {
        return (
            <select {...common} value={text} onChange={input}>
                {["", ...choices].map((one) => (
                    <option key={one} value={one} selected={one === text}>
                        {one || (field.isRequired ? "choose" : "default")}
                    </option>
                ))}
            </select>
        );
    }
    if (field.kind === "long") return <textarea {...common} rows={5} value={text} onInput={input} />;
    if (field.kind === "secret") return <input {...common} type="password" value={text} onInput={input} />;
    return <input {...common} inputMode={field.kind === "number" ? "numeric" : "text"} value={text} onInput={input} />;
}

/** The dialog with the form of an entry. Entries of the configuration file are only shown. */
export function Editor({ of: { list, entry }, close }: { of: Edited; close: (isChanged: boolean) => void }) {
    const form = FORMS[list];
    const isFile = entry !== null && entry.id === null;
    const dialog = useRef<HTMLDialogElement>(null);
    const { data: known } = useLoad<{ accounts: Account[] }>(isFile ? null : "/console/accounts");
    const [fields, setFields] = useState<Entry["fields"]>(entry?.fields ?? {});
    const [faults, setFaults] = useState<Fault[]>([]);
    const [text, setText] = useState(entry?.text ?? "");
    const [touched, touch] = useState<Set<string>>(new Set());
    const alternatives = Object.keys(form.either?.keys ?? {});
    const [choice, choose] = useState(alternatives.find((key) => value(fields, key) !== undefined) ?? alternatives[0]);
    const path = entry?.id ? pathOf("entries", list, entry.id) : pathOf("entries", list);
    const submit = (isCheck: boolean) => send(entry ? "PUT" : "POST", isCheck ? `${path}?check=true` : path, fields);
    useEffect(() => dialog.current?.showModal(), []);
    useEffect(() => {
        if (isFile) return undefined;
        let isOld = false;
        const timer = setTimeout(async () => {
            try {
                const answer = (await (await submit(true)).json()) as { text: string };
                if (!isOld) (setFaults([]), setText(answer.text));
            } catch (error) {
                if (!isOld && error instanceof ApiError) setFaults(error.faults);
            }
        }, PAUSE);
        return () => {
            isOld = true;
            clearTimeout(timer);
        };
    }, [JSON.stringify(fields)]);
    const set = (field: Field, to: unknown) => {
        setFields((before) => withValue(before, field.key, to));
        touch((before) => new Set(before).add(field.key));
    };
    const save = async (event: Event) => {
        event.preventDefault();
        try {
            await submit(false);
            say(`Saved. The ${form.one} is in use.`);
            close(true);
        } catch (error) {
            if (!(error instanceof ApiError)) throw error;
            setFaults(error.faults);
            touch(new Set(form.fields.map((field) => field.key)));
            if (error.faults.length === 0) say(error.message, true);
        }
    };
    const visible = form.fields.filter((field) => {
        const needs = form.only?.[field.key] ?? (alternatives.includes(field.key) ? field.key : choice);
        return needs === choice;
    });
    const wrong = (key: string) => faults.find((fault) => fault.key === key || fault.key?.startsWith(`${key}[`));
    const others = faults.filter((fault) => !visible.some((field) => wrong(field.key) === fault));
    const accounts = known?.accounts.filter((one) => one.status === "active").map((one) => one.name) ?? [];
    return (
        <dialog ref={dialog} class="editor" aria-labelledby="editor" onCancel={() => close(false)}>
            <form onSubmit={save} noValidate>
                <h2 id="editor">{entry ? `The ${form.one} ${entry.name}` : `New ${form.one}`}</h2>
                {isFile ? (
                    <p class="notice warn">
                        This entry is in {entry.source === "file" ? `line ${entry.line ?? "?"} of the configuration file` : "the environment"}. Change it
                        there, and let the server read the file again.
                    </p>
                ) : (
                    visible.map((field) => (
                        <div key={field.key}>
                            {form.either && alternatives.includes(field.key) && (
                                <label class="field">
                                    <span>{form.either.label}</span>
                                    <select
                                        value={choice}
                                        onChange={(event) => {
                                            alternatives.forEach((key) => setFields((before) => withValue(before, key, undefined)));
                                            choose(event.currentTarget.value);
                                        }}
                                    >
                                        {Object.entries(form.either.keys).map(([key, name]) => (
                                            <option key={key} value={key} selected={key === choice}>{name}</option>
                                        ))}
                                    </select>
                                </label>
                            )}
                            {field.kind === "yes" ? (
                                <label class="field yes">
                                    <input
                                        type="checkbox"
                                        name={field.key}
                                        checked={value(fields, field.key) === true}
                                        onChange={(event) => set(field, event.currentTarget.checked || undefined)}
                                    />{" "}
                                    {field.label}
                                </label>
                            ) : (
                                <label class="field">
                                    <span>
                                        {field.label}
                                        {field.isRequired && <abbr title="required"> *</abbr>}
                                    </span>
                                    <Input
                                        field={field}
                                        accounts={accounts}
                                        text={shown(value(fields, field.key))}
                                        set={(typed) => set(field, field.kind === "list" && typed.endsWith(",") ? typed : read(field, typed))}
                                    />
                                    {field.help && <small class="muted">{field.help}</small>}
                                    {touched.has(field.key) && wrong(field.key) && <small class="wrong" role="alert">{wrong(field.key)?.message}</small>}
                                </label>
                            )}
                        </div>
                    ))
                )}
                {touched.size > 0 &&
                    others.map((fault) => (
                        <p key={fault.message} class="notice bad" role="alert">
                            {fault.key && `${fault.key}: `}
                            {fault.message}
                        </p>
                    ))}
                {entry?.faults.map((fault) => (
                    <p key={fault} class="notice bad">
                        Not in use: {fault}
                    </p>
                ))}
                {text && (
                    <details open={isFile}>
                        <summary>As in the configuration file</summary>
                        <pre class="json">{text}</pre>
                    </details>
                )}
                <div class="buttons">
                    <button type="button" onClick={() => close(false)}>{isFile ? "Close" : "Cancel"}</button>
                    {isFile ? (
                        <button
                            type="button"
                            onClick={() => {
                                void attempt("The server has read the file again.", () => send("POST", "/console/reload"));
                                close(true);
                            }}
                        >
                            Read the file again
                        </button>
                    ) : (
                        <button type="submit" class="primary">Save</button>
                    )}
                </div>
            </form>
        </dialog>
    );
}
