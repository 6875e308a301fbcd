"""Reads YAML as JSON with other brackets: only the types that JSON has, and no key twice."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

_OTHER_TYPES = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:value")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _JsonLoader(_Loader):  # type: ignore[misc]  # chosen at run time
    """YAML 1.2's view: ``no`` and ``2026-01-31`` are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OTHER_TYPES]
        for first, resolvers in _Loader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        self.flatten_mapping(node)
        found: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            name = str(key) if isinstance(key, int | float) and not isinstance(key, bool) else key
            if not isinstance(name, str):
                raise _wrong_key(f"a key must be text, got {key!r}", key_node)
            if name in found:
                raise _wrong_key(f"the key {name!r} repeats", key_node)
            found[name] = self.construct_object(value_node, deep=deep)
        return found


def _wrong_key(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_JsonLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


class YamlTextError(ValueError):
    """The text is not YAML, or holds what JSON cannot; ``line`` counts from 1."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


def parse_yaml(text: str) -> Any:
    """Parses one document.

    Raises:
        YamlTextError: see there.
    """
    try:
        return yaml.load(text, Loader=_JsonLoader)  # derived from the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise YamlTextError(error.problem or "cannot be parsed", None if mark is None else mark.line + 1) from None
    except yaml.YAMLError as error:
        raise YamlTextError(" ".join(str(error).split()), None) from None
    except RecursionError:
        raise YamlTextError("it is nested too deeply", None) from None
