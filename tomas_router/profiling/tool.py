"""A tool that can be measured: what to call, and with which input for each size."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tomas_router.errors import TomasRouterError

if TYPE_CHECKING:
    from tomas_router.schema.registry import ToolSpec

SIZES = ("small", "medium", "large")
Arguments = Mapping[str, Any]


class ProfiledToolError(TomasRouterError, ValueError):
    """A tool is not described well enough to be measured."""


@dataclass(frozen=True)
class ProfiledTool:
    """One tool to be measured.

    Args:
        call: a function, a coroutine function, or a LangChain tool (anything with ``invoke`` and ``name``).
        inputs: keyword arguments by size (``small``, ``medium``, ``large``; any subset), or a function without
            parameters that makes them. A function is called before every run, outside the measured time, so that a
            tool may change its input.
        name: as in the registry; default: the name of the function or LangChain tool.
        desc: as in the registry; default: the first paragraph of the docstring, or the LangChain tool's description.

    Raises:
        ProfiledToolError: Name or description is missing, a size is unknown, or there is no input at all.
    """

    call: Any
    inputs: Mapping[str, Arguments | Callable[[], Arguments]]
    name: str = ""
    desc: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or _name_of(self.call))
        object.__setattr__(self, "desc", self.desc or _desc_of(self.call))
        if not callable(self.call) and not _is_langchain_tool(self.call):
            raise ProfiledToolError(f"call must be a function or a LangChain tool, got {self.call!r}")
        if not self.name:
            raise ProfiledToolError(f"name must be given: {self.call!r} has none")
        if not self.desc:
            raise ProfiledToolError(f"{self.name}: desc must be given: the function has no docstring")
        if not self.inputs:
            raise ProfiledToolError(f"{self.name}: inputs must hold at least one of {', '.join(SIZES)}")
        for size in self.inputs:
            if size not in SIZES:
                raise ProfiledToolError(f"{self.name}: inputs must be by {', '.join(SIZES)}, got {size!r}")

    def arguments(self, size: str) -> dict[str, Any]:
        """Fresh keyword arguments of one run.

        Raises:
            ProfiledToolError: The input of this size is no mapping of argument names.
        """
        given = self.inputs[size]
        made = given() if callable(given) else given
        if not isinstance(made, Mapping):
            raise ProfiledToolError(
                f"{self.name}: inputs[{size!r}] must be a mapping of argument names, got {type(made).__name__}"
            )
        return dict(made)

    def run(self, arguments: dict[str, Any]) -> Any:
        """Calls the tool once."""
        if _is_langchain_tool(self.call):
            return self.call.invoke(arguments)
        if inspect.iscoroutinefunction(self.call):
            return asyncio.run(self.call(**arguments))
        return self.call(**arguments)

    def spec(self) -> ToolSpec:
        """The tool as a registry has it."""
        from tomas_router.schema.registry import ToolSpec

        return ToolSpec(name=self.name, desc=self.desc)


def _is_langchain_tool(call: Any) -> bool:
    return callable(getattr(call, "invoke", None)) and isinstance(getattr(call, "name", None), str)


def _name_of(call: Any) -> str:
    return str(call.name) if _is_langchain_tool(call) else getattr(call, "__name__", "")


def _desc_of(call: Any) -> str:
    if _is_langchain_tool(call):
        return str(getattr(call, "description", ""))
    return " ".join((inspect.getdoc(call) or "").partition("\n\n")[0].split())
