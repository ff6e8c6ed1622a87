"""`make bench`: our paths and every peer's, on the same inputs, interleaved in one run, with a correctness gate first.

    python -m bench [--only NAME] [--quick] [--threads N] [--json FILE] [--resume] [--publish]

A case (`bench/cases`) says what is computed, by whom, against which float64 reference, and which bar it has to meet.
`measure` runs a case, `machine` measures what the machine itself can do, `table`, `figure` and `publish` show both.
"""
