/** Questions before an action, and short messages after it. */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ApiError } from "../api";

interface Question {
    title: string;
    text: string;
    action: string;
    isDangerous?: boolean;
    /** The label of the text that is asked for. Without a label, the question has only buttons. */
    field?: string;
    answer: (text: string | null) => void;
}

const question = signal<Question | null>(null);
const message = signal<{ text: string; isBad: boolean } | null>(null);
let hide = 0;

/** Asks for a confirmation, or for a text if there is a `field`. The answer is `null` after Cancel or Esc. */
export function ask(of: Omit<Question, "answer">): Promise<string | null> {
    question.value?.answer(null);
    return new Promise((answer) => {
        question.value = { ...of, answer };
    });
}

/** Shows a short message. */
export function say(text: string, isBad = false): void {
    clearTimeout(hide);
    message.value = { text, isBad };
    hide = setTimeout(() => {
        message.value = null;
    }, 8000);
}

/** Runs an action and shows its result. */
export async function attempt(done: string, action: () => Promise<unknown>): Promise<void> {
    try {
        await action();
        say(done);
    } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        say(error.advice ? `${error.message}. ${error.advice}` : error.message, true);
    }
}

function Asked({ of }: { of: Question }) {
    const dialog = useRef<HTMLDialogElement>(null);
    const field = useRef<HTMLInputElement>(null);
    useEffect(() => {
        const before = document.activeElement;
        dialog.current?.showModal();
        return () => {
            if (before instanceof HTMLElement) before.focus();
        };
    }, [of]);
    const close = (text: string | null) => {
        question.value = null;
        of.answer(text);
    };
    const submit = (event: Event) => {
        event.preventDefault();
        close(field.current?.value.trim() ?? "");
    };
    return (
        <dialog ref={dialog} aria-labelledby="question" onCancel={() => close(null)}>
            <form onSubmit={submit}>
                <h2 id="question">{of.title}</h2>
                <p>{of.text}</p>
                {of.field && (
                    <label class="field">
                        <span>{of.field}</span>
                        <input ref={field} required autocomplete="off" />
                    </label>
                )}
                <div class="buttons">
                    <button type="button" onClick={() => close(null)}>
                        Cancel
                    </button>
                    <button type="submit" class={of.isDangerous ? "danger" : "primary"}>
                        {of.action}
                    </button>
                </div>
            </form>
        </dialog>
    );
}

/** The place of questions and messages, once in the page. */
export function Dialogs() {
    const shown = message.value;
    return (
        <>
            {question.value && <Asked of={question.value} />}
            <div class="message" role="status" aria-live="polite">
                {shown && <p class={shown.isBad ? "bad" : "good"}>{shown.text}</p>}
            </div>
        </>
    );
}
