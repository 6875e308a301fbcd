"""What runs the trained network: ONNX Runtime for users, torch for training and parity checks."""
