"""Pre-processing in numpy: written once, used by training and by every engine."""
