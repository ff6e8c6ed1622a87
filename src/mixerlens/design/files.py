"""Specifications as YAML, TOML and JSON files. A bad file gives one line: the file, the line, and what is wrong."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mixerlens.design.spec import MixerSpec
from mixerlens.design.values import shown
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.files import write_whole

LARGEST = 2**18  # bytes: a specification has about a thousand
DEEPEST = 16
WHOLE = r"^[-+]?(?:0|[1-9][0-9]*)$"
DECIMAL = r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf|\.nan)$"
FORMATS = {".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}


def read(path: str | os.PathLike[str]) -> MixerSpec:
    """The specification in a .yaml, .yml, .toml or .json file.

    Raises InputError for a file that is no text, too large or malformed, for a key that comes twice, for YAML anchors,
    aliases and tags, and for everything that `MixerSpec` refuses; OSError for one that cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: a folder is no specification: give a {', '.join(FORMATS)} file")
    form = format_of(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path}: a device or a pipe is no specification: give a {', '.join(FORMATS)} file")
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise InputError(f"{path}: more than {LARGEST} bytes: no specification is that long")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is no UTF-8: a specification is a text file") from None
    try:
        return from_text(text, form)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_named(name: str) -> MixerSpec:
    """A file by its path, else a family by its name. Raises as `read`, and InputError for a name that is neither."""
    from mixerlens.design.presets import PRESETS, preset

    path = Path(name)
    if path.suffix.lower() in FORMATS or path.exists():
        return read(path)
    if name not in PRESETS and ("/" in name or "." in name):
        raise InputError(
            f"{name}: a specification is a {', '.join(FORMATS)} file; mixerlens design list names families"
        )
    return preset(name)


def write(spec: MixerSpec, path: str | os.PathLike[str]) -> Path:
    """Write a specification as the file's name says; whole or not at all. Raises InputError as `read`."""
    path = Path(path)
    return write_whole(path, to_text(spec, format_of(path)))


def format_of(path: Path) -> str:
    """yaml, toml or json by the file's name."""
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise InputError(f"{path}: {path.suffix or 'no suffix'} is no format of specifications: {', '.join(FORMATS)}")
    return form


def from_text(text: str, form: str = "yaml") -> MixerSpec:
    """The specification in a text. Raises InputError as `read`."""
    parsers = {"yaml": _from_yaml, "toml": _from_toml, "json": _from_json}
    if not text.strip():
        raise InputError("there is nothing in it: give at least name")
    try:
        given = parsers[form](text)
    except RecursionError:
        raise InputError(f"nested deeper than {DEEPEST} levels: no specification is") from None
    _check_depth(given)
    return MixerSpec.from_dict(given)


def to_text(spec: MixerSpec, form: str = "yaml") -> str:
    """The specification as a text, without what is as by default.

    Raises InputError for a form other than yaml, toml and json, and for TOML where a signal's init is null.
    """
    told = spec.to_dict()
    if form == "json":
        return json.dumps(told, indent=2) + "\n"
    if form == "toml":
        return "\n".join(_to_toml(told, ())) + "\n"
    if form == "yaml":
        return _yaml().dump(told, Dumper=_dumper(), sort_keys=False, allow_unicode=True)
    raise InputError(f"format: {form!r:.60} must be one of {', '.join(dict.fromkeys(FORMATS.values()))}")


def _check_depth(x: Any, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise InputError(f"nested deeper than {DEEPEST} levels: no specification is")
    for y in x.values() if isinstance(x, dict) else x if isinstance(x, list) else ():
        _check_depth(y, depth + 1)


def _unique(pairs: Iterable[tuple[Any, Any]], where: Callable[[Any], str] = lambda key: "") -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"{where(key)}{shown(key)} comes twice: say it once")
        found[key] = value
    return found


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise UnsupportedError(
            "specifications as YAML need pyyaml: pip install 'mixerlens[design]', or use .toml or .json"
        ) from None
    return yaml


def _from_yaml(text: str) -> Any:
    yaml = _yaml()
    try:
        return yaml.load(text, Loader=_strict_loader())
    except yaml.YAMLError as error:
        mark, position = getattr(error, "problem_mark", None), getattr(error, "position", None)
        place = "" if position is None else f"character {position + 1}: "
        place = place if mark is None else f"line {mark.line + 1}: "
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise InputError(f"{place}no YAML: {' '.join(str(problem).split())}") from None
    except ValueError as error:
        raise _of_value(error) from None


def _strict_loader() -> Any:
    """SafeLoader that refuses anchors, aliases, tags and keys that come twice, reads 1e-3 as a number, and as numbers
    nothing but decimal ones: 1:30, 0x1f and 010 are texts, and so are dates."""
    yaml = _yaml()

    class Strict(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                raise InputError(f"line {event.start_mark.line + 1}: anchors and aliases are not read: write it out")
            if (tag := getattr(event, "tag", None)) is not None:
                tag = tag.replace("tag:yaml.org,2002:", "!!")
                raise InputError(f"line {event.start_mark.line + 1}: tags are not read: drop {shown(tag)}")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [(self.construct_object(key, deep=True), key.start_mark.line + 1) for key, _ in node.value]
            lines: dict[Any, int] = {}
            for key, line in keys:
                if not isinstance(key, str):
                    raise InputError(f"line {line}: {shown(key)} is no name: keys are texts")
                if key in lines:
                    raise InputError(f"line {line}: {shown(key)} comes twice, first in line {lines[key]}: say it once")
                lines[key] = line
            return super().construct_mapping(node, deep=deep)

    tag = "tag:yaml.org,2002:"
    Strict.yaml_implicit_resolvers = {
        first: [each for each in known if each[0] in (f"{tag}null", f"{tag}bool")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for name, pattern in {"int": WHOLE, "float": DECIMAL}.items():
        Strict.add_implicit_resolver(f"{tag}{name}", re.compile(pattern), list("-+.0123456789"))
    return Strict


def _dumper() -> Any:
    """SafeDumper that quotes a text which the loader would read as a number: 1e3."""
    yaml = _yaml()

    class Quoting(yaml.SafeDumper):
        pass

    Quoting.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(DECIMAL), list("-+.0123456789"))
    return Quoting


def _from_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"no TOML: {' '.join(str(error).split())}") from None
    except ValueError as error:  # an integer of too many digits
        raise _of_value(error) from None


def _from_json(text: str) -> Any:
    def refuse(word: str) -> Any:
        raise InputError(f"{word} is no number of JSON: give a finite one")

    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InputError(f"line {error.lineno}, column {error.colno}: no JSON: {error.msg}") from None
    except ValueError as error:
        raise _of_value(error) from None


def _of_value(error: ValueError) -> InputError:
    if isinstance(error, InputError):
        return error
    return InputError("a number has too many digits" if "digits" in str(error) else " ".join(str(error).split()))


def _to_toml(told: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    """Lines of a table: first its own values, then the tables in it."""
    own = {key: x for key, x in told.items() if not isinstance(x, dict)}
    lines = [f"[{'.'.join(path)}]"] if path and (own or not told) else []
    lines += [f"{key} = {_toml_value('.'.join((*path, key)), x)}" for key, x in own.items()]
    for key, x in told.items():
        if isinstance(x, dict):
            inner = _to_toml(x, (*path, key))
            lines += inner if inner[0] == "" else ["", *inner]
    return lines


def _toml_value(where: str, x: Any) -> str:
    if x is None:
        raise InputError(f"{where}: TOML has no null: write YAML or JSON")
    if isinstance(x, bool):
        return "true" if x else "false"
    if isinstance(x, (list, tuple)):
        return f"[{', '.join(_toml_value(where, y) for y in x)}]"
    return json.dumps(x, ensure_ascii=False) if isinstance(x, str) else repr(x)
