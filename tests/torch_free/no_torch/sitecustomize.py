"""Put this folder on PYTHONPATH, and importing anything of the torch side raises."""

import sys
from importlib.abc import MetaPathFinder

BLOCKED = {
    "accelerate",
    "langchain",
    "langchain_core",
    "langgraph",
    "onnx",
    "onnxscript",
    "optimum",
    "peft",
    "safetensors",
    "torch",
    "transformers",
}


class _Blocker(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{fullname} must not be imported while planning", name=fullname)


sys.meta_path.insert(0, _Blocker())
