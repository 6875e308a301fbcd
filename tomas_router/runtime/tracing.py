"""OpenTelemetry spans, where OpenTelemetry is installed (extra ``otel``); without it nothing happens.

Spans are ``tomas.plan``, ``tomas.queue`` (while a call waits for room), ``tomas.admit`` (from asking for room to having
it) and ``tomas.run``. Attributes never hold arguments. Processes that a tool starts get the span as ``TRACEPARENT``
(``trace_environment``), and ``continued_trace`` takes it up there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

from tomas_router import __version__

TRACER = "tomas_router"
VARIABLES = ("traceparent", "tracestate", "baggage")
Attribute = str | bool | int | float


class Span(Protocol):
    """What is open: take attributes."""

    def set_attributes(self, attributes: Mapping[str, Attribute]) -> None:
        """Adds attributes."""
        ...

    def end(self) -> None:
        """Closes a span that ``begun_span`` opened."""
        ...


class _NoSpan:
    def set_attributes(self, attributes: Mapping[str, Attribute]) -> None:
        pass

    def end(self) -> None:
        pass


NO_SPAN = _NoSpan()


@contextmanager
def span(name: str, attributes: Mapping[str, Attribute] | None = None) -> Iterator[Span]:
    """A span around the block; what the block raises is recorded."""
    otel = _opentelemetry()
    if otel is None:
        yield NO_SPAN
        return
    with otel.get_tracer(TRACER, __version__).start_as_current_span(name, attributes=dict(attributes or {})) as opened:
        yield opened


def begun_span(name: str, attributes: Mapping[str, Attribute] | None = None) -> Span:
    """A span below the current one that is closed by its ``end``, and never becomes the current one."""
    otel = _opentelemetry()
    if otel is None:
        return NO_SPAN
    opened: Span = otel.get_tracer(TRACER, __version__).start_span(name, attributes=dict(attributes or {}))
    return opened


def trace_environment() -> dict[str, str]:
    """``TRACEPARENT`` and its companions for a process that is started now; empty when nothing is traced."""
    if _opentelemetry() is None:
        return {}
    from opentelemetry import propagate

    carried: dict[str, str] = {}
    propagate.inject(carried)
    return {name.upper(): value for name, value in carried.items()}


@contextmanager
def continued_trace(environ: Mapping[str, str] | None = None) -> Iterator[None]:
    """Spans in the block belong to the trace that the starting process passed on; without one they begin their own."""
    if _opentelemetry() is None:
        yield
        return
    from opentelemetry import context, propagate

    given = os.environ if environ is None else environ
    carried = {name: given[name.upper()] for name in VARIABLES if name.upper() in given}
    token = context.attach(propagate.extract(carried))
    try:
        yield
    finally:
        context.detach(token)


@cache
def _opentelemetry() -> Any:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace
