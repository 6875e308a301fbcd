"""Spans, and how they reach other processes; and nothing at all without OpenTelemetry."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("opentelemetry.sdk")

from tests.spans import recorded_spans
from tomas_router.executors.command import run_command
from tomas_router.runtime.tracing import begun_span, continued_trace, span, trace_environment

SHOW = "import os; print(os.environ.get('TRACEPARENT'))"
CONTINUE = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
from tomas_router.runtime.tracing import continued_trace, span
with continued_trace(), span("child") as child:
    context = child.get_span_context()
    print(format(context.trace_id, "032x"), format(child.parent.span_id, "016x"))
"""
WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from tomas_router.runtime.tracing import begun_span, continued_trace, span, trace_environment
with continued_trace({"TRACEPARENT": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}), span("x", {"a": 1}) as opened:
    opened.set_attributes({"b": 2})
    begun_span("y").end()
    print(trace_environment())
"""


def test_span_when_something_is_raised_records_it_and_passes_it_on():
    def work():
        with span("work", {"a": 1}) as opened:
            opened.set_attributes({"b": "x"})
            raise ValueError("no")

    with recorded_spans() as spans, pytest.raises(ValueError, match="no"):
        work()
    (ended,) = spans()
    assert (ended.name, dict(ended.attributes)) == ("work", {"a": 1, "b": "x"})
    assert ended.events[0].name == "exception"
    assert not ended.status.is_ok


def test_begun_span_when_ended_belongs_to_the_current_one_and_never_is_it():
    with recorded_spans() as spans, span("outer"):
        begun_span("inner").end()
        with span("next"):
            pass
    inner, following, outer = spans()
    assert (inner.name, following.name) == ("inner", "next")
    assert inner.parent.span_id == following.parent.span_id == outer.context.span_id


def test_command_when_a_tool_runs_one_gets_the_span_as_traceparent():
    with recorded_spans() as spans, span("tool"):
        printed = run_command([sys.executable, "-c", SHOW]).stdout.strip()
    (tool,) = spans()
    assert printed[:-3] == f"00-{tool.context.trace_id:032x}-{tool.context.span_id:016x}"


def test_trace_when_another_process_takes_it_up_goes_on():
    with recorded_spans() as spans, span("tool"):
        done = subprocess.run(
            [sys.executable, "-c", CONTINUE],
            env={**os.environ, **trace_environment()},
            capture_output=True,
            text=True,
            check=True,
        )
    (tool,) = spans()
    assert done.stdout.split() == [f"{tool.context.trace_id:032x}", f"{tool.context.span_id:016x}"]


def test_environment_when_nothing_is_traced_is_empty():
    assert trace_environment() == {}
    with continued_trace({}):
        assert trace_environment() == {}


def test_tracing_when_opentelemetry_is_not_installed_does_nothing():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{}"
