"""A set of cases through the network and through the measures; what `eval` shows and training selects by.

Two runs beside each other are in `unetcli.evaluation.comparison`, whose statistics take long to import.
"""

from unetcli.evaluation.agreement import Agreement, compare
from unetcli.evaluation.folds import over_folds
from unetcli.evaluation.measuring import CaseResult, LabelledCase, Measures, Prediction, Segment, evaluate, one_by_one
from unetcli.evaluation.results import Evaluation, Value
from unetcli.evaluation.selection import dotted, selectable

__all__ = [
    "Agreement",
    "CaseResult",
    "Evaluation",
    "LabelledCase",
    "Measures",
    "Prediction",
    "Segment",
    "Value",
    "compare",
    "dotted",
    "evaluate",
    "one_by_one",
    "over_folds",
    "selectable",
]
