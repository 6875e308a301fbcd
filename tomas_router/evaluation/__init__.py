"""Scores a planner and trivial baselines on the same rows; numpy, with scikit-learn as the extra ``eval``."""
