"""Exports a trained checkpoint to ONNX. Run as a module: ``python -m export.onnx``."""
