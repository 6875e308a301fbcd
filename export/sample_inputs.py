"""Requests, tools and curves that exporting itself runs: to find activation peaks, and to check parity.

The two sets differ, so that parity is not checked on what was calibrated on.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomas_router.engines.core import EngineCore
from tomas_router.planner.engine import CurveWindow, Int, RoutingEngine, ToolBatch
from tomas_router.schema.registry import ToolSpec

CALIBRATION_REQUESTS = (
    "Please translate chapter three of the manual into Spanish and send it to the printing office.",
    "who won the match yesterday",
    "Cut the first ten minutes out of webinar.mp4, add subtitles, and store it under /videos/2024",
    "Compare these two CSV exports; list every customer that is missing in the second, sorted by revenue.",
    "把会议录音转成文字，然后总结要点",
    "Book a table for 4 at 19:30, then text the address to Ana & Luis!",
    "def f(x): return x**2  # why is this slow for 10**8 values?",
    "Résume ce rapport (120 pages) en dix points, s'il te plaît.",
)
PARITY_REQUESTS = (
    "Transcribe the two-hour 4K recording of the board meeting, summarise it and mail it to Maria",
    "remove the background from this photo",
    "Total sales per region from orders.xlsx, then plot them and post the chart in #sales",
    "你好，请把这份合同翻译成德语",
    "What is the capital of France?",
    "Unzip photos.zip, find duplicates, upscale the rest and upload everything to the cloud",
    "Hi",
    "Find the newest papers on battery chemistry, " * 30,  # longer than a task may be
)
WHAT = (
    "audio",
    "images",
    "video",
    "documents",
    "text",
    "tables",
    "the web",
    "e-mail",
    "files",
    "code",
    "maps",
    "music",
)
PARITY_TOOLS = tuple(ToolSpec(name=f"tool_{i}", desc=f"Works on {what}. " * (1 + i % 3)) for i, what in enumerate(WHAT))
CALIBRATION_TOOLS = tuple(
    ToolSpec(name=name, desc=desc)
    for name, desc in (
        ("transcribe_audio", "Turns speech in a recording into text with time stamps."),
        ("ocr", "Reads printed or handwritten text in images and scanned PDF pages, in 40 languages."),
        ("sql.query", "Runs a read-only SQL statement on the warehouse and returns rows as CSV."),
        ("send_mail", "Sends an e-mail with attachments."),
        ("video-upscale-x4", "Upscales video to four times its resolution on a GPU (needs 12 GB)."),
        ("天气", "查询城市的天气预报"),
        ("web_search", "Search."),
        ("plot", "Draws line, bar and scatter charts from a table; writes PNG or SVG."),
    )
)


def tool_batch(engine: RoutingEngine, tools: tuple[ToolSpec, ...], rows: int = 4) -> ToolBatch:
    """Tools of which some have all profile rows, some a few and some none."""
    batch = engine.prepare_tools(tools, None)
    rows_NR6 = np.random.default_rng(0).normal(size=(len(tools), rows, 6)).astype(np.float32)
    mask_NR = np.zeros((len(tools), rows), dtype=bool)
    mask_NR[::2] = True
    mask_NR[1::4, : rows // 2] = True
    return replace(batch, rows_NR6=rows_NR6, row_mask_NR=mask_NR)


def shortlist(seed: int, tools: int, size: int) -> Int:
    """A random shortlist, ascending."""
    return np.sort(np.random.default_rng(seed).choice(tools, size, replace=False))


def window(seed: int, gpus: int, points: int) -> CurveWindow:
    """A random curve."""
    series_GT4 = np.random.default_rng(seed).uniform(0, 40, (gpus, points, 4)).astype(np.float32)
    return CurveWindow(series_GT4, 4.0 + 0.3 * seed)


def run_calibration(engine: EngineCore, points: int) -> None:
    """Sends the calibration set through an engine; for its side effects on hooks."""
    tools = engine.encode_tools(tool_batch(engine, CALIBRATION_TOOLS))
    count = len(CALIBRATION_TOOLS)
    for number, request in enumerate(CALIBRATION_REQUESTS):
        curve = window(100 + number, 1 + number % 2, points)
        opening = engine.open(request, tools, shortlist(number, count, 1 + number % count), curve, "dataflow")
        state = opening.state
        for step in range(2):
            state = engine.step(state, (number + step) % count).state
