"""Which tool can use what another produced, and how large that is.

The registry's types are too wide for natural chains (a checksum is a text, but nobody translates it), so results have
finer kinds here. Every pair is still type-correct or goes to a tool that shares, stores or packs anything.
"""

from __future__ import annotations

from functools import lru_cache

from tomas_router.schema.registry import ToolRegistry

KINDS: dict[str, str] = {
    "search_web": "links", "search_news": "links", "search_papers": "links", "vector_search": "links",
    "plot_chart": "chart", "make_animated_gif": "chart", "estimate_depth": "chart",
    "speech_synthesis": "made_audio", "clone_voice": "made_audio", "generate_music": "made_audio",
    "separate_music_stems": "made_audio", "find_files": "hits", "search_mailbox": "hits",
    "hash_file": "short", "read_barcode": "short", "run_python_code": "short", "solve_math_problem": "short",
    "answer_image_question": "short", "review_code": "findings", "compare_documents": "findings",
    "detect_anomalies": "findings", "detect_scene_cuts": "findings", "cluster_texts": "findings",
    "find_duplicate_images": "findings", "answer_from_documents": "short", "extract_keywords": "keywords",
    "extract_entities": "entities", "parse_invoice": "bill", "geocode_address": "spot", "plan_route": "spot",
    "get_weather": "note", "get_stock_quote": "note", "convert_units": "note", "find_free_slot": "note",
    "set_reminder": "receipt", "create_calendar_event": "receipt", "create_ticket": "receipt",
}  # fmt: skip
"""Kind of a unit's result where the registry's first output type is too wide."""

SHARE = "send_email post_chat_message"
STORE = "upload_to_cloud send_email"
FOLLOWERS: dict[str, str] = {
    "text": "summarization translation text_embedding speech_synthesis text_generation analyze_sentiment "
    "extract_entities extract_keywords "
    "classify_topic correct_grammar rewrite_tone detect_toxicity detect_text_language "
    "answer_from_documents clone_voice send_email post_chat_message create_ticket search_web search_news search_papers "
    "generate_image_diffusion generate_music generate_video_clip create_calendar_event find_free_slot search_mailbox",
    "audio": "transcription diarize_speakers denoise_audio convert_audio_format identify_spoken_language trim_silence "
    + STORE,
    "made_audio": "convert_audio_format " + STORE,
    "image": "classify_image object_detection segment_image remove_background upscaling edit_image_by_instruction "
    "caption_image answer_image_question recognize_faces blur_faces resize_image estimate_depth colorize_photo "
    "read_barcode " + STORE,
    "chart": SHARE + " upload_to_cloud",
    "video": "transcoding extract_audio_track extract_key_frames burn_subtitles stabilize_video detect_scene_cuts "
    "track_objects_in_video summarize_video interpolate_frames trim_video merge_videos make_animated_gif "
    "upload_to_cloud",
    "document": "extract_tables convert_document redact_document sign_document compare_documents merge_pdfs split_pdf "
    "encrypt_file compress_files " + STORE,
    "table": "join_tables aggregation clean_table detect_anomalies forecast_time_series model_training plot_chart "
    "cluster_rows export_spreadsheet optimize_schedule",
    "file": "compress_files encrypt_file hash_file scan_for_viruses " + STORE,
    "code": "review_code format_code generate_unit_tests run_python_code",
    "vectors": "vector_search",
    "links": "fetch_web_page " + SHARE,
    "hits": SHARE,
    "keywords": "search_web search_news search_papers query_sql_database find_files " + SHARE,
    "findings": SHARE + " create_ticket text_generation",
    "entities": "query_sql_database fill_form find_files search_mailbox geocode_address " + SHARE,
    "bill": "query_sql_database fill_form find_files convert_units set_reminder send_sms search_mailbox " + SHARE,
    "spot": "get_weather plan_route send_sms " + SHARE,
    "note": "send_sms set_reminder " + SHARE,
    "short": "send_sms " + SHARE,
    "label": "send_sms create_ticket " + SHARE,
    "list": SHARE,
    "record": "simulate_physics " + SHARE,
    "segments": SHARE + " create_ticket",
    "boxes": SHARE + " create_ticket",
    "mask": STORE,
    "model": "upload_to_cloud",
}
"""Units that can use a kind of result."""

EXTRA_FOLLOWERS = {
    "ocr": "solve_math_problem run_python_code", "extract_archive": "sync_folders import_spreadsheet",
    "extract_tables": "simulate_physics export_spreadsheet", "fetch_web_page": "run_python_code",
    "classify_image": "search_web", "object_detection": "text_generation", "split_pdf": "ocr extract_pdf_text",
    "simulate_physics": "plot_chart",
    "generate_image_diffusion": "edit_image_by_instruction", "generate_music": "separate_music_stems",
    "extract_key_frames": "find_duplicate_images", "search_web": "take_web_screenshot",
}  # fmt: skip
NEVER = {
    ("translation", "detect_text_language"), ("geocode_address", "geocode_address"),
    ("plan_route", "plan_route"), ("merge_pdfs", "split_pdf"), ("split_pdf", "merge_pdfs"),
    ("generate_image_diffusion", "recognize_faces"), ("generate_image_diffusion", "read_barcode"),
    ("blur_faces", "recognize_faces"), ("simulate_physics", "optimize_schedule"),
}  # fmt: skip

CONDENSING = {
    "summarization", "summarize_video", "aggregation", "plot_chart", "answer_from_documents", "answer_image_question",
    "extract_keywords", "make_animated_gif", "search_mailbox", "find_files", "vector_search", "review_code",
}  # fmt: skip
"""Their result is small whatever went in; so is every label, record and list."""
SMALL_KINDS = {
    "label",
    "short",
    "links",
    "hits",
    "findings",
    "keywords",
    "note",
    "spot",
    "bill",
    "entities",
    "list",
    "receipt",
}
CREATIVE = {"generate_image_diffusion", "generate_video_clip", "generate_music", "text_generation"}
"""As a later step they make something of ordinary size, whatever inspired them."""
SMALL_BY_NATURE = {"solve_math_problem", "run_python_code", "convert_units"}
SMALL_DOMAINS = {"messaging", "search"}


def unit_tool(registry: ToolRegistry, unit: str) -> str:
    """The tool that stands for a unit: itself, or the first member of the twin group."""
    return _unit_tools(registry)[unit]


@lru_cache(maxsize=4)
def _unit_tools(registry: ToolRegistry) -> dict[str, str]:
    """Looked up for every step of every request, so searched once: it was four fifths of the time to compose them."""
    found: dict[str, str] = {}
    for tool in registry:
        for unit in filter(None, (tool.name, tool.group)):
            found.setdefault(unit, tool.name)
    return found


def result_kind(registry: ToolRegistry, unit: str) -> str:
    """Kind of what a unit produces."""
    return KINDS.get(unit, registry[unit_tool(registry, unit)].output_types[0])


def followers(registry: ToolRegistry, unit: str) -> tuple[str, ...]:
    """Units that can work on what a unit produced."""
    names = f"{FOLLOWERS.get(result_kind(registry, unit), '')} {EXTRA_FOLLOWERS.get(unit, '')}".split()
    return tuple(dict.fromkeys(n for n in names if n != unit and (unit, n) not in NEVER))


def step_size(registry: ToolRegistry, unit: str, wording: str | None, incoming: str | None = None) -> str:
    """Size bucket of a step's input: by nature, else by its wording, else by what comes in, else medium."""
    domains = {tag.removeprefix("domain:") for tag in registry[unit_tool(registry, unit)].tags}
    if unit in SMALL_BY_NATURE or (domains & SMALL_DOMAINS and unit != "vector_search"):
        return "small"
    if incoming is not None and unit in CREATIVE:
        return "medium"
    return wording or incoming or "medium"


def result_size(registry: ToolRegistry, unit: str, size: str) -> str:
    """Size bucket of what a step hands on."""
    return "small" if unit in CONDENSING or result_kind(registry, unit) in SMALL_KINDS else size
