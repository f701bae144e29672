"""Evaluation: what a model's boxes are worth against annotated ones. Pure functions of both."""
