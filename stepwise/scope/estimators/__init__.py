"""Estimators: from fingerprints to what a model will do on a new question."""

from stepwise.scope.estimators.base import Beliefs, Estimator
from stepwise.scope.estimators.combination import Candidate, Combination
from stepwise.scope.estimators.difficulty import PooledDifficulty
from stepwise.scope.estimators.language_model import LanguageModel
from stepwise.scope.estimators.mean import ModelMean
from stepwise.scope.estimators.neighbours import Neighbours
from stepwise.scope.estimators.ridge import ModelRidge

__all__ = [
    "Beliefs",
    "Candidate",
    "Combination",
    "Estimator",
    "LanguageModel",
    "ModelMean",
    "ModelRidge",
    "Neighbours",
    "PooledDifficulty",
]
