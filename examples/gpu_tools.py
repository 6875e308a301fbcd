"""Eight GPU tools to measure: networks of well-known shapes; weights are random, for latency needs no training.

    python -m benchmarks.gpu_profile --raw raw.jsonl      # over shares of a GPU, see docs/profiling.md
    tomas profile examples/gpu_tools.py:tools --configs gpu_sm=100 --out gpu.csv   # or one by one, on a whole GPU

Run as a program, it runs each tool once on a very small network, on the CPU if need be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZES = ("small", "medium", "large")
Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Workload:
    """One tool: a network, and how to run it on so many units of work."""

    name: str
    desc: str
    unit: str
    units: tuple[int, int, int]
    """Of a small, a medium and a large input."""
    build: Callable[[bool], nn.Module]
    """Makes the network, very small if asked."""
    prepare: Callable[[Any, int], Run]
    """Makes an input of so many units on the network's device, and what runs on it."""

    def units_of(self, size: str, tiny: bool) -> int:
        """How much work an input of this size is."""
        return (1, 2, 3)[SIZES.index(size)] if tiny else self.units[SIZES.index(size)]


# --- parts -----------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Attention of several heads; keys and values may have fewer, and may come from somewhere else."""

    def __init__(self, width: int, heads: int, kv_heads: int | None = None, context_width: int | None = None) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads or heads, width // heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width or width, 2 * self.kv_heads * self.head_width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, context_BSD: Tensor | None = None, causal: bool = False, memory: Any = None):
        B, T, D = x_BTD.shape
        q = self.query(x_BTD).view(B, T, self.heads, self.head_width).transpose(1, 2)
        key_value = self.key_value(x_BTD if context_BSD is None else context_BSD)
        k, v = key_value.view(B, -1, 2, self.kv_heads, self.head_width).permute(2, 0, 3, 1, 4)
        if memory is not None:  # (keys, values) of what came before, and the place of the new token
            keys, values, place = memory
            keys[:, :, place : place + T], values[:, :, place : place + T] = k, v
            k, v = keys[:, :, : place + T], values[:, :, : place + T]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=self.kv_heads != self.heads)
        return self.out(mixed.transpose(1, 2).reshape(B, T, D))


class Block(nn.Module):
    """A transformer layer with the norm in front."""

    def __init__(self, width: int, heads: int, hidden: int, kv_heads: int | None = None) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, kv_heads)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x_BTD: Tensor, causal: bool = False, memory: Any = None) -> Tensor:
        x_BTD = x_BTD + self.attention(self.norm_1(x_BTD), causal=causal, memory=memory)
        return x_BTD + self.down(F.gelu(self.up(self.norm_2(x_BTD))))


class Residual(nn.Module):
    """Two convolutions around which the input passes; channels and resolution may change."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1, time_width: int = 0) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.GroupNorm(8, channels_in), nn.GroupNorm(8, channels)
        self.conv_1 = nn.Conv2d(channels_in, channels, 3, stride, 1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.time = nn.Linear(time_width, channels) if time_width else None
        same = channels_in == channels and stride == 1
        self.short = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1, stride)

    def forward(self, x_BCHW: Tensor, time_BD: Tensor | None = None) -> Tensor:
        y_BCHW = self.conv_1(F.silu(self.norm_1(x_BCHW)))
        if self.time is not None and time_BD is not None:
            y_BCHW = y_BCHW + self.time(time_BD)[:, :, None, None]
        return self.conv_2(F.silu(self.norm_2(y_BCHW))) + self.short(x_BCHW)


# --- networks --------------------------------------------------------------------------------------------------------


class VisionTransformer(nn.Module):
    """The shape of ViT-B/16: 87 million weights."""

    def __init__(self, pixels: int = 224, width: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.pixels = pixels
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.places = nn.Parameter(torch.randn(1, (pixels // 16) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))
        self.head = nn.Linear(width, 1000)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x_BTD = self.patches(image_BCHW).flatten(2).transpose(1, 2) + self.places
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.head(x_BTD.mean(1))


class Detector(nn.Module):
    """A residual network with a pyramid of three resolutions and a head that says class and box for every place."""

    def __init__(self, pixels: int = 640, width: int = 64, depths: tuple[int, ...] = (3, 4, 6, 3)) -> None:
        super().__init__()
        self.pixels = pixels
        self.stem = nn.Conv2d(3, width, 7, 4, 3)
        widths = [width * 2**i for i in range(len(depths))]
        self.stages = nn.ModuleList(
            nn.Sequential(
                Residual(widths[max(i - 1, 0)], widths[i], 1 if i == 0 else 2),
                *(Residual(widths[i], widths[i]) for _ in range(depth - 1)),
            )
            for i, depth in enumerate(depths)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(w, 4 * width, 1) for w in widths[1:])
        self.head = nn.Sequential(
            nn.Conv2d(4 * width, 4 * width, 3, 1, 1), nn.SiLU(), nn.Conv2d(4 * width, 80 + 4, 3, 1, 1)
        )

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x = F.silu(self.stem(image_BCHW))
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        found, above = [], None
        for conv, level in zip(reversed(self.lateral), reversed(levels[1:]), strict=True):
            here = conv(level)
            above = here if above is None else here + F.interpolate(above, size=here.shape[-2:], mode="nearest")
            found.append(self.head(above).flatten(2))
        return torch.cat(found, 2)


class SpeechEncoder(nn.Module):
    """The shape of Whisper-medium's encoder on 30 seconds: 306 million weights."""

    def __init__(self, frames: int = 3000, width: int = 1024, depth: int = 24, heads: int = 16) -> None:
        super().__init__()
        self.frames = frames
        self.conv_1, self.conv_2 = nn.Conv1d(80, width, 3, 1, 1), nn.Conv1d(width, width, 3, 2, 1)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))

    def forward(self, mel_BCT: Tensor) -> Tensor:
        x_BTD = F.gelu(self.conv_2(F.gelu(self.conv_1(mel_BCT)))).transpose(1, 2)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return x_BTD


class TextEncoder(nn.Module):
    """The shape of BERT-base, pooled to one vector a text: 108 million weights."""

    def __init__(self, words: int = 30_522, width: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = self.words(ids_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return F.normalize(x_BTD.mean(1), dim=-1)


class LanguageModel(nn.Module):
    """A decoder of 1.4 billion weights in the proportions of Qwen2.5-1.5B; eager, without rotary positions."""

    def __init__(
        self, words: int = 151_936, width: int = 1536, depth: int = 28, heads: int = 12, kv_heads: int = 2
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.blocks = nn.ModuleList(Block(width, heads, 8 * width, kv_heads) for _ in range(depth))

    def prefill(self, ids_BT: Tensor) -> Tensor:
        x_BTD = self.words(ids_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, causal=True)
        return (x_BTD[:, -1] @ self.words.weight.T).argmax(-1)

    def decode(self, ids_B1: Tensor, memories: list[Any], tokens: int, place: int) -> Tensor:
        for step in range(tokens):
            x_B1D = self.words(ids_B1)
            for block, (keys, values) in zip(self.blocks, memories, strict=True):
                x_B1D = block(x_B1D, memory=(keys, values, place + step))
            ids_B1 = (x_B1D @ self.words.weight.T).argmax(-1)
        return ids_B1

    def memories(self, batch: int, length: int) -> list[tuple[Tensor, Tensor]]:
        """Room for keys and values of ``length`` tokens in each layer."""
        attention = self.blocks[0].attention
        shape = (batch, attention.kv_heads, length, attention.head_width)
        weight = self.words.weight
        return [(weight.new_zeros(shape), weight.new_zeros(shape)) for _ in self.blocks]


class DenoisingUNet(nn.Module):
    """One step of image diffusion on 64 x 64 latents, with attention to a text: 565 million weights."""

    def __init__(self, side: int = 64, width: int = 320, heads: int = 8, text_width: int = 768) -> None:
        super().__init__()
        self.side, self.text_width = side, text_width
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.first, self.last = nn.Conv2d(4, width, 3, 1, 1), nn.Conv2d(width, 4, 3, 1, 1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = width
        for i, w in enumerate(widths):
            for block in range(2):
                stride = 2 if i > 0 and block == 0 else 1
                self.down.append(_Level(before, w, stride, 4 * width, heads if i < 3 else 0, text_width))
                before = w
        self.middle = _Level(before, before, 1, 4 * width, heads, text_width)
        for i, w in reversed(list(enumerate(widths))):
            for _ in range(2):
                self.up.append(_Level(before + w, w, 1, 4 * width, heads if i < 3 else 0, text_width))
                before = w

    def forward(self, latent_BCHW: Tensor, time_BD: Tensor, text_BSD: Tensor) -> Tensor:
        time_BD = self.time(time_BD)
        x = self.first(latent_BCHW)
        kept = []
        for level in self.down:
            x = level(x, time_BD, text_BSD)
            kept.append(x)
        x = self.middle(x, time_BD, text_BSD)
        for level in self.up:
            beside = kept.pop()
            x = F.interpolate(x, size=beside.shape[-2:], mode="nearest") if x.shape[-1] != beside.shape[-1] else x
            x = level(torch.cat((x, beside), 1), time_BD, text_BSD)
        return self.last(x)


class _Level(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int, time_width: int, heads: int, text: int) -> None:
        super().__init__()
        self.residual = Residual(channels_in, channels, stride, time_width)
        self.own = Block(channels, heads, 4 * channels) if heads else None
        self.text = Attention(channels, heads, context_width=text) if heads else None

    def forward(self, x_BCHW: Tensor, time_BD: Tensor, text_BSD: Tensor) -> Tensor:
        x_BCHW = self.residual(x_BCHW, time_BD)
        if self.own is None or self.text is None:
            return x_BCHW
        x_BTD = self.own(x_BCHW.flatten(2).transpose(1, 2))
        x_BTD = x_BTD + self.text(x_BTD, text_BSD)
        return x_BTD.transpose(1, 2).reshape(x_BCHW.shape)


class Upscaler(nn.Module):
    """Residual convolutions at full resolution, then twice the width and height."""

    def __init__(self, height: int = 540, width: int = 960, channels: int = 64, depth: int = 8) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.first = nn.Conv2d(3, channels, 3, 1, 1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, 1, 1))
            for _ in range(depth)
        )
        self.last = nn.Conv2d(channels, 12, 3, 1, 1)

    def forward(self, frame_BCHW: Tensor) -> Tensor:
        x = self.first(frame_BCHW)
        for block in self.body:
            x = x + block(x)
        return F.pixel_shuffle(self.last(x), 2)


# --- tools -----------------------------------------------------------------------------------------------------------


def place(network: Any, tiny: bool = False) -> Any:
    """Where and how a network runs: bfloat16 on a GPU, float32 on the CPU."""
    network = network.eval().requires_grad_(False)
    if tiny or not torch.cuda.is_available():
        return network
    return network.to("cuda", torch.bfloat16, memory_format=torch.channels_last if _is_image_net(network) else None)


def _is_image_net(network: nn.Module) -> bool:
    return isinstance(network, (Detector, DenoisingUNet, Upscaler))


def _like(network: nn.Module, *shape: int) -> Tensor:
    weight = next(network.parameters())
    made = torch.randn(shape, device=weight.device, dtype=weight.dtype)
    return made.contiguous(memory_format=torch.channels_last) if _is_image_net(network) and len(shape) == 4 else made


def _ids(network: Any, *shape: int) -> Tensor:
    return torch.randint(0, network.words.num_embeddings, shape, device=network.words.weight.device)


def _classify(network: VisionTransformer, images: int) -> Run:
    given = _like(network, images, 3, network.pixels, network.pixels)
    return lambda: network(given)


def _detect(network: Detector, images: int) -> Run:
    given = _like(network, images, 3, network.pixels, network.pixels)
    return lambda: network(given)


def _hear(network: SpeechEncoder, segments: int) -> Run:
    given = _like(network, segments, 80, network.frames)
    return lambda: network(given)


def _embed(network: TextEncoder, texts: int) -> Run:
    given = _ids(network, texts, 256)
    return lambda: network(given)


def _prefill(network: LanguageModel, tokens: int) -> Run:
    given = _ids(network, 1, tokens)
    return lambda: network.prefill(given)


def _decode(network: LanguageModel, tokens: int, batch: int = 8, before: int = 1024) -> Run:
    given, memories = _ids(network, batch, 1), network.memories(batch, before + tokens)
    return lambda: network.decode(given, memories, tokens, before)


def _denoise(network: DenoisingUNet, images: int) -> Run:
    latent = _like(network, images, 4, network.side, network.side)
    time = _like(network, images, network.first.out_channels)
    text = _like(network, images, 77, network.text_width)
    return lambda: network(latent, time, text)


def _upscale(network: Upscaler, frames: int) -> Run:
    given = _like(network, frames, 3, network.height, network.width)
    return lambda: network(given)


def _language_model(tiny: bool) -> LanguageModel:
    return LanguageModel(100, 64, 2, 4, 2) if tiny else LanguageModel()


WORKLOADS = (
    Workload(
        "classify_images_vit", "Classify photos with a vision transformer into a thousand kinds of things.",
        "images", (1, 16, 64), lambda tiny: VisionTransformer(32, 64, 2, 4) if tiny else VisionTransformer(), _classify,
    ),
    Workload(
        "detect_objects", "Find objects in pictures and draw a box around each, with its class.",
        "images", (1, 4, 16), lambda tiny: Detector(64, 8, (1, 1, 1, 1)) if tiny else Detector(), _detect,
    ),
    Workload(
        "encode_speech", "Listen to audio recordings: the encoder of a speech recogniser, on segments of 30 seconds.",
        "segments", (1, 4, 16), lambda tiny: SpeechEncoder(40, 64, 2, 4) if tiny else SpeechEncoder(), _hear,
    ),
    Workload(
        "embed_passages", "Compute embedding vectors of text passages for semantic search.",
        "texts", (8, 64, 256), lambda tiny: TextEncoder(100, 64, 2, 4) if tiny else TextEncoder(), _embed,
    ),
    Workload(
        "read_prompt_llm", "Read a long prompt with a language model and say the first token of the answer.",
        "tokens", (512, 2048, 8192), _language_model, _prefill,
    ),
    Workload(
        "write_answer_llm", "Write answers token by token with a language model, for eight conversations at once.",
        "tokens", (4, 16, 48), _language_model, _decode,
    ),
    Workload(
        "denoise_image", "Draw an image from a text by diffusion: one denoising step of its U-Net.",
        "images", (1, 4, 8), lambda tiny: DenoisingUNet(8, 32, 4, 16) if tiny else DenoisingUNet(), _denoise,
    ),
    Workload(
        "upscale_video_frames", "Upscale video frames from 960 x 540 to 1920 x 1080 with a convolutional network.",
        "frames", (1, 4, 8), lambda tiny: Upscaler(16, 24, 8, 2) if tiny else Upscaler(), _upscale,
    ),
)  # fmt: skip


def tools() -> list[Any]:
    """The tools as ``tomas profile`` takes them; the network is made once in a process, the input before every run."""
    from tomas_router.profiling import ProfiledTool

    return [
        ProfiledTool(
            run_and_wait,
            {size: _inputs(workload, size) for size in SIZES},
            name=workload.name,
            desc=workload.desc,
        )
        for workload in WORKLOADS
    ]


def run_and_wait(run: Run) -> Tensor:
    """Runs a prepared tool and waits until the GPU is done."""
    with torch.inference_mode():
        result = run()
    if result.is_cuda:
        torch.cuda.synchronize()
    return result


def _inputs(workload: Workload, size: str) -> Callable[[], dict[str, Any]]:
    return lambda: {"run": workload.prepare(_network(workload.name), workload.units_of(size, tiny=False))}


@cache
def _network(name: str) -> Any:
    workload = next(workload for workload in WORKLOADS if workload.name == name)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return place(workload.build(False))


def main() -> None:
    """Runs every tool once, very small."""
    for workload in WORKLOADS:
        network = place(workload.build(True), tiny=True)
        weights = sum(weight.numel() for weight in network.parameters())
        result = run_and_wait(workload.prepare(network, workload.units_of("small", tiny=True)))
        finite = math.isfinite(float(result.float().sum()))
        print(f"{workload.name}: {weights:,} weights, result {tuple(result.shape)}, finite: {finite}")


if __name__ == "__main__":
    main()
