#!/usr/bin/env python3
"""Checks the links between the pages, and prepares the pages for mdBook. scripts/docs.sh runs this script.

    scripts/book.py check        dead links, dead anchors, pages that docs/SUMMARY.md does not name
    scripts/book.py stage DIR    copies the pages of docs/SUMMARY.md, and the files to which they link, into DIR

The pages link to each other as a repository needs it: docs/nat.md to ../README.md. So DIR has the folders of the repository, and
docs/SUMMARY.md becomes DIR/SUMMARY.md.
"""

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUMMARY = ROOT / "docs" / "SUMMARY.md"
CODE = re.compile(r"^( *)```.*?^\1```$|``[^\n]*?``|`[^`\n]*`", re.MULTILINE | re.DOTALL)
# The end of a link or a picture: ](target)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def visible(page):
    """The text of a page in which code is blank, so that links keep their places."""
    return CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), page.read_text())


def anchors(page, known={}):
    """The anchors of a page's headings, as GitHub and mdBook make them."""
    if page not in known:
        counts, known[page] = {}, set(re.findall(r'<a id="([^"]+)"', page.read_text()))
        text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for heading in re.findall(r"^#{1,6} (.*)$", text, re.MULTILINE):
            heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
            name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
            counts[name] = counts.get(name, -1) + 1
            known[page].add(f"{name}-{counts[name]}" if counts[name] else name)
    return known[page]


def links(page):
    """The links of a page to files: (line, target, anchor)."""
    text = visible(page)
    for found in LINK.finditer(text):
        if re.match(r"[a-z]+:", found[2]):
            continue
        path, _, anchor = found[2].partition("#")
        target = page if not path else Path(os.path.normpath(page.parent / path))
        yield text.count("\n", 0, found.start()) + 1, target, anchor


def named():
    """The pages that SUMMARY.md names, in its order."""
    return [target for _, target, _ in links(SUMMARY)]


def check():
    pages, faults = named(), []
    for page in {page for page in pages if pages.count(page) > 1}:
        faults.append(f"docs/SUMMARY.md names {page.relative_to(ROOT)} twice")
    for page in sorted(set((ROOT / "docs").rglob("*.md")) - set(pages) - {SUMMARY}):
        faults.append(f"docs/SUMMARY.md does not name {page.relative_to(ROOT)}")
    for page in [SUMMARY, *pages]:
        if not page.exists():
            continue
        for line, target, anchor in links(page):
            where = f"{page.relative_to(ROOT)}:{line}: "
            if not target.exists():
                faults.append(f"{where}no file {os.path.relpath(target, ROOT)}")
            elif target.suffix == ".md" and target not in pages and target != SUMMARY:
                faults.append(f"{where}{target.relative_to(ROOT)} is no page of docs/SUMMARY.md")
            elif anchor and anchor not in anchors(target):
                faults.append(f"{where}{target.relative_to(ROOT)} has no heading #{anchor}")
            elif target.is_dir():
                faults.append(f"{where}a link to a folder leads nowhere on the site; link to a file in it")
    print(*faults, sep="\n", end="\n" if faults else "")
    print(f"docs: {len(pages)} pages, {sum(len(list(links(page))) for page in pages if page.exists())} links between files, {len(faults)} faults")
    return bool(faults)


def on_the_site(page):
    """The text of a page with the names that mdBook gives to the pages: it makes index.html of index.md."""
    text, blank = page.read_text(), visible(page)
    for found in reversed(list(LINK.finditer(blank))):
        target = re.sub(r"(^|/)README\.md", r"\1index.md", found[2])
        if found[2].endswith("SUMMARY.md"):
            target = re.sub(r"docs/SUMMARY\.md$|SUMMARY\.md$", "", found[2]) or "index.md"
        text = text[: found.start(2)] + target + text[found.end(2) :]
    return text


def stage(folder):
    shutil.rmtree(folder, ignore_errors=True)
    for page in named():
        to = folder / page.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.with_name(to.name.replace("README.md", "index.md")).write_text(on_the_site(page))
        for target in {target for _, target, _ in links(page) if target.suffix != ".md"}:
            copy = folder / target.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target, copy)
    at_the_root = lambda link: link[1] + os.path.relpath((SUMMARY.parent / link[2]).resolve(), ROOT) + link[3]  # noqa: E731
    (folder / "SUMMARY.md").write_text(re.sub(r"README\.md", "index.md", LINK.sub(at_the_root, SUMMARY.read_text())))


match sys.argv[1:]:
    case ["check"]:
        sys.exit(check())
    case ["stage", folder]:
        stage(Path(folder))
    case _:
        sys.exit(__doc__)
