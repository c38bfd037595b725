#!/usr/bin/env python3
"""Writes docs/reference/ from what the program itself says. scripts/docs.sh runs this script.

    scripts/reference.py [--tandem PROGRAM] [--check]

| page | source |
|---|---|
| configuration.md | tandem.example.toml for defaults and meanings; the faults that `tandem check` reports for wrong values, for types and ranges |
| commands.md | the manual pages of `tandem man` |
| environment.md | tandem.example.toml, and the variables that the code reads |
| metrics.md | control/metrics/families.rs |
| http.md | the routes in the code, with the doc comments and the arguments of their handlers |

docs/troubleshooting.md, the page of the causes of failure, is written by a test of the crate `tandem-causes`.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "tandem.example.toml"
PAGES = ROOT / "docs" / "reference"
HEAD = "# {title}\n\n{about}\n\nThis page is generated from {source}; do not edit: `scripts/docs.sh write`.\n"


def cell(text):
    """A text as one cell of a table."""
    return text.replace("|", "\\|").replace("<", "\\<").replace("\n", " ").strip()


def ended(text):
    return text if text.endswith((".", ":", ")", "?")) else f"{text}."


def sentence(text):
    """A text of the example file as a cell: with an upper-case letter at its begin, and with links to the pages that it names."""
    text = re.sub(r"docs/([\w-]+\.md)", r"[\1](../\1)", cell(text))
    return text if re.match(r"ms\b", text) else text[:1].upper() + text[1:]


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


# --- The configuration ---

SETTING = re.compile(r"(#?)(\w+) = (.*)")
SECTION = re.compile(r"(#?)(\[\[?[\w.]+\]\]?)(?:\s+# (.*))?")


def value_and_comment(text):
    """Splits `value  # comment` at the first # that is not inside the value."""
    for place in [len(text), *(found.start() for found in re.finditer("#", text))][::-1]:
        try:
            tomllib.loads(f"x = {text[:place]}")
        except tomllib.TOMLDecodeError:
            continue
        return text[:place].strip(), text[place:].lstrip("# ").strip()
    raise SystemExit(f"{EXAMPLE.name}: no value in {text!r}")


def example():
    """The sections of the example file: {"[sip]": (what the comments above say, [(key, is default, value, meaning)])}. Tables of one
    name that follow each other are one section."""
    sections, section, comments = {"": ("", [])}, "", []
    for line in EXAMPLE.read_text().splitlines()[8:]:
        if found := SECTION.fullmatch(line):
            section = found[2]
            about = " ".join([*comments, *([found[3]] if found[3] else [])])
            sections[section] = (" ".join(filter(None, (sections.get(section, ("", []))[0], about))), sections.get(section, ("", []))[1])
            comments = []
        elif found := SETTING.fullmatch(line):
            value, meaning = value_and_comment(found[3])
            rows = sections[section][1]
            if found[2] not in [row[0] for row in rows]:
                rows.append((found[2], not found[1], value, " ".join([*comments, meaning]).strip()))
            comments = []
        elif line.startswith("# "):
            comments.append(line[2:])
        elif not line:
            comments = []
    return sections


def check(tandem, text):
    """What `tandem check` says about a file: [(path without indexes, message)]."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "x.toml").write_text(text)
        run = subprocess.run([tandem, "check", "--config", "x.toml"], cwd=directory, capture_output=True, text=True, timeout=60)
    found = re.findall(r"^x\.toml:\d+: ([\w.\[\]]+): (.*)$", run.stdout + run.stderr, re.MULTILINE)
    return [(re.sub(r"\[\d+\]", "", path), message) for path, message in found]


def faults(tandem, value):
    """What `tandem check` says if every key of the example has this value."""
    lines = []
    for line in EXAMPLE.read_text().splitlines():
        setting, section = SETTING.fullmatch(line), SECTION.fullmatch(line)
        lines.append(f"{setting[2]} = {value}" if setting else section[2] if section else "")
    return dict(check(tandem, "\n".join(lines)))


def number_range(messages):
    """The range that the faults of a number name."""
    low = high = None
    for message in messages:
        if found := re.search(r"(?:outside|is not) (-?\d+) to (-?\d+)", message):
            low, high = int(found[1]), int(found[2])
            return f"{low} to {high}" + (", or 0" if "(0 " in message else "")
        if found := re.search(r"at least (\d+)", message):
            low = int(found[1])
        elif message.startswith("0 is no "):
            low = 1
        elif found := re.search(r"(?:exceeds|maximum is) (\d+)", message):
            high = int(found[1])
        elif found := re.search(r"number from (\d+) to (\d+)", message):
            low, high = low or int(found[1]), high if high is not None else int(found[2])
    if high in (None, 4294967295):
        return f"{low} or more" if low else ""
    return f"{low or 0} to {high}"


def kind(messages, value):
    """The type of a key and its range, in words."""
    first = messages[0]
    if found := re.search(r'is not one of (".*")', first):
        return ", ".join(f"`{word}`" for word in found[1].split(", "))
    if "whole number" in first or "f64" in first:
        text = "whole number" if "whole" in first else "number"
        span = number_range(messages[1:] if "whole" in first else messages)
        return f"{text}, {span}" if span else text
    for words, name in [
        ("true or false", "`true` or `false`"), ("path string", "path"), ("socket address", "`ADDRESS:PORT`"),
        ("expected an address in quotes, or a list", "address, or a list"), ("expected an address, or a list", "address, or a list"),
        ("a SIP URI in quotes, or a list", "SIP URI, or a list"), ("neither a string nor a list", "text, or a list"),
        ("list in [ ]", "list"),
    ]:
        if words in first:
            return name
    if isinstance(value, dict):
        return "table"
    if "text in quotes" in first or "or a list of a program" in first:
        more = ", or a list of a program and its arguments" if "a program" in first else ""
        for message in messages[1:]:
            if found := re.search(r'is not one of (".*")', message):
                return "text: " + ", ".join(f"`{word}`" for word in found[1].split(", ")) + more
            if found := re.search(r'is (?:not|neither) (".*"(?: nor ".*")?)$', message):
                return "text: " + " or ".join(f"`{word}`" for word in found[1].split(" nor "))
        return "text"
    raise SystemExit(f"scripts/reference.py: `tandem check` says nothing about the type: {messages}")


def known_keys(tandem, section):
    """The keys that the program accepts in a section."""
    messages = (message for _, message in check(tandem, f"{section}\nzzzzzzzzzz = 1\n"))
    return {key for message in messages for key in message.removeprefix("unknown key; this table has ").split(", ") if "this table has" in message}


def variable(section, key):
    name = section.strip("[]").replace(".", "__") + ("__0" if section.startswith("[[") else "")
    return "TANDEM_" + (f"{name}__{key}" if name else key).upper()


def configuration(tandem):
    said = [faults(tandem, value) for value in ("{ zz = 1 }", '"zz"', "0", "4294967295", "65535", "255")]
    sections = example()
    page = HEAD.format(
        title="Configuration",
        about="Every key of `tandem.toml`. The file [tandem.example.toml](../../tandem.example.toml) has the same keys with the same defaults.\n"
        "`tandem check` reports every mistake in a file, with its line. [environment.md](environment.md) says how to set a key by an\n"
        "environment variable. \"such as\" marks an example: of a key\n"
        "that need not be set, or of a list's entry.",
        source="`tandem.example.toml` and the answers of `tandem check`",
    )
    tables = {name.strip("[]").split(".")[0] for name in sections if name}
    for section, (about, rows) in sections.items():
        missing = known_keys(tandem, section) - {row[0] for row in rows} - {name.strip("[]").rsplit(".", 1)[-1] for name in sections}
        if missing - (tables if not section else set()):
            raise SystemExit(f"{EXAMPLE.name}: {section or 'the top'} lacks {sorted(missing)}")
        if not rows and not about:
            continue
        page += f"\n## {f'`{section}`' if section else 'The top of the file'}\n"
        if about:
            page += f"\n{ended(sentence(about))}\n"
        lines = []
        for key, is_default, text, meaning in rows:
            path = ".".join(filter(None, (section.strip("[]"), key)))
            messages = [one[path] for one in said if path in one] or [message for one in said for at, message in one.items() if at.startswith(f"{path}.")]
            # A fault of another entry of the list can hide this one.
            messages = messages or [message for at, message in check(tandem, f"{section}\n{key} = {{ zz = 1 }}\n") if at == path]
            if not messages:
                raise SystemExit(f"scripts/reference.py: `tandem check` says nothing about {path}")
            value = tomllib.loads(f"x = {text}")["x"]
            shown = f"`{text}`" if is_default else f"such as `{text}`"
            if not meaning:
                raise SystemExit(f"{EXAMPLE.name}: no comment says what {path} means")
            lines.append([f"`{key}`", kind(messages, value), shown.replace("|", "\\|"), sentence(meaning)])
        if lines:
            page += "\n" + table(["key", "type and range", "default", "meaning"], lines)
            page += f"\nVariable of the first key: `{variable(section, rows[0][0])}`.\n"
    return page


# --- The commands ---


def plain(roff):
    """The text of a line of a manual page."""
    text = re.sub(r"\\f[BIRP]", "", roff)
    return text.replace("\\-", "-").replace("\\*(Aq", "'").replace("\\(aq", "'").replace("\\&", "").replace("\\e", "\\")


def sections_of(page):
    found, name = {}, ""
    for line in page.splitlines():
        if line.startswith(".SH "):
            name = plain(line[4:]).strip('"')
            found[name] = []
        elif name:
            found[name].append(line)
    return found


def paragraphs(lines):
    text = "\n".join("" if line == ".PP" else plain(line) for line in lines if not line.startswith((".RS", ".RE", ".br")))
    return [one.strip() for one in re.split(r"\n\s*\n", text) if one.strip()]


def options(lines):
    """The rows of a list of options: (names, default or values, meaning)."""
    for part in re.split(r"^\.TP$", "\n".join(lines), flags=re.MULTILINE)[1:]:
        head, *rest = part.strip().splitlines()
        names = plain(head)
        rest = paragraphs(rest)
        if names in ("-h, --help", "-V, --version"):
            continue
        default = re.search(r"\s*\[default: (.*?)\]", names)
        names = names.replace(default[0], "") if default else names
        yield [f"`{cell(names.strip()).replace(chr(92) + '<', '<')}`", ended(cell(" ".join(rest))) + (f" Default: `{default[1]}`." if default else "")]


# An argument without a name, in the synopsis: <URL> or [CALL].
ARGUMENT = re.compile(r"<[A-Z]\w*>|\[[A-Z]\w*\]")


def commands(tandem):
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([tandem, "man", directory], check=True, capture_output=True, timeout=60)
        pages = {path.stem: sections_of(path.read_text()) for path in Path(directory).glob("*.1")}
    whole = pages.pop("tandem")
    listed = [plain(line).strip() for line in whole["SUBCOMMANDS"] if line.startswith("tandem\\-")]
    order = [name.split("(")[0] for name in listed if name.split("(")[0] in pages]
    if set(order) != set(pages):
        raise SystemExit(f"scripts/reference.py: the manual page of tandem lists other commands than there are pages: {set(order) ^ set(pages)}")
    page = HEAD.format(
        title="Commands",
        about="Every command of `tandem`, with its options. `tandem COMMAND --help` and `man tandem-COMMAND` say the same. Every command takes\n"
        "`-h` and `--help`.",
        source="the manual pages that `tandem man` writes",
    )
    for name in order:
        sections = pages[name]
        command = "tandem " + name.removeprefix("tandem-")
        page += f"\n## {command}\n\n"
        page += "\n\n".join(ended(one.replace("<", "\\<")) for one in paragraphs(sections["DESCRIPTION"])) + "\n"
        page += f"\n```text\n{' '.join([command, '[OPTIONS]', *ARGUMENT.findall(plain(chr(10).join(sections['SYNOPSIS'])))])}\n```\n"
        for title, lines in sections.items():
            if title in ("NAME", "SYNOPSIS", "DESCRIPTION", "VERSION", "AUTHORS"):
                continue
            if rows := list(options(lines)):
                page += "\n" + table([title.lower().rstrip("s") if title != "OPTIONS" else "option", "meaning"], rows)
            elif title != "OPTIONS":
                page += "\n```text\n" + "\n".join(paragraphs(lines)) + "\n```\n"
    return page


# --- The environment ---

# What the variables are for that are no settings. The page lacks no variable that the code reads: see `read_variables`.
VARIABLES = {
    "TANDEM_LOG": "Level of the log. It takes precedence over `log.level`: `error`, `warn`, `info`, `debug` or `trace`, also by module: `info,tandem_sip=debug`.",
    "NO_COLOR": "If the variable is set and not empty, no command and no log uses colours ([no-color.org](https://no-color.org)).",
    "TERM": "`dumb`: no command uses colours.",
    "COLUMNS": "The width of tables, in characters. Default: the width of the terminal; without a terminal, tables are not cut.",
    "OPENAI_BASE_URL": "Base URL of the model server that `tandem dev --agent` asks first.",
    "OPENAI_API_KEY": "Key of this server, of `tandem dev --agent --model URL`, and of OpenAI.",
    "TANDEM_SPEECH_MODELS": "Directory of the models for speech on this machine.",
    "XDG_DATA_HOME": "Parent of the directory `tandem/speech` with the models for speech. Default: `~/.local/share`.",
    "HOME": "See `XDG_DATA_HOME`.",
    "PATH": "Where `espeak-ng` and the players for `tandem call --listen` are searched.",
    "NOTIFY_SOCKET": "Set by systemd. The server tells systemd that it is ready, reloads or stops.",
    "JOURNAL_STREAM": "Set by systemd. The server then knows that its output is the journal.",
}


def read_variables():
    """The environment variables that the code of the program reads."""
    names = set()
    for folder in ("app", "cli", "config", "control", "media", "net", "sip", "src", "tools"):
        for file in (ROOT / folder).rglob("*.rs"):
            if not {"tests", "examples"} & set(file.parts) and file.name not in ("build.rs", "tests.rs", "testing.rs"):
                names.update(re.findall(r'env::var(?:_os)?\("(\w+)"\)', file.read_text()))
    return {name for name in names if not name.startswith("UPDATE_")}


def environment(_):
    if unknown := read_variables() - set(VARIABLES):
        raise SystemExit(f"scripts/reference.py: VARIABLES lacks {sorted(unknown)}, which the code reads")
    page = HEAD.format(
        title="Environment variables",
        about="Every key of the [configuration](configuration.md) can be set by an environment variable. A variable takes precedence over the\n"
        "file. An unknown variable that begins with `TANDEM_` is an error: `tandem check` and `tandem serve` name it.",
        source="`tandem.example.toml` and the variables that the code reads",
    )
    page += "\n## Settings\n\n" + table(["form", "example", "the same in the file"], [
        ["`TANDEM_KEY`", "`TANDEM_DATA_DIR=/var/lib/tandem`", '`data_dir = "/var/lib/tandem"`'],
        ["`TANDEM_TABLE__KEY`", "`TANDEM_HTTP__LISTEN=127.0.0.1:9090`", '`[http]` `listen = "127.0.0.1:9090"`'],
        ["`TANDEM_TABLE__TABLE__KEY`", "`TANDEM_SIP__BANS__SECONDS=60`", "`[sip.bans]` `seconds = 60`"],
        ["`TANDEM_LIST__INDEX__KEY`", "`TANDEM_NUMBERS__0__NUMBER=+15551230001`", '`[[numbers]]` `number = "+15551230001"` (the first entry is 0)'],
    ])
    page += (
        "\nThe parts of a path are joined with two underscores. A value is written as in the file. Text needs no quotes. A list of texts may\n"
        "also be written with commas: `TANDEM_MEDIA__CODECS=PCMU,PCMA`.\n\n"
    )
    rows = [[f"`{section}`", f"`{variable(section, 'KEY')}`"] for section, (_, rows) in example().items() if rows and section]
    page += table(["table", "variables of its keys"], rows)
    page += "\n## Other variables\n\n" + table(["variable", "meaning"], [[f"`{name}`", text] for name, text in sorted(VARIABLES.items())])
    return page


# --- The metrics ---

FAMILY = re.compile(r'^ {4}(?:// (?P<group>.*)\.|\w+: (?P<kind>\w+) "(?P<name>\w+)" \[(?P<labels>[\w, ]*)\] "(?P<help>.*)";)$', re.MULTILINE)


def metrics(_):
    page = HEAD.format(
        title="Metrics",
        about="Every metric of `GET /metrics`, in the text format of Prometheus. Times are in seconds, and sizes are in bytes.\n"
        "[monitoring.md](../monitoring.md) has a dashboard, alert rules and useful expressions. The name of a metric never changes.",
        source="`control/metrics/families.rs`",
    )
    families = (ROOT / "control/metrics/families.rs").read_text().split("families! {")[1].split("\n}\n")[0]
    rows = []
    for found in [*FAMILY.finditer(families), None]:
        if found and not found["group"]:
            rows.append([f"`{found['name']}`", found["kind"].lower(), found["labels"], sentence(found["help"])])
            continue
        if rows:
            page += "\n" + table(["metric", "type", "labels", "meaning"], rows)
        rows = []
        page += f"\n## {found['group']}\n" if found else ""
    if page.count("| `") != families.count('";'):
        raise SystemExit("scripts/reference.py: a line of control/metrics/families.rs has another form than the others")
    return page


# --- The HTTP interface ---

ROUTE = re.compile(r"\.route\(\s*(\"[^\"]+\"|PATH|L::PATH),\s*")
HANDLER = re.compile(r"\b(get|post|put|delete)\((\|\| async|[\w:]+)")
ACCESS = [
    ("OperatorItself", "an operator"),
    ("Operator", "an operator, also to read only"),
    ("Changer", "each account; no reader"),
    ("Itself", "each account itself; no reader"),
    ("scope: Scope", "each account"),
    ("app.caller(", "each account"),
]
# Who may use a route if its handler does not say it; and the routes without a handler that has a doc comment. The files of a page (its script, style and icon) are left out.
OF_PATHS = [
    ("/metrics ", "this machine; others as an operator"),
    ("/dev/phone/", "this machine, with the key of `tandem dev`"),
    ("/dev/phone", "this machine"),
    ("/sip ", "everybody; the phone authenticates in SIP"),
]
CLOSURES = {
    "/console": "Leads a browser to `/console/`.",
    "/console/": "The web console for a browser, a list of these routes for other clients.",
    "/dev/phone": "The page, with a softphone.",
    "/healthz": "Whether the process answers: `alive`.",
}
FOLDERS = ("control/server", "control/console", "control/softphone")


def handler(name, file):
    """The doc comment of a handler, and its arguments with the begin of its body."""
    if "::" in name:
        module, name = name.rsplit("::", 1)
        file = file.parent / f"{module.split('::')[-1]}.rs"
    text = file.read_text()
    found = re.search(rf"((?:^ *///[^\n]*\n)*)^ *(?:pub(?:\(\w+\))? )?(?:async )?fn {name}(?:<[^>]*>)?\((.*?)\) (?:->|\{{)", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise SystemExit(f"scripts/reference.py: {file} has no handler {name}")
    return " ".join(line.strip().removeprefix("///").strip() for line in found[1].splitlines()), found[2] + text[found.end() : found.end() + 200]


def meaning(comment):
    """The comment without its `METHOD /path`: at the beginning, as a sentence."""
    text = re.sub(r"^`[^`]*`:?\s*", "", comment)
    text = re.sub(r"\[`([^`]*)`\](?:\([^)]*\))?", r"`\1`", text)
    return text[:1].upper() + text[1:]


def routes():
    """Each route: (path, method, who may use it, what it does)."""
    files = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.rs") if "tests" not in file.name) + [ROOT / "control/twilio/console.rs"]
    for file in files:
        text = file.read_text().split("#[cfg(test)]\nmod tests {")[0]
        if path := re.search(r"const PATH: &'static str = \"([^\"]+)\"", text):
            about = re.match(r"//! `[^`]*`: ((?:.*\n//! )*.*)", text)
            if not about:
                raise SystemExit(f"scripts/reference.py: the first line of {file} does not say what {path[1]} lists")
            yield path[1], "GET", "each account", meaning(about[1].replace("\n//! ", " "))
        for found in ROUTE.finditer(text):
            if found[1] == "L::PATH":
                continue
            path = found[1].strip('"') if found[1] != "PATH" else re.search(r'const PATH: &str = "([^"]+)"', text)[1]
            methods = text[found.end():].split("\n        .route", 1)[0]
            if variable := re.match(r"(\w+)\)", methods):
                methods = re.search(rf"let {variable[1]} =(.*?);", text, re.DOTALL)[1]
            methods = re.split(r"\.(?:layer|route|merge)\(|\n\n", methods)[0]
            for method, name in HANDLER.findall(methods):
                if Path(path).suffix in (".js", ".css", ".svg"):
                    continue
                about, arguments = (CLOSURES[path], "") if path in CLOSURES else handler(name, file)
                if not about:
                    raise SystemExit(f"scripts/reference.py: {file}: the handler {name} of {path} has no doc comment")
                access = next((who for word, who in [*OF_PATHS, *ACCESS] if word in f"{path} {arguments}"), "everybody")
                yield path, method.upper(), access, meaning(about)


def http(_):
    page = HEAD.format(
        title="HTTP interface",
        about="The routes that belong to Tandem itself. The APIs of the providers are in [compatibility.md](../compatibility.md). The routes below\n"
        "`/console` need the credentials of an account by HTTP Basic (`tandem env` prints them), or the session of the web console. An API key\n"
        "(`SK...`) is not the account itself.\n"
        "[console.md](../console.md) describes the JSON, and [operating.md](../operating.md) says which clients may read `/metrics`.",
        source="the routes in the code",
    )
    # Of two routes, such as /metrics on either listener, the first is the one of the main listener.
    found = sorted({(path, method): (access, about) for path, method, access, about in reversed(list(routes()))}.items())
    groups = [
        ("Server", lambda path: not path.startswith(("/console", "/dev"))),
        ("Console", lambda path: path.startswith("/console")),
        ("Page of `tandem dev`", lambda path: path.startswith("/dev")),
    ]
    for title, belongs in groups:
        rows = [[f"`{method} {path}`", access, cell(about)] for (path, method), (access, about) in found if belongs(path)]
        page += f"\n## {title}\n\n" + table(["route", "who", "what it does"], rows)
    return page


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "tandem")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    arguments = parser.parse_args()
    tandem = arguments.tandem.resolve()
    if not tandem.exists():
        raise SystemExit(f"no {tandem}: run cargo build first")
    stale = []
    for make in (configuration, commands, environment, metrics, http):
        page, text = PAGES / f"{make.__name__}.md", make(tandem)
        if not page.exists() or page.read_text() != text:
            stale.append(page.relative_to(ROOT))
            if not arguments.check:
                page.parent.mkdir(exist_ok=True)
                page.write_text(text)
    print(*(f"{'stale, run scripts/docs.sh write:' if arguments.check else 'written:'} {page}" for page in stale), sep="\n", end="\n" if stale else "")
    sys.exit(bool(arguments.check and stale))


if __name__ == "__main__":
    main()
