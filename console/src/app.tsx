/** The frame of all pages: navigation, search, connection bar. */
import { effect } from "@preact/signals";
import type { FunctionComponent } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { lost, session, signOut } from "./api";
import { kept } from "./kept";
import { AgentsPage, ApplicationsPage } from "./edit/entries";
import { AccountsPage } from "./pages/accounts";
import { CallPage } from "./pages/call";
import { CallsPage } from "./pages/calls";
import { ChangesPage } from "./pages/changes";
import { ExplainPage } from "./pages/explain";
import { FiguresPage } from "./pages/figures";
import { LivePage } from "./pages/live";
import { NumbersPage } from "./pages/numbers";
import { PhonesPage } from "./pages/phones";
import { ProblemsPage } from "./pages/problems";
import { SignInPage } from "./pages/signin";
import { SoftphonePage } from "./pages/softphone";
import { TrunksPage } from "./pages/trunks";
import { PhoneBar } from "./phone/bar";
import { go, link, page, route } from "./route";
import { attempt, Dialogs } from "./ui/dialog";
import { Loading } from "./ui/state";

const PAGES: [name: string, title: string, page: FunctionComponent][] = [
    ["live", "Live", LivePage],
    ["calls", "Calls", CallsPage],
    ["problems", "Problems", ProblemsPage],
    ["numbers", "Numbers", NumbersPage],
    ["applications", "Applications", ApplicationsPage],
    ["agents", "Agents", AgentsPage],
    ["trunks", "Trunks", TrunksPage],
    ["phones", "Phones", PhonesPage],
    ["accounts", "Accounts", AccountsPage],
    ["softphone", "Softphone", SoftphonePage],
    ["explain", "What would happen", ExplainPage],
    ["figures", "Figures", FiguresPage],
    ["changes", "Changes", ChangesPage],
];

const THEMES = ["auto", "light", "dark"];
const theme = kept("theme", "auto", (value) => THEMES.includes(value as string));
effect(() => {
    document.documentElement.dataset.theme = theme.value;
});

/** `/` moves the focus to the search box. */
function useSearchKey(): void {
    useEffect(() => {
        const key = (event: KeyboardEvent) => {
            const target = event.target as HTMLElement;
            if (event.key !== "/" || target.closest("input, textarea, select, dialog")) return;
            event.preventDefault();
            document.querySelector<HTMLInputElement>("#search")?.focus();
        };
        document.addEventListener("keydown", key);
        return () => document.removeEventListener("keydown", key);
    }, []);
}

function Search() {
    const field = useRef<HTMLInputElement>(null);
    const current = page.value === "calls" ? (route.value.query.get("search") ?? "") : "";
    // Before the page is drawn, so that it does not replace what the user types.
    useLayoutEffect(() => {
        if (field.current) field.current.value = current;
    }, [current]);
    const submit = (event: Event) => {
        event.preventDefault();
        go(["calls"], { search: field.current?.value.trim() });
        field.current?.blur();
    };
    return (
        <form class="search" role="search" onSubmit={submit}>
            <input
                id="search"
                ref={field}
                type="search"
                aria-label="Search calls"
                placeholder="Number, id, Call-ID or error ( / )"
                autocomplete="off"
                spellcheck={false}
                onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()}
            />
        </form>
    );
}

function Navigation({ isOpen, close }: { isOpen: boolean; close: () => void }) {
    const user = session.value;
    return (
        <nav class={isOpen ? "open" : ""} aria-label="Pages" onKeyDown={(event) => event.key === "Escape" && close()}>
            <ul>
                {PAGES.map(([name, title]) => (
                    <li key={name}>
                        <a href={link([name])} aria-current={page.value === name ? "page" : undefined} onClick={close}>
                            {title}
                        </a>
                    </li>
                ))}
            </ul>
            <div class="account">
                {user?.name && (
                    <p>
                        <strong>{user.name}</strong> <span class="muted">{user.role}</span>
                        {user.version && <span class="muted"> · {user.version}</span>}
                    </p>
                )}
                <label>
                    <span class="muted">Colours</span>
                    <select value={theme.value} onChange={(event) => (theme.value = event.currentTarget.value)}>
                        {THEMES.map((one) => (
                            <option key={one}>{one}</option>
                        ))}
                    </select>
                </label>
                {user?.name && (
                    <button type="button" onClick={() => void attempt("Signed out.", signOut)}>
                        Sign out
                    </button>
                )}
            </div>
        </nav>
    );
}

function Lost() {
    if (!lost.value) return null;
    return (
        <div class="lost" role="alert">
            Connection lost ({lost.value}), trying again…
        </div>
    );
}

function Content() {
    const name = page.value;
    const Page = PAGES.find(([one]) => one === name)?.[2];
    if (name === "calls" && route.value.path[1]) return <CallPage key={route.value.path[1]} id={route.value.path[1]} />;
    return Page ? <Page /> : <h1>There is no page of this name</h1>;
}

/** The whole console. */
export function App() {
    const [isOpen, open] = useState(false);
    const main = useRef<HTMLElement>(null);
    useSearchKey();
    const title = PAGES.find(([name]) => name === page.value)?.[1] ?? "Tandem";
    useEffect(() => {
        document.title = `${title} · Tandem`;
    }, [title]);
    if (session.value === undefined) {
        return (
            <>
                <Lost />
                <Loading />
            </>
        );
    }
    if (session.value === null) {
        return (
            <>
                <Lost />
                <SignInPage />
            </>
        );
    }
    return (
        <div class="frame">
            <header class="top">
                <button type="button" class="skip" onClick={() => main.current?.focus()}>
                    Skip to the content
                </button>
                <button type="button" class="burger" aria-expanded={isOpen} onClick={() => open(!isOpen)}>
                    Menu
                </button>
                <a class="brand" href={link(["live"])}>
                    <img src="icon.svg" alt="" width="22" height="22" /> Tandem
                </a>
                <Search />
            </header>
            <Navigation isOpen={isOpen} close={() => open(false)} />
            <main ref={main} tabIndex={-1}>
                <Lost />
                <PhoneBar />
                <Content />
            </main>
            <Dialogs />
        </div>
    );
}
