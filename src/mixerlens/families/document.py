"""The family table of the documentation, written from measured rows."""

from __future__ import annotations

from collections.abc import Sequence

from mixerlens.families.check import Row
from mixerlens.markdown import table

_HEAD = """# Families

Every architecture below is one function of `mixerlens.families` and one row of its registry. `mixerlens families
--check` measures all of them again, from an installed package; `mixerlens families --markdown` writes this page.

    u_jj = b_j k_j,   u_ij = A_i u_{i-1,j},   alpha_ij = phi(q_i^T u_ij) / eta_i,   y_i = sum_j alpha_ij v_j

*error*: largest |operator @ v - recurrence| relative to the largest |recurrence|, in float64, against the plain
recurrence of the same name in `mixerlens.references`. *state*: numbers a value channel, n the dimension of query and
key, T the length; *recurrence*: whether a fixed number of them carries the past.
"""
_OUTSIDE = """
## Not in the family

Each of these functions raises an error that carries what was measured against the mixer, at the moment it is asked for;
`mixerlens families lstm` prints it.
"""


def markdown(rows: Sequence[Row]) -> str:
    """The page as Markdown: members first, then what is not in the family and what shows it."""
    members = table(
        ("family", "name", "function", "A_t", "b k ; q", "phi", "eta", "state", "recurrence", "error", "source"),
        [
            (
                row.title,
                f"`{row.name}`",
                f"`{row.function}`",
                row.evolution,
                row.key,
                row.readout,
                row.normalizer,
                row.state,
                row.recurrence,
                f"{row.error:.0e}",
                row.source,
            )
            for row in rows
            if row.member
        ],
    )
    notes = [f"- **{row.title}**: {row.note}." for row in rows if row.member and row.note]
    outsiders = [(row.title, f"`{row.function}`", row.note, row.source) for row in rows if not row.member]
    parts = [_HEAD, members, "## Notes\n", "\n".join(notes)]
    if outsiders:
        parts += [_OUTSIDE, table(("mixer", "function", "why", "source"), outsiders)]
    return "\n".join(parts) + "\n"
