"""Generates the shipped profiling table. Semi-synthetic: physical laws with plausible constants, not measurements.

    python -m tomas_router.datasets.profile_generator --out data/profiling/profiling.csv --seed 7

Laws, fitted on public measurements elsewhere (V100 MPS, A100 MIG, Spark on many-core hosts):

* GPU: ``t = k0 + k1*b + (k2 + k3*b)/s``, Amdahl in the share ``s`` of streaming multiprocessors, ``b`` units of work.
* CPU: ``t = t1 * (sigma + (1 - sigma)/c)``, Amdahl in cores ``c``.
* Memory: weights + activation per unit + a little per core.
* 2 % log-normal noise, as repeated runs show.

Constants of every tool are in ``GPU_TOOLS``, ``CPU_TOOLS`` and ``LIGHT_TOOLS`` below; tools of none of the three are
deliberately without profile.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomas_router.schema.profiling import SIZES, ProfileRow, ProfilingTable

NOISE_SIGMA = 0.02
SM_GRID = (10, 20, 30, 50, 75, 100)
GPU_HOST_CORES = (1, 4)
CPU_GRID = (1, 2, 4, 8, 16)
LIGHT_CORES = (0.25, 1)


@dataclass(frozen=True)
class GpuTool:
    """Seconds on a whole GPU for each size; memory in GiB."""

    seconds: tuple[float, float, float]
    weights_gb: float
    activation_gb: tuple[float, float, float]
    serial_share: tuple[float, float, float] = (0.35, 0.22, 0.15)
    host_share: float = 0.1
    """Part of the time that host cores shorten."""


@dataclass(frozen=True)
class CpuTool:
    """Seconds on one core for each size; memory in GiB."""

    seconds: tuple[float, float, float]
    memory_gb: tuple[float, float, float]
    serial_share: float = 0.08
    max_cores: int = 16


@dataclass(frozen=True)
class LightTool:
    """Mostly waiting: seconds for each size, hardly any resources."""

    seconds: tuple[float, float, float]
    memory_gb: float = 0.25


GPU_TOOLS: dict[str, GpuTool] = {
    "transcribe_audio_whisper_gpu": GpuTool((1.6, 22, 170), 3.1, (0.6, 1.2, 2.4)),
    "diarize_speakers": GpuTool((1.1, 14, 95), 1.2, (0.4, 0.9, 2.2)),
    "synthesize_speech_neural": GpuTool((0.4, 2.4, 28), 1.9, (0.3, 0.5, 0.9)),
    "separate_music_stems": GpuTool((2.5, 12, 70), 1.4, (1.2, 2.4, 4.5)),
    "clone_voice": GpuTool((2.2, 9, 55), 2.6, (0.5, 0.9, 1.6)),
    "generate_music": GpuTool((6, 20, 90), 5.6, (0.8, 1.6, 3.2)),
    "detect_objects_gpu": GpuTool((0.12, 2.2, 35), 0.9, (0.3, 1.4, 3.6)),
    "segment_image": GpuTool((0.4, 6, 80), 2.4, (0.6, 1.8, 4.2)),
    "remove_background": GpuTool((0.25, 3.5, 45), 0.7, (0.4, 1.1, 2.4)),
    "upscale_image_gpu": GpuTool((0.8, 9, 120), 0.4, (1.2, 3.4, 7.5)),
    "generate_image_diffusion": GpuTool((3.2, 14, 90), 6.8, (1.4, 3.2, 8.4), (0.2, 0.14, 0.1)),
    "edit_image_by_instruction": GpuTool((4, 16, 100), 7.4, (1.6, 3.4, 8.8), (0.2, 0.14, 0.1)),
    "caption_image": GpuTool((0.6, 6, 60), 3.8, (0.5, 1.2, 2.8)),
    "answer_image_question": GpuTool((1.1, 6, 40), 7.6, (0.7, 1.6, 3.4)),
    "estimate_depth": GpuTool((0.2, 3, 40), 1.3, (0.5, 1.4, 3.0)),
    "colorize_photo": GpuTool((0.4, 4, 50), 1.1, (0.6, 1.5, 3.3)),
    "transcode_video_gpu": GpuTool((2.5, 28, 240), 0.4, (0.5, 0.9, 1.9), (0.5, 0.45, 0.4), 0.3),
    "track_objects_in_video": GpuTool((4, 40, 330), 1.1, (1.0, 2.2, 4.4)),
    "summarize_video": GpuTool((5, 45, 260), 9.2, (1.4, 3.6, 8.0)),
    "generate_video_clip": GpuTool((40, 140, 480), 14.5, (4.5, 8.0, 16.0), (0.12, 0.1, 0.08)),
    "interpolate_frames": GpuTool((5, 55, 400), 0.6, (1.4, 3.0, 6.0)),
    "ocr_document_gpu": GpuTool((0.5, 8, 90), 2.8, (0.5, 1.3, 3.0)),
    "summarize_text_large": GpuTool((0.6, 4, 32), 7.6, (0.6, 1.4, 3.6)),
    "translate_text_gpu": GpuTool((0.8, 6, 75), 4.8, (0.4, 1.2, 3.0)),
    "embed_texts_gpu": GpuTool((0.05, 1.2, 30), 1.3, (0.2, 1.0, 3.4), (0.6, 0.3, 0.15)),
    "generate_text_llm_gpu": GpuTool((2.0, 12, 50), 15.6, (0.5, 1.2, 2.8), (0.4, 0.35, 0.3)),
    "answer_from_documents": GpuTool((1.5, 6, 26), 8.2, (0.5, 1.4, 3.8)),
    "aggregate_table_gpu": GpuTool((0.3, 2.0, 24), 0.8, (0.6, 4.0, 14.0), (0.6, 0.4, 0.25), 0.3),
    "train_gradient_boosting_gpu": GpuTool((2.0, 15, 140), 0.5, (0.4, 2.5, 9.0), (0.5, 0.35, 0.25), 0.25),
    "semantic_search_gpu": GpuTool((0.02, 0.15, 2.5), 1.0, (0.4, 3.0, 11.0), (0.6, 0.4, 0.3)),
    "simulate_physics": GpuTool((8, 80, 600), 0.6, (1.0, 4.0, 12.0), (0.15, 0.1, 0.08)),
}

CPU_TOOLS: dict[str, CpuTool] = {
    "transcribe_audio_cpu": CpuTool((14, 240, 2100), (1.1, 1.3, 1.9), 0.10),
    "synthesize_speech_light": CpuTool((3.0, 20, 260), (0.5, 0.6, 0.8), 0.15, 8),
    "denoise_audio": CpuTool((1.5, 18, 150), (0.4, 0.8, 2.0), 0.12, 8),
    "identify_spoken_language": CpuTool((0.8, 1.5, 3.0), (0.6, 0.6, 0.7), 0.25, 4),
    "convert_audio_format": CpuTool((0.6, 6, 50), (0.1, 0.15, 0.3), 0.30, 4),
    "trim_silence": CpuTool((0.4, 4, 32), (0.2, 0.5, 1.6), 0.30, 4),
    "classify_image": CpuTool((0.15, 4, 60), (0.5, 0.7, 1.1), 0.10, 8),
    "detect_objects_cpu": CpuTool((0.9, 24, 420), (0.8, 1.1, 1.8), 0.08),
    "upscale_image_cpu": CpuTool((6, 110, 1600), (0.7, 1.6, 3.5), 0.06),
    "recognize_faces": CpuTool((0.6, 14, 210), (0.7, 1.0, 1.7), 0.10, 8),
    "blur_faces": CpuTool((0.5, 11, 170), (0.5, 0.8, 1.4), 0.10, 8),
    "resize_image": CpuTool((0.08, 3, 45), (0.1, 0.3, 0.8), 0.10, 8),
    "find_duplicate_images": CpuTool((0.8, 20, 300), (0.3, 1.0, 4.0), 0.08, 8),
    "transcode_video_cpu": CpuTool((45, 620, 5600), (0.6, 1.4, 3.2), 0.05),
    "extract_key_frames": CpuTool((3, 32, 260), (0.4, 0.7, 1.4), 0.20, 8),
    "burn_subtitles": CpuTool((30, 420, 3800), (0.6, 1.3, 3.0), 0.06),
    "stabilize_video": CpuTool((25, 340, 2900), (0.8, 1.8, 4.0), 0.08),
    "detect_scene_cuts": CpuTool((4, 45, 380), (0.4, 0.7, 1.3), 0.15, 8),
    "merge_videos": CpuTool((2, 14, 90), (0.2, 0.4, 0.9), 0.50, 4),
    "make_animated_gif": CpuTool((2, 9, 40), (0.3, 0.6, 1.2), 0.25, 4),
    "ocr_document_cpu": CpuTool((3.5, 75, 900), (0.5, 0.9, 1.8), 0.06),
    "extract_tables": CpuTool((1.2, 18, 220), (0.4, 0.8, 1.8), 0.12, 8),
    "parse_invoice": CpuTool((1.0, 12, 150), (0.6, 0.8, 1.2), 0.15, 8),
    "convert_document": CpuTool((1.5, 8, 60), (0.4, 0.7, 1.4), 0.50, 2),
    "redact_document": CpuTool((0.9, 10, 110), (0.4, 0.7, 1.4), 0.20, 4),
    "compare_documents": CpuTool((0.4, 3, 30), (0.3, 0.5, 1.2), 0.40, 4),
    "summarize_text_small": CpuTool((3.5, 32, 320), (0.7, 0.9, 1.5), 0.12, 8),
    "translate_text_cpu": CpuTool((3.0, 45, 620), (0.8, 1.0, 1.6), 0.12, 8),
    "embed_texts_cpu": CpuTool((0.3, 14, 380), (0.4, 0.6, 1.2), 0.06),
    "analyze_sentiment": CpuTool((0.2, 5, 90), (0.5, 0.6, 0.9), 0.10, 8),
    "extract_entities": CpuTool((0.3, 6, 110), (0.6, 0.7, 1.1), 0.10, 8),
    "classify_topic": CpuTool((0.3, 6, 100), (0.6, 0.7, 1.0), 0.10, 8),
    "correct_grammar": CpuTool((1.2, 14, 160), (0.9, 1.0, 1.3), 0.12, 8),
    "generate_text_llm_cpu": CpuTool((20, 120, 480), (5.2, 5.6, 6.4), 0.20, 16),
    "cluster_texts": CpuTool((1.0, 20, 300), (0.4, 1.2, 4.5), 0.15, 8),
    "query_sql_database": CpuTool((0.2, 4, 60), (0.3, 1.0, 4.0), 0.25, 8),
    "join_tables": CpuTool((0.3, 8, 140), (0.4, 3.0, 18.0), 0.20, 16),
    "aggregate_table_cpu": CpuTool((0.8, 24, 420), (0.5, 4.0, 22.0), 0.06),
    "clean_table": CpuTool((0.5, 12, 190), (0.4, 2.5, 14.0), 0.35, 8),
    "detect_anomalies": CpuTool((1.0, 16, 240), (0.4, 1.6, 8.0), 0.12, 8),
    "forecast_time_series": CpuTool((2.0, 25, 320), (0.5, 1.0, 3.5), 0.15, 8),
    "train_gradient_boosting_cpu": CpuTool((9, 130, 2300), (0.6, 3.0, 14.0), 0.05),
    "cluster_rows": CpuTool((0.9, 18, 280), (0.4, 1.8, 9.0), 0.10, 8),
    "import_spreadsheet": CpuTool((0.4, 7, 90), (0.3, 1.2, 6.0), 0.70, 2),
    "semantic_search_cpu": CpuTool((0.1, 1.8, 34), (0.6, 4.0, 16.0), 0.06, 8),
    "compress_files": CpuTool((0.8, 25, 400), (0.2, 0.6, 1.6), 0.05),
    "extract_archive": CpuTool((0.5, 14, 200), (0.2, 0.4, 0.9), 0.40, 4),
    "encrypt_file": CpuTool((0.2, 6, 80), (0.1, 0.2, 0.4), 0.10, 8),
    "hash_file": CpuTool((0.1, 4, 60), (0.1, 0.1, 0.2), 0.30, 4),
    "scan_for_viruses": CpuTool((0.6, 22, 360), (0.9, 1.0, 1.3), 0.10, 8),
    "run_python_code": CpuTool((0.4, 6, 90), (0.3, 0.8, 3.0), 0.60, 2),
    "generate_unit_tests": CpuTool((12, 70, 300), (5.0, 5.4, 6.0), 0.20, 16),
    "review_code": CpuTool((10, 60, 280), (5.0, 5.4, 6.0), 0.20, 16),
    "solve_math_problem": CpuTool((0.5, 5, 45), (0.3, 0.5, 1.0), 0.50, 2),
    "optimize_schedule": CpuTool((2, 40, 600), (0.4, 1.2, 5.0), 0.12, 16),
    "take_web_screenshot": CpuTool((1.8, 4, 12), (0.6, 0.8, 1.2), 0.50, 2),
    "plot_chart": CpuTool((0.5, 1.5, 6), (0.3, 0.5, 1.2), 0.70, 2),
}

LIGHT_TOOLS: dict[str, LightTool] = {
    "extract_audio_track": LightTool((0.5, 3.0, 18.0)),
    "trim_video": LightTool((0.4, 2.0, 12.0)),
    "read_barcode": LightTool((0.1, 0.8, 6.0)),
    "extract_pdf_text": LightTool((0.2, 1.5, 14.0)),
    "merge_pdfs": LightTool((0.2, 1.0, 8.0)),
    "split_pdf": LightTool((0.2, 0.8, 6.0)),
    "fill_form": LightTool((0.2, 0.5, 3.0)),
    "extract_keywords": LightTool((0.1, 1.2, 14.0)),
    "detect_text_language": LightTool((0.02, 0.1, 1.0)),
    "export_spreadsheet": LightTool((0.3, 3.0, 30.0), 0.5),
    "search_web": LightTool((0.9, 1.8, 5.0)),
    "fetch_web_page": LightTool((0.8, 1.6, 5.0)),
    "search_news": LightTool((0.8, 1.5, 4.0)),
    "search_papers": LightTool((1.2, 2.5, 7.0)),
    "get_weather": LightTool((0.4, 0.6, 1.2)),
    "geocode_address": LightTool((0.3, 1.5, 20.0)),
    "plan_route": LightTool((0.6, 1.5, 8.0)),
    "get_stock_quote": LightTool((0.3, 0.6, 2.0)),
    "send_email": LightTool((0.6, 1.2, 4.0)),
    "search_mailbox": LightTool((0.7, 2.0, 9.0)),
    "post_chat_message": LightTool((0.3, 0.5, 1.2)),
    "create_calendar_event": LightTool((0.4, 0.7, 1.5)),
    "create_ticket": LightTool((0.5, 0.9, 2.0)),
    "upload_to_cloud": LightTool((0.9, 12.0, 160.0)),
    "find_files": LightTool((0.3, 4.0, 40.0)),
    "sync_folders": LightTool((0.8, 20.0, 300.0)),
    "format_code": LightTool((0.2, 1.0, 9.0)),
}


def generate(seed: int = 7) -> ProfilingTable:
    """The whole table; the same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    rows: list[ProfileRow] = []
    for name, gpu in GPU_TOOLS.items():
        rows += _gpu_rows(name, gpu, rng)
    for name, cpu in CPU_TOOLS.items():
        rows += _cpu_rows(name, cpu, rng)
    for name, light in LIGHT_TOOLS.items():
        rows += _light_rows(name, light, rng)
    return ProfilingTable(rows)


def _gpu_rows(name: str, tool: GpuTool, rng: np.random.Generator) -> list[ProfileRow]:
    rows = []
    for i, _size in enumerate(SIZES):
        serial = tool.serial_share[i]
        for cores in GPU_HOST_CORES:
            host = 1.0 + tool.host_share * (2.0 / cores - 0.5)
            for sm in SM_GRID[i // 2 :]:
                seconds = tool.seconds[i] * host * (serial + (1.0 - serial) * 100.0 / sm)
                rows.append(
                    _row(name, i, cores, 1.5 + 0.15 * cores, sm, tool.weights_gb + tool.activation_gb[i], seconds, rng)
                )
    return rows


def _cpu_rows(name: str, tool: CpuTool, rng: np.random.Generator) -> list[ProfileRow]:
    rows = []
    for i, _ in enumerate(SIZES):
        for cores in (c for c in CPU_GRID if c <= tool.max_cores):
            seconds = tool.seconds[i] * (tool.serial_share + (1.0 - tool.serial_share) / cores)
            rows.append(_row(name, i, cores, tool.memory_gb[i] + 0.1 * cores, 0, 0.0, seconds, rng))
    return rows


def _light_rows(name: str, tool: LightTool, rng: np.random.Generator) -> list[ProfileRow]:
    return [
        _row(name, i, cores, tool.memory_gb, 0, 0.0, tool.seconds[i] * (1.0 + 0.1 / cores), rng)
        for i, _ in enumerate(SIZES)
        for cores in LIGHT_CORES
    ]


def _row(
    name: str, size: int, cores: float, memory: float, sm: float, gpu_memory: float, s: float, rng: np.random.Generator
) -> ProfileRow:
    latency_ms = 1000.0 * s * float(np.exp(rng.normal(0.0, NOISE_SIGMA)))
    return ProfileRow(
        tool=name, input_size=SIZES[size], cpu_core=cores, cpu_mem_gb=round(memory, 2), gpu_sm=sm,
        gpu_mem_gb=round(gpu_memory, 2), latency_ms=round(latency_ms, 1),
    )  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args(argv)
    generate(args.seed).to_csv(args.out)


if __name__ == "__main__":
    main()
