"""Evaluation: suites of questions, runs that keep every answer, comparisons, a gate, reports."""
