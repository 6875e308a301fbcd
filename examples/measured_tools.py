"""Real CPU tools, measured: describe them, measure them on your machine, plan with what was measured.

    tomas profile examples/measured_tools.py:tools --configs 1 2 --out measured.csv --registry-out measured.json
    tomas plan "..." --registry measured.json --profiling measured.csv

Run as a program, it plans with the profile that is in the repository. Inputs are generated from fixed seeds. Libraries
are imported by the tools that use them, so that a measured process holds no more than its tool needs.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import random
import re
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tomas_router.profiling import ProfiledTool

MIB = 2**20
WORDS = [
    f"{a}{b}{c}"
    for a in ("re", "con", "pro", "sub")
    for b in ("port", "mit", "sult", "quest")
    for c in ("ed", "ing", "s")
]


def cores() -> int:
    """How many CPUs this process may use; tools with threads of their own start as many."""
    return len(os.sched_getaffinity(0))


# --- inputs ----------------------------------------------------------------------------------------------------------


@cache
def text(characters: int) -> str:
    """Sentences of made-up words, with an e-mail address now and then."""
    rng = random.Random(7)
    parts, length = [], 0
    while length < characters:
        sentence = " ".join(rng.choices(WORDS, k=rng.randint(5, 15)))
        if rng.random() < 0.05:
            sentence += f" {rng.choice(WORDS)}.{rng.choice(WORDS)}@example.org"
        parts.append(sentence.capitalize() + ". ")
        length += len(parts[-1])
    return "".join(parts)[:characters]


def file(mib: int) -> dict[str, Any]:
    return {"data": text(mib * MIB).encode()}


def files(number: int) -> dict[str, Any]:
    return {"files": [text(MIB).encode()] * number}


def picture(megapixels: float) -> dict[str, Any]:
    import numpy as np
    from PIL import Image

    width = int((megapixels * 1e6 * 4 / 3) ** 0.5)
    pixels = np.random.default_rng(7).integers(0, 255, (width * 3 // 4, width, 3), dtype=np.uint8)
    return {"image": Image.fromarray(pixels)}


def page(paragraphs: int) -> dict[str, Any]:
    paragraph = f"<div class='p'><p>{text(400)}</p><a href='/x'>more &amp; more</a><script>var x = 1;</script></div>"
    return {"html": f"<html><body>{paragraph * paragraphs}</body></html>"}


def sales(rows: int) -> list[tuple[int, int, float]]:
    rng = random.Random(7)
    return [(rng.randrange(1000), rng.randrange(50), rng.random() * 100) for _ in range(rows)]


def database(rows: int) -> dict[str, Any]:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE sales (customer INTEGER, region INTEGER, amount REAL)")
    connection.executemany("INSERT INTO sales VALUES (?, ?, ?)", sales(rows))
    return {"connection": connection}


def frame(rows: int) -> Any:
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(7)
    columns = {
        "customer": rng.integers(0, 10_000, rows),
        "region": rng.integers(0, 50, rows),
        "amount": rng.random(rows),
    }
    return pd.DataFrame(columns)


def csv_file(rows: int) -> dict[str, Any]:
    return {"csv": frame(rows).to_csv(index=False)}


def records(number: int) -> dict[str, Any]:
    rng = random.Random(7)
    made = [
        {"id": i, "user": {"name": rng.choice(WORDS), "tags": rng.choices(WORDS, k=3)}, "amounts": [rng.random()] * 4}
        for i in range(number)
    ]
    return {"document": json.dumps(made)}


def matrices(width: int) -> dict[str, Any]:
    import numpy as np

    rng = np.random.default_rng(7)
    return {"a": rng.random((width, width)), "b": rng.random((width, width))}


def numbers(count: int) -> dict[str, Any]:
    import numpy as np

    return {"values": np.random.default_rng(7).random(count)}


def recording(seconds: int) -> dict[str, Any]:
    import numpy as np

    return {"samples": np.random.default_rng(7).standard_normal(seconds * 44_100).astype(np.float32)}


def sentences(number: int) -> dict[str, Any]:
    return {"texts": text(number * 80).split(". ")[:number]}


# --- tools -----------------------------------------------------------------------------------------------------------


def gzip_compress(data: bytes) -> bytes:
    """Compress a file quickly with gzip, on one core."""
    return gzip.compress(data, compresslevel=6)


def xz_compress(data: bytes) -> bytes:
    """Compress a file as small as possible with xz; slow and thorough."""
    return lzma.compress(data, preset=6)


def archive_folder(files: list[bytes]) -> list[bytes]:
    """Compress all files of a folder for a backup, several at a time on all cores."""
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(gzip_compress, files))


def verify_checksums(files: list[bytes]) -> list[str]:
    """Compute the SHA-256 checksums of files to verify a download or a backup."""
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(lambda data: hashlib.sha256(data).hexdigest(), files))


def resize_image(image: Any) -> Any:
    """Resize a photo to a thumbnail or another resolution, with high quality."""
    from PIL import Image

    return image.resize((image.width // 3, image.height // 3), Image.Resampling.LANCZOS)


def blur_image(image: Any) -> Any:
    """Blur a picture, for example to hide faces or licence plates."""
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(8))


def html_to_text(html: str) -> str:
    """Extract the readable text of a web page, without tags and scripts."""
    parts: list[str] = []
    hidden = 0

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):  # noqa: ARG002
            nonlocal hidden
            hidden += tag in ("script", "style")

        def handle_endtag(self, tag):
            nonlocal hidden
            hidden -= tag in ("script", "style")

        def handle_data(self, data):
            if not hidden:
                parts.append(data)

    Reader().feed(html)
    return "".join(parts)


def query_database(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Run a SQL query on a sqlite database: totals and averages by group."""
    return connection.execute(
        "SELECT region, COUNT(DISTINCT customer), SUM(amount), AVG(amount) FROM sales GROUP BY region ORDER BY 3 DESC"
    ).fetchall()


def group_table(table: Any) -> Any:
    """Group the rows of a table or dataframe and aggregate sums, means and medians."""
    return table.groupby(["customer", "region"])["amount"].agg(["sum", "mean", "median"])


def join_tables(left: Any, right: Any) -> Any:
    """Join two tables or dataframes on a common key column."""
    return left.merge(right, on="customer")


def read_csv_table(csv: str) -> Any:
    """Load a CSV file into a table and work out its column types."""
    import pandas as pd

    return pd.read_csv(io.StringIO(csv))


def embed_texts(texts: list[str]) -> Any:
    """Compute embedding vectors of sentences for semantic search or clustering."""
    import numpy as np

    return np.stack([_encoder(cores()).retrieval_vector(sentence) for sentence in texts])


@cache
def _encoder(threads: int) -> Any:
    from tomas_router import shipped
    from tomas_router.engines.onnx_engine import OnnxEngine

    return OnnxEngine.load(shipped.model_dir(), intra_op_num_threads=threads)


def search_pattern(document: str) -> list[str]:
    """Search text for a pattern with a regular expression, such as all e-mail addresses."""
    return re.findall(r"[\w.]+@[\w.]+\.\w+", document)


def count_words(document: str) -> list[tuple[str, int]]:
    """Count how often each word occurs in a text and list the most frequent."""
    return Counter(re.findall(r"\w+", document.lower())).most_common(100)


def transform_json(document: str) -> str:
    """Parse JSON records, flatten nested fields, and write them as JSON again."""
    flat = [
        {"id": r["id"], "name": r["user"]["name"], "tags": ",".join(r["user"]["tags"]), "total": sum(r["amounts"])}
        for r in json.loads(document)
    ]
    return json.dumps(flat)


def multiply_matrices(a: Any, b: Any) -> Any:
    """Multiply two large matrices."""
    return a @ b


def solve_equations(a: Any, b: Any) -> Any:
    """Solve a system of linear equations."""
    import numpy as np

    return np.linalg.solve(a, b)


def sort_numbers(values: Any) -> Any:
    """Sort a long list of numbers."""
    import numpy as np

    return np.sort(values)


def resample_audio(samples: Any) -> Any:
    """Resample an audio recording from 44.1 kHz to 16 kHz."""
    import numpy as np

    # 44,100 : 16,000 = 441 : 160; the spectrum is cut at the new Nyquist frequency, block by block
    blocks = samples[: len(samples) // 44_100 * 44_100].reshape(-1, 44_100)
    spectrum = np.fft.rfft(blocks, axis=1)[:, : 16_000 // 2 + 1]
    return (np.fft.irfft(spectrum, n=16_000, axis=1) * (16_000 / 44_100)).astype(np.float32).ravel()


def audio_spectrogram(samples: Any) -> Any:
    """Compute the spectrogram of an audio recording to look at its frequencies."""
    import numpy as np

    frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::256] * np.hanning(1024).astype(np.float32)
    return np.abs(np.fft.rfft(frames, axis=1))


def sized(make: Any, small: float, medium: float, large: float) -> dict[str, Any]:
    """Inputs of three sizes, made by ``make`` when a run needs one."""
    return {"small": lambda: make(small), "medium": lambda: make(medium), "large": lambda: make(large)}


tools = [
    ProfiledTool(gzip_compress, sized(file, 1, 8, 32)),
    ProfiledTool(xz_compress, sized(file, 1, 2, 6)),
    ProfiledTool(archive_folder, sized(files, 8, 32, 96)),
    ProfiledTool(verify_checksums, sized(files, 16, 128, 768)),
    ProfiledTool(resize_image, sized(picture, 2, 12, 50)),
    ProfiledTool(blur_image, sized(picture, 0.5, 3, 12)),
    ProfiledTool(html_to_text, sized(page, 1000, 5000, 20_000)),
    ProfiledTool(query_database, sized(database, 30_000, 150_000, 600_000)),
    ProfiledTool(group_table, sized(lambda rows: {"table": frame(rows)}, 200_000, 1_000_000, 5_000_000)),
    ProfiledTool(
        join_tables,
        sized(lambda rows: {"left": frame(rows), "right": frame(20_000)}, 200_000, 1_000_000, 5_000_000),
    ),
    ProfiledTool(read_csv_table, sized(csv_file, 50_000, 300_000, 1_500_000)),
    ProfiledTool(embed_texts, sized(sentences, 4, 32, 128)),
    ProfiledTool(search_pattern, sized(lambda mib: {"document": text(mib * MIB)}, 1, 4, 16)),
    ProfiledTool(count_words, sized(lambda mib: {"document": text(mib * MIB)}, 1, 4, 12)),
    ProfiledTool(transform_json, sized(records, 5000, 50_000, 200_000)),
    ProfiledTool(multiply_matrices, sized(matrices, 500, 1500, 3000)),
    ProfiledTool(solve_equations, sized(matrices, 400, 1000, 2000)),
    ProfiledTool(sort_numbers, sized(numbers, 1_000_000, 10_000_000, 40_000_000)),
    ProfiledTool(resample_audio, sized(recording, 30, 240, 900)),
    ProfiledTool(audio_spectrogram, sized(recording, 20, 100, 300)),
]


def main() -> None:
    """Plans a request with these tools and what the repository's machine measured."""
    from tomas_router import Planner, SystemTimeline, load_profiling_matrix, load_tool_registry

    data = Path(__file__).parents[1] / "data"
    registry = load_tool_registry(data / "tool_registry" / "measured_cpu.json")
    profiling = load_profiling_matrix(data / "profiling" / "measured_cpu.csv", registry)
    two_cores = SystemTimeline.from_rows([(0, 2, 4, 0, 0)])
    request = "Read the CSV export into a table, then group its rows by region and sum the amounts."
    plan = Planner.load().plan(request, registry, profiling, two_cores)
    print(plan.status)
    for step in plan.steps:
        print(step.id, step.tool_name, step.input_size, step.source, step.resource_config, step.expected_latency_ms)


if __name__ == "__main__":
    main()
