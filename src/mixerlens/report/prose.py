"""A page of the documentation as one HTML file: the Markdown that this project writes, escaped, with its pictures.

What is understood is what `reproduce` writes and no more: headings, paragraphs, lists of two levels, tables, details,
fenced code, `code`, **bold** and *italics*. Everything else is text, tags too. The file loads nothing and runs no
script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape

__all__ = ["page"]

_CELL = re.compile(r"(?<!\\)\|")
_NUMBER = re.compile(r"[+\u2212-]?\d")
_FENCE = "```"
_DETAILS = re.compile(r"<details><summary>(.*)</summary>")


def page(text: str, figures: Mapping[str, Sequence[tuple[str, str]]], source: str) -> str:
    """The HTML of a Markdown page.

    figures: by the heading they stand below, (SVG text, caption); the SVG is trusted, the caption is escaped. source:
    the command that writes this file, for the foot of the page.
    """
    from .page import asset, policy

    title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), "mixerlens")
    parts = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    style = asset("report.css") + asset("study.css")
    links = "".join(f'<li><a href="#{_place(part)}">{_inline(part)}</a></li>' for part in parts)
    return f"""<!DOCTYPE html>
<html lang="en" data-ready="1">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(style)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} · mixerlens</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body class="study">
<a class="skip" href="#main">Skip to the page</a>
<header class="page wrap"><p class="eyebrow">mixerlens reproduce</p><h1>{_inline(title)}</h1></header>
<nav class="top" aria-label="Parts of the page"><div class="wrap"><ul>{links}</ul></div></nav>
<main id="main" class="wrap">
{"".join(_blocks(text, figures))}</main>
<footer class="wrap">Written by <code>{escape(source)}</code>. This file loads nothing and runs no script.</footer>
</body>
</html>
""".encode("utf-8", "backslashreplace").decode("utf-8")


def _blocks(text: str, figures: Mapping[str, Sequence[tuple[str, str]]]) -> Iterator[str]:
    heading = ""
    lines = text.splitlines()
    k = 0

    def run(belongs) -> list[str]:
        """The lines from here on that belong together."""
        nonlocal k
        start = k
        while k < len(lines) and belongs(lines[k]):
            k += 1
        return lines[start:k]

    while k < len(lines):
        line = lines[k]
        if not line.strip() or line.startswith("# "):
            k += 1
        elif line.startswith("#"):
            k += 1
            level, heading = len(line) - len(line.lstrip("#")), line.lstrip("# ")
            yield f'<h{level} id="{_place(heading)}">{_inline(heading)}</h{level}>\n'
            for svg, caption in figures.get(heading, ()):
                scroll = f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(heading)}, picture">'
                yield f'<figure class="panel">{scroll}{svg}</div><figcaption>{_inline(caption)}</figcaption></figure>\n'
        elif summary := _DETAILS.fullmatch(line):
            k += 1
            yield f'<details class="text panel"><summary>{_inline(summary.group(1))}</summary>\n'
        elif line == "</details>":
            k += 1
            yield "</details>\n"
        elif line.startswith(_FENCE):
            k += 1
            code = "\n".join(run(lambda each: each != _FENCE))
            k += 1
            yield f'<pre class="panel scroll" tabindex="0"><code>{escape(code)}</code></pre>\n'
        elif line.startswith("|"):
            yield _table(run(lambda each: each.startswith("|")), heading)
        elif line.startswith("- "):
            yield _list(run(lambda each: each.startswith(("- ", "  "))))
        else:
            yield f"<p>{_inline(' '.join(run(_is_prose)))}</p>\n"


def _is_prose(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(("|", "- ", "#", "</details>", _FENCE))


def _table(lines: list[str], heading: str) -> str:
    head, _, *body = ([cell.strip() for cell in _CELL.split(line)[1:-1]] for line in lines)
    numeric = [all(not row[c] or _NUMBER.match(row[c]) for row in body) for c in range(len(head))]

    def cells(tag: str, row: list[str]) -> str:
        kinds = (' class="number"' if is_number else "" for is_number in numeric)
        return "".join(f"<{tag}{kind}>{_inline(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    rows = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in body)
    return (
        f'<div class="panel scroll" tabindex="0" role="group" aria-label="{escape(heading)}, table"><table>'
        f"<thead><tr>{cells('th', head)}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n"
    )


def _list(lines: list[str]) -> str:
    """Items, each with the lines that go on and the items below it."""
    items: list[tuple[list[str], list[str]]] = []
    for line in lines:
        if line.startswith("- "):
            items.append(([line[2:]], []))
        elif line.startswith("  - "):
            items[-1][1].append(line[4:])
        else:
            items[-1][0].append(line.strip())
    found = []
    for words, below in items:
        inner = "".join(f"<li>{_inline(each)}</li>" for each in below)
        found.append(f"<li>{_inline(' '.join(words))}{f'<ul>{inner}</ul>' if inner else ''}</li>")
    return f"<ul>{''.join(found)}</ul>\n"


def _inline(text: str) -> str:
    """Escaped text with its code, bold and italics. Of links to other pages, which are not beside this file, the words
    alone."""
    text = re.sub(r"\[([^\[\]]+)\]\([\w./-]+\.md(?:#[\w-]+)?\)", r"\1", text)
    found = []
    for k, piece in enumerate(text.split("`")):
        plain = escape(piece.replace("\\|", "|"))
        if k % 2:
            found.append(f"<code>{plain}</code>")
            continue
        plain = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", plain)
        plain = re.sub(r"(?<![\\*])\*([^*]+?)\*", r"<em>\1</em>", plain)
        found.append(plain.replace("\\*", "*"))
    return "".join(found)


def _place(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
