"""The page: a template, one style sheet, one script and the data, all in one file that may not reach the network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mixerlens.errors import InputError
from mixerlens.files import check_writable, write_whole
from mixerlens.report.data import MAX_HEADS, ReportData, gather
from mixerlens.report.words import glossary
from mixerlens.ring import LINEAR_IN_DISGUISE

SCRIPTS = ("colour.js", "plots.js", "heatmap.js", "ring.js", "explain.js", "principles.js", "page.js")
# what JSON may hold and HTML may not; the line separators end a line in older scripts
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def build(
    trace: Any, certificate: Any | None, *, title: str | None = None, sequence: int = 0, max_heads: int = MAX_HEADS
) -> str:
    """One self-contained HTML page about one forward pass; the same trace gives the same text.

    trace, certificate: from ``lens.trace(...)`` and ``trace.verify()``; certificate None says "not checked".
    sequence: which one of a batch. max_heads: a layer with more heads shows a stated selection and a strip of all.

    Raises InputError for a sequence that is not there, a trace without mixers, or where jinja2 is missing.
    """
    return render(gather(trace, certificate, title=title, sequence=sequence, max_heads=max_heads))


def write(
    trace: Any,
    certificate: Any | None,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    sequence: int = 0,
    max_heads: int = MAX_HEADS,
) -> Path:
    """``build`` into a file, which is replaced whole or not at all. Returns its path.

    Raises InputError as ``build`` does and where the path takes no file, WriteError (an OSError) where writing fails.
    """
    check_writable(path)  # before the work, not after it
    return write_whole(path, build(trace, certificate, title=title, sequence=sequence, max_heads=max_heads))


def render(data: ReportData) -> str:
    """The page of data that was gathered before."""
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise InputError("a report needs jinja2: pip install 'mixerlens[report]'") from error
    from mixerlens import __version__

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    style, script = asset("report.css"), _script()
    text = environment.from_string(asset("report.html.j2")).render(
        data=data,
        glossary=glossary(data.unit),
        disguise=LINEAR_IN_DISGUISE,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        pictures=Markup(json_for_html(data.pictures())),
        policy=policy(style, script),
    )
    # a lone surrogate has no UTF-8; visible() leaves none, so this can only be in text it never saw
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def policy(style: str, script: str | None = None) -> str:
    """A content security policy: nothing may be loaded or sent, only this style sheet and this script, if any, run."""
    runs = "" if script is None else f"script-src '{_hash(script)}'; "
    return f"default-src 'none'; style-src '{_hash(style)}'; {runs}img-src data:; base-uri 'none'; form-action 'none'"


def json_for_html(value: Any) -> str:
    """Strict JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character, escape in ESCAPES.items():
        text = text.replace(character, escape)
    return text


@cache
def asset(name: str) -> str:
    """A file beside this module."""
    return (files("mixerlens.report") / "assets" / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    body = "\n".join(asset(name) for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{body}\n}})();\n'


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
