"""Composes requests from phrasings: single, chain, parallel, DAG, repeated tool, with the plan each implies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomas_router.datasets.entities import fill
from tomas_router.datasets.phrasings import Phrases
from tomas_router.datasets.rows import Step
from tomas_router.schema.registry import ToolRegistry

SMALL_BY_NATURE = {"messaging", "search"}
"""Domains whose calls are small whatever they speak of."""

TEXT_FOLLOWERS = (
    "@summarization @translation @text_embedding @speech_synthesis @text_generation analyze_sentiment extract_entities "
    "extract_keywords classify_topic correct_grammar rewrite_tone detect_toxicity detect_text_language "
    "answer_from_documents clone_voice send_email post_chat_message create_ticket search_web search_news "
    "generate_image_diffusion search_papers"
)
SHARE = "send_email post_chat_message"
FOLLOWERS: dict[str, str] = {
    "text": TEXT_FOLLOWERS,
    "audio": "@transcription diarize_speakers denoise_audio convert_audio_format identify_spoken_language trim_silence "
    "upload_to_cloud send_email",
    "image": "classify_image @object_detection segment_image remove_background @upscaling edit_image_by_instruction "
    "caption_image answer_image_question recognize_faces blur_faces resize_image estimate_depth colorize_photo "
    "upload_to_cloud send_email",
    "video": "@transcoding extract_audio_track extract_key_frames burn_subtitles stabilize_video detect_scene_cuts "
    "track_objects_in_video summarize_video interpolate_frames trim_video merge_videos make_animated_gif upload_to_cloud",
    "document": "@ocr extract_tables convert_document redact_document sign_document compare_documents send_email "
    "encrypt_file upload_to_cloud",
    "table": "join_tables @aggregation clean_table detect_anomalies forecast_time_series @model_training plot_chart "
    "cluster_rows export_spreadsheet",
    "file": "compress_files encrypt_file hash_file upload_to_cloud scan_for_viruses send_email",
    "code": "review_code format_code generate_unit_tests",
    "vectors": "@vector_search",
    "list": SHARE + " create_ticket",
    "record": SHARE,
    "label": SHARE + " create_ticket",
    "segments": SHARE,
    "boxes": SHARE,
    "mask": "upload_to_cloud send_email",
    "model": "upload_to_cloud",
}
OUTPUT_FIXES = {"find_files": "list", "import_spreadsheet": "table", "search_web": "links", "plot_chart": "chart"}
FOLLOWERS |= {"links": "fetch_web_page", "chart": SHARE + " upload_to_cloud"}

BOTH: dict[str, tuple[str, ...]] = {
    "send_email": ("mail both results to {person}", "send {person} one e-mail with both", "e-mail the two outcomes to {person}"),
    "post_chat_message": ("post both in {channel}", "share the two results in {channel}", "put both into {channel}"),
    "compress_files": ("zip both outputs together", "pack the two results into one archive", "bundle both in a ZIP"),
    "upload_to_cloud": ("upload both to the cloud", "store the two results online with a link", "put both in the bucket"),
}  # fmt: skip

THEN = (
    "Then {b}.", "After that, {b}.", "Next, {b}.", "When that is done, {b}.", "Afterwards {b}.", "And then {b}.",
    "With the result: {b}.", "Once you have it, {b}.", "Now {b}.", "Please also {b} afterwards.",
)  # fmt: skip
LAST = ("Finally, {b}.", "In the end, {b}.", "To finish, {b}.", "As a last step, {b}.")
GOAL_FIRST = (
    "In the end I want you to {b}. But first: {a}",
    "Your goal is to {b}, and this comes before it: {a}",
    "Before you {b}, do this: {a}",
)
ALSO = (
    "Also: {b}",
    "Besides: {b}",
    "And independently of that: {b}",
    "Another thing. {b}",
    "Secondly: {b}",
    "On top: {b}",
)
FAN_OUT = (
    "From the result, {b} and, separately, {c}.",
    "Do two things with it: {b}, and {c}.",
    "With what you get, {b}; with the same thing also {c}.",
)
AGAIN = ("And the same for {x}.", "Do it for {x} as well.", "Repeat this with {x}.", "Likewise for {x}.")
HELD_THEN = ("As soon as this is ready, {b}.", "Follow up: {b}.", "Having done so, {b}.", "Thereafter {b}.")
HELD_ALSO = ("Apart from that: {b}", "While you are at it: {b}", "One more job, unrelated: {b}")
OPENERS = ("Hi! ", "Please help. ", "Quick one: ", "Hello, ", "Good morning. ", "Could you do this? ", "Task for you: ")
CLOSERS = (" Thanks!", " It's urgent.", " No hurry.", " Thank you in advance.", " I'd appreciate it.", " Cheers")
CONTEXT = (
    "I'm on the train right now. ", "The client is waiting. ", "We have a deadline this week. ", "My boss asked for this. ",
    "It's for a school project. ", "I tried it myself and failed. ", "This is for the audit. ", "I'm new here. ",
    "Our usual tool is broken. ", "Last year we did this by hand. ", "I promised it to a friend. ",
)  # fmt: skip


@dataclass(frozen=True)
class Composed:
    """A request and its plan."""

    text: str
    steps: tuple[Step, ...]
    kind: str


class Composer:
    """Draws requests from a set of units in train or held-out wording."""

    def __init__(
        self, registry: ToolRegistry, units: list[Phrases], rng: np.random.Generator, held_out_share: float
    ) -> None:
        self.registry, self.rng, self.held_out_share = registry, rng, held_out_share
        self.units = {("@" if u.is_group else "") + u.name: u for u in units}
        self.tool_of = {key: self._tool(u) for key, u in self.units.items()}

    # ---- kinds ------------------------------------------------------------------------------------------------

    def single(self) -> Composed:
        """One call; a twin group is sometimes pinned to one of its tools by the wording."""
        text, step = self.ask(self.any_unit())
        if step.group and self.rng.random() < 0.15:
            text, step = self._pinned(text, step)
        return Composed(text, (step,), "single")

    def chain(self) -> Composed:
        """Two to five calls, each working on what the one before produced."""
        keys = self._path(int(self.rng.choice((2, 3, 4, 5), p=(0.5, 0.3, 0.13, 0.07))))
        text, step = self.ask(keys[0])
        steps, clauses = [step], []
        for index, key in enumerate(keys[1:]):
            clause, step = self.followup(key, steps[0].input_size, (index,))
            clauses.append(clause)
            steps.append(step)
        if len(keys) == 2 and self.rng.random() < 0.2:
            text = str(self.rng.choice(GOAL_FIRST)).format(a=text, b=clauses[0])
        else:
            for index, clause in enumerate(clauses):
                last = index == len(clauses) - 1 and index > 0 and self.rng.random() < 0.5
                text = f"{text} {str(self.rng.choice(LAST) if last else self._then()).format(b=clause)}"
        return Composed(text, tuple(steps), "chain" if len(steps) > 1 else "single")

    def parallel(self) -> Composed:
        """Two to four calls that have nothing to do with each other."""
        keys = self._distinct(int(self.rng.choice((2, 3, 4), p=(0.6, 0.3, 0.1))))
        asked = [self.ask(key) for key in keys]
        text = asked[0][0]
        for more, _ in asked[1:]:
            text = f"{text} {self._also().format(b=more)}"
        return Composed(text, tuple(step for _, step in asked), "parallel")

    def fan_out(self) -> Composed:
        """One result used twice, sometimes brought together again."""
        key, followers = self._with_followers(2)
        text, first = self.ask(key)
        second, third = (str(k) for k in self.rng.choice(followers, 2, replace=False))
        b, step_b = self.followup(second, first.input_size, (0,))
        c, step_c = self.followup(third, first.input_size, (0,))
        text = f"{text} {str(self.rng.choice(FAN_OUT)).format(b=b, c=c)}"
        steps = [first, step_b, step_c]
        if self.rng.random() < 0.4 and not {second, third} & set(BOTH):
            both, step_d = self._both((1, 2))
            text, steps = f"{text} {str(self.rng.choice(LAST)).format(b=both)}", [*steps, step_d]
        return Composed(text, tuple(steps), "dag")

    def fan_in(self) -> Composed:
        """Two independent results used by one call."""
        keys = self._distinct(2, exclude=set(BOTH))
        (text_a, step_a), (text_b, step_b) = self.ask(keys[0]), self.ask(keys[1])
        both, step_c = self._both((0, 1))
        last = str(self.rng.choice(LAST)).format(b=both)
        return Composed(f"{text_a} {self._also().format(b=text_b)} {last}", (step_a, step_b, step_c), "dag")

    def chain_and_other(self) -> Composed:
        """A chain of two beside an unrelated call."""
        key, followers = self._with_followers(1)
        other = self._distinct(1, exclude={key})[0]
        text, first = self.ask(key)
        clause, second = self.followup(str(self.rng.choice(followers)), first.input_size, (0,))
        text_c, third = self.ask(other)
        return Composed(
            f"{text} {self._then().format(b=clause)} {self._also().format(b=text_c)}", (first, second, third), "dag"
        )

    def repeated(self) -> Composed:
        """The same tool on two inputs."""
        while True:
            key = self.any_unit()
            template = self._template(key, followup=False)
            slot = next(
                (
                    s
                    for s in ("audio", "image", "video", "pdf", "text", "table", "doc", "code")
                    if f"{{{s}}}" in template
                ),
                None,
            )
            if slot:
                break
        one = fill(template, self.rng, self._held())
        other = fill("{" + slot + "}", self.rng, self._held())
        text = f"{_sentence(one.text)} {str(self.rng.choice(AGAIN)).format(x=other.text)}"
        return Composed(text, (self._step(key, one.size), self._step(key, other.size)), "parallel")

    # ---- parts ------------------------------------------------------------------------------------------------

    def ask(self, key: str) -> tuple[str, Step]:
        """A stand-alone request for a unit and its step."""
        filled = fill(self._template(key, followup=False), self.rng, self._held())
        return _sentence(filled.text), self._step(key, filled.size)

    def followup(self, key: str, size: str | None, depends_on: tuple[int, ...]) -> tuple[str, Step]:
        """A clause about the result of earlier steps; their size carries over."""
        filled = fill(self._template(key, followup=True), self.rng, self._held(), size)
        return filled.text, self._step(key, filled.size or size, depends_on)

    def dress(self, text: str) -> str:
        """Greetings, context that does not matter, and now and then a typo."""
        if self.rng.random() < 0.12:
            text = str(self.rng.choice(OPENERS)) + text
        if self.rng.random() < 0.15:
            text = str(self.rng.choice(CONTEXT)) + text
        if self.rng.random() < 0.12:
            text += str(self.rng.choice(CLOSERS))
        if self.rng.random() < 0.04:
            text = _typo(text, self.rng)
        return text[0].upper() + text[1:] if self.rng.random() < 0.9 else text.lower()

    def any_unit(self) -> str:
        return str(self.rng.choice(list(self.units)))

    def _step(self, key: str, size: str | None, depends_on: tuple[int, ...] = ()) -> Step:
        tool = self.tool_of[key]
        domain = next(t.removeprefix("domain:") for t in self.registry[tool].tags if t.startswith("domain:"))
        if domain in SMALL_BY_NATURE and not key.startswith("@"):
            size = "small"
        return Step(tool, depends_on, size or "medium", key[1:] if key.startswith("@") else None)

    def _pinned(self, text: str, step: Step) -> tuple[str, Step]:
        members = [t.name for t in self.registry if t.group == step.group]
        on_gpu = ("Use the GPU model.", "It has to run on the graphics card.", "Take the big model on the GPU.")
        on_cpu = ("Run it on CPU cores only.", "Use the light CPU version.", "Keep the graphics card out of it.")
        gpu = next(m for m in members if "_gpu" in m or "large" in m or "neural" in m)
        cpu = next(m for m in members if m != gpu)
        name, wording = (gpu, on_gpu) if self.rng.random() < 0.5 else (cpu, on_cpu)
        return f"{text} {self.rng.choice(wording)}", Step(name, step.depends_on, step.input_size, None)

    def _both(self, depends_on: tuple[int, ...]) -> tuple[str, Step]:
        key = str(self.rng.choice(list(BOTH)))
        phrases = BOTH[key] if self._held() else BOTH[key][:2]
        return fill(str(self.rng.choice(phrases)), self.rng, self._held()).text, self._step(key, "medium", depends_on)

    def _template(self, key: str, followup: bool) -> str:
        unit = self.units[key]
        seen, held = (unit.followups, unit.held_out_followups) if followup else (unit.asks, unit.held_out_asks)
        options = held if (held and (self._held() or not seen)) else seen
        return str(self.rng.choice(options))

    def _followers(self, key: str) -> list[str]:
        tool = self.tool_of[key]
        output = OUTPUT_FIXES.get(tool, self.registry[tool].output_types[0])
        return [k for k in FOLLOWERS.get(output, "").split() if k in self.units and k != key and self._can_follow(k)]

    def _can_follow(self, key: str) -> bool:
        unit = self.units[key]
        return bool(unit.followups or unit.held_out_followups)

    def _path(self, length: int) -> list[str]:
        key, _ = self._with_followers(1)
        path = [key]
        while len(path) < length:
            options = [k for k in self._followers(path[-1]) if k not in path]
            if not options:
                break
            path.append(str(self.rng.choice(options)))
        return path

    def _with_followers(self, count: int) -> tuple[str, list[str]]:
        while True:
            key = self.any_unit()
            followers = self._followers(key)
            if len(followers) >= count:
                return key, followers

    def _distinct(self, count: int, exclude: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
        options = [k for k in self.units if k not in exclude]
        return [str(k) for k in self.rng.choice(options, count, replace=False)]

    def _tool(self, unit: Phrases) -> str:
        if not unit.is_group:
            return self.registry[unit.name].name
        return next(t.name for t in self.registry if t.group == unit.name)

    def _held(self) -> bool:
        return bool(self.rng.random() < self.held_out_share)

    def _then(self) -> str:
        return str(self.rng.choice(HELD_THEN if self._held() and self.rng.random() < 0.5 else THEN))

    def _also(self) -> str:
        return str(self.rng.choice(HELD_ALSO if self._held() and self.rng.random() < 0.5 else ALSO))


def _sentence(text: str) -> str:
    """Ends with punctuation, so that another sentence can follow."""
    return text if text.endswith((".", "?", "!")) else text + "."


def _typo(text: str, rng: np.random.Generator) -> str:
    """Swaps, drops or doubles one letter inside a word."""
    places = [i for i in range(1, len(text) - 2) if text[i].isalpha() and text[i + 1].isalpha()]
    if not places:
        return text
    i = int(rng.choice(places))
    return str(
        rng.choice(
            [text[:i] + text[i + 1] + text[i] + text[i + 2 :], text[:i] + text[i + 1 :], text[: i + 1] + text[i:]]
        )
    )
