"""OpenTelemetry's spans of a block, kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@cache
def _exporter() -> Any:
    """One for the whole run: OpenTelemetry takes one provider a process."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@contextmanager
def recorded_spans() -> Iterator[Callable[[], tuple[Any, ...]]]:
    """Yields a function that answers the finished spans so far, in the order in which they ended."""
    exporter = _exporter()
    exporter.clear()
    yield exporter.get_finished_spans
