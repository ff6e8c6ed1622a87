"""Words and numbers as a person reads them: visible tokens, short numbers, one sentence a measure."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable

LOG_RANGE = 708.0  # e^x is a normal float for x up to it, either way
SHOWN = {"\n": "↵", "\r": "␍", "\t": "⇥", " ": "␣"}
# what has no glyph of its own or acts on its neighbours: controls, format and bidi marks, surrogates, separators
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def visible(token: str) -> str:
    """A token with whitespace, control, format and bidirectional characters made visible; "∅" if it is empty."""

    def one(character: str) -> str:
        if character in SHOWN:
            return SHOWN[character]
        if unicodedata.category(character) in UNSEEN:
            code = ord(character)
            return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
        return character

    return "".join(one(c) for c in token) or "∅"


def plain_text(text: object) -> str:
    """Text of one line for headings: spaces stay, everything else unseen is made visible."""
    return "".join(c if c == " " else visible(c) for c in str(text))


def number(value: float | int | None, digits: int = 3) -> str:
    """A number in about ``digits`` digits: "12.3", "1.2e−5", "∞", "–" for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, int) or (abs(value) >= 1000 and float(value).is_integer()):
        return f"{value:,.0f}".replace(",", "\u202f").replace("-", "−")
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e6:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def power(log: float, number: Callable[[float], str] = number) -> str:
    """e^log as a number in words, and as a power of e where floats do not reach: "e^120\u202f000"."""
    if math.isinf(log) or math.isnan(log) or abs(log) < LOG_RANGE:
        return number(math.exp(log))
    return f"e^{number(log)}"


def count(value: float, unit: str) -> str:
    """A number of things: "1 token", "2 tokens"."""
    return f"{number(value)} {unit}{'' if value == 1 else 's'}"


def glossary(unit: str) -> dict[str, str]:
    """The words and what they mean, for positions that are tokens or time steps."""
    return {name: meaning.replace("token", unit) for name, meaning in GLOSSARY.items()}


GLOSSARY: dict[str, str] = {
    "Coefficient α": "How strongly the output at one token (row i) uses the value at another (column j): the output is "
    "the sum over j of α times the value. Every mixer here, attention or recurrent, is such a table.",
    "Certificate": "Checks that the coefficients shown are what the model itself computed, and that the model gives "
    "the same answer token by token, in chunks and with padding.",
    "Mean distance": "How many tokens back a row reads on average, weighted by |α|.",
    "Effective context": "The smallest lag within which 90 % of all |α| lies.",
    "Half-life, measured": "The smallest lag within which 50 % of all |α| lies.",
    "Half-life from the spectrum": "After how many tokens the slowest direction of the state has faded to one half, "
    "ln ½ / ln |λ|; ∞ if it never fades. For softmax it follows the convention of the η ratio.",
    "State rank": "How many numbers a value channel an exact recurrence would have to carry from token to token; "
    "relative to a tolerance, and “≥” where the measurement reached its own limit.",
    "State by design": "How many numbers a value channel the mixer's own recurrence carries, whatever the input; the "
    "state rank is how many of them this input makes use of. Attention keeps every token instead.",
    "Rounding of a picture (±)": "Pictures are stored in 8 bits a cell. The ± beside a value under the pointer is half "
    "a step of that storage: it says nothing of how exact the coefficients are, which the certificate does.",
    "By convention": "Marks numbers of softmax that depend on the gauge: a constant added to all keys changes them and "
    "changes no coefficient.",
    "Spectrum": "The eigenvalues λ of the step A that carries the state over one token: inside the unit circle it "
    "fades, on it it is kept, off the real axis it turns.",
    "η ratio (softmax)": "Softmax divides each row by its sum η; folded into the step this is the factor η before / η "
    "now. It depends on a convention: adding a constant to all keys changes it and changes no coefficient, so the "
    "range that this freedom spans is shown with it.",
    "Ring": "A state space layer written in the nodes of a ring, one a mode, by a Fourier transform over its modes: "
    "each node hears the others by their distance around the ring alone. It is the layer itself, to rounding.",
    "Lap": "The time a pulse takes around the ring. It runs towards smaller node numbers where frequencies rise with "
    "the mode.",
    "Nodes that carry the pulse": "One where a single node has all of it, all nodes where they share it alike. The "
    "same modes in a random order are an equally exact ring without a pulse: the control beside every number.",
    "Uniform weights": "The dashed line: what the horizon would be if every token were read alike. A head that follows "
    "it has no preference for near or far.",
}

NOISE = (
    "How far the largest answer moves, relative to it, when the same forward runs once more with every module's result "
    "off by half a unit in the last place: what rounding alone does to this model on this input."
)

NOISE_SHORT = "how far one more rounding in every module moves the answer."

CHECKS: dict[str, tuple[str, str]] = {
    "operator": (
        "The coefficients shown, applied to the values, give what the model's own mixer returned.",
        "the pictures of this mixer below do not describe what the model computed.",
    ),
    "step": (
        "One token at a time with a cache gives the same answer as one full forward pass.",
        "generating text token by token does not reproduce the full forward pass.",
    ),
    "chunk": (
        "A prefix, then several tokens at once on its cache, gives the same answer as one full forward pass.",
        "continuing several tokens on a cache does not reproduce the full forward pass.",
    ),
    "padding": (
        "Padding on the left or on the right changes nothing at the real tokens.",
        "a padded batch gives other answers than the same text alone.",
    ),
}
