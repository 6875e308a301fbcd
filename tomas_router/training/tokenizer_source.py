"""Finds or makes the ``tokenizer.json`` that belongs to a backbone."""

from __future__ import annotations

from pathlib import Path

from tomas_router.config import BackboneConfig
from tomas_router.shipped import model_dir


def tokenizer_for(backbone: BackboneConfig, run_dir: Path) -> Path:
    """Path of the backbone's tokenizer file.

    A local directory has its own; ``random`` backbones borrow the packaged one; a hub id's is fetched and written to
    the run directory.

    Raises:
        FileNotFoundError: The packaged model, whose tokenizer a random backbone borrows, is not there.
    """
    local = Path(backbone.source) / "tokenizer.json"
    if local.exists():
        return local
    if backbone.source == "random":
        packaged = model_dir() / "tokenizer.json"
        if not packaged.exists():
            raise FileNotFoundError(f"{packaged} is missing; a random backbone borrows the packaged tokenizer")
        return packaged
    from transformers import AutoTokenizer

    fetched = AutoTokenizer.from_pretrained(backbone.source)
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "tokenizer.json"
    tokenizer = fetched.backend_tokenizer
    tokenizer.save(str(path))
    return path
