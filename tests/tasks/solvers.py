"""What each task asks, solved token by token from the published definitions, without anything of the generators."""

from __future__ import annotations

IGNORED = -100


def recall(tokens, keys):
    """Answers one step ahead: at a key that came before, its value. Pairs that do not start with a key are noise."""
    known, answers = {}, [IGNORED] * len(tokens)
    for at in range(0, len(tokens), 2):
        key = tokens[at]
        if key not in keys:
            continue
        if key in known:
            answers[at] = known[key]
        if at + 1 < len(tokens):
            known.setdefault(key, tokens[at + 1])
    return answers


def fuzzy(tokens, keys, values, padding):
    """The same for keys and values of several tokens; tokens end with a whole value. Returns the pairs too."""
    answers, known, pairs, at = [IGNORED] * len(tokens), {}, [], 0
    while tokens[at] == padding:
        at += 1
    while at < len(tokens):
        key, value = [], []
        while tokens[at] in keys:
            key.append(tokens[at])
            at += 1
        start = at
        while at < len(tokens) and tokens[at] in values:
            value.append(tokens[at])
            at += 1
        assert key and value
        if tuple(key) in known:
            for place, token in enumerate(known[tuple(key)]):
                answers[start - 1 + place] = token
        known.setdefault(tuple(key), tuple(value))
        pairs.append((tuple(key), tuple(value)))
    return answers, pairs


def mqar(tokens, pairs):
    """Where nothing but questions follows the pairs: at every token that is not 0, its value."""
    known = {tokens[2 * i]: tokens[2 * i + 1] for i in range(pairs)}
    return [IGNORED] * (2 * pairs) + [known[x] if x else IGNORED for x in tokens[2 * pairs :]]


def copying(tokens, blank, sign):
    """From the step after the sign on, the tokens that are no blank, in order."""
    wanted, answers = [], []
    for token in tokens[: tokens.index(sign)]:
        if token != blank:
            wanted.append(token)
    for at in range(len(tokens)):
        behind = at - tokens.index(sign) - 1
        answers.append(wanted[behind] if behind >= 0 else IGNORED)
    return answers


def parity(tokens):
    odd, answers = False, []
    for bit in tokens:
        odd ^= bool(bit)
        answers.append(int(odd))
    return answers


def word(permutations):
    """Five things, moved by one permutation after the other: where each stands then."""
    places, answers = list(range(len(permutations[0]))), []
    for p in permutations:
        places = [p[place] for place in places]
        answers.append(tuple(places))
    return answers
