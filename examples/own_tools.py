"""Plan with tools of your own: no profile yet, so demand is predicted; then one measured tool, so it is exact."""

from tomas_router import Planner, ProfilingTable, ToolRegistry

registry = ToolRegistry.from_tools(
    [
        {"name": "speech_to_text", "desc": "Transcribe an audio recording to text."},
        {"name": "shorten_text", "desc": "Summarise a long text in a few sentences."},
        {"name": "weather_report", "desc": "Report the current weather of a place."},
    ]
)
planner = Planner.load()
request = "Transcribe this interview and summarise it."

plan = planner.plan(request, registry=registry)
for step in plan.steps:
    print(step.id, step.tool_name, step.source, step.resource_config)

measured = {"cpu_core": 4, "cpu_mem_gb": 6, "gpu_sm": 0, "gpu_mem_gb": 0}
profiling = ProfilingTable.from_rows(
    {"tool": "speech_to_text", "input_size": size, "latency_ms": latency_ms, **measured}
    for size, latency_ms in (("small", 9_000), ("medium", 60_000), ("large", 400_000))
)
plan = planner.plan(request, registry=registry, profiling=profiling)
for step in plan.steps:
    print(step.id, step.tool_name, step.source, step.resource_config)
