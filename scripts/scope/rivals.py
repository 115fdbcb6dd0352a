"""Routers of the literature, trained on what SCOPE is given: the anchors and what the models did there.

kNN ("simple kNN", arXiv 2505.12601), support vectors and matrix factorisation predict every model's value;
a two-model router (RouteLLM, arXiv 2406.18665) predicts whether a question needs the strong model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.optimize import minimize
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVR

from scripts.scope.cut import Cut
from scripts.scope.measures import Array
from stepwise.scope.estimators.base import sigmoid

SEED = 0
DIMENSIONS, RANK, STIFFNESS = 64, 8, 1e-3


def outcomes(cut: Cut) -> Array:
    """On the anchors, [m, n]; a model's mean where it has not answered."""
    return np.where(cut.known.seen, cut.known.value, cut.known.mean[:, None])


def knn(cut: Cut) -> Array:
    """Mean outcome of the k nearest anchors, k by cross-validation; [m, q]."""
    grid = {"n_neighbors": [k for k in (5, 10, 20, 40) if k < 0.8 * len(cut.known.anchors.questions)]}
    search = GridSearchCV(
        KNeighborsRegressor(metric="precomputed"), grid, cv=5, scoring="neg_mean_squared_error"
    )
    distance = np.maximum(1 - cut.known.among.similarity, 0.0)
    search.fit(distance, outcomes(cut).T)
    return np.asarray(search.predict(np.maximum(1 - cut.compared.similarity, 0.0))).T


def svm(cut: Cut) -> Array:
    """Support vector regression per model, C by cross-validation; [m, q]."""
    search = GridSearchCV(
        SVR(kernel="precomputed"), {"C": [0.1, 1.0, 10.0]}, cv=5, scoring="neg_mean_squared_error"
    )
    rows = [
        search.fit(cut.known.among.similarity, row).predict(cut.compared.similarity) for row in outcomes(cut)
    ]
    return np.array(rows)


def spaces(cut: Cut) -> tuple[Array, Array]:
    """Anchors and questions in few dimensions, standardised."""
    size = min(DIMENSIONS, len(cut.known.anchors.questions) - 1)
    reduce = TruncatedSVD(size, random_state=SEED).fit(cut.known.among.similarity)
    near, far = (reduce.transform(part.similarity) for part in (cut.known.among, cut.compared))
    centre, scale = near.mean(axis=0), near.std(axis=0) + 1e-9
    return (near - centre) / scale, (far - centre) / scale


def factorised(cut: Cut) -> Array:
    """P(right) = sigmoid(b_m + v_m . W x), of rank 8, by penalised logistic loss; [m, q]."""
    x, new = spaces(cut)
    y = outcomes(cut)
    m, e = len(y), x.shape[1]

    def parts(flat: Array) -> tuple[Array, Array, Array]:
        return flat[:m], flat[m : m + m * RANK].reshape(m, RANK), flat[m + m * RANK :].reshape(RANK, e)

    def loss(flat: Array) -> tuple[float, Array]:
        bias, own, shared = parts(flat)
        inner = x @ shared.T
        logits = bias[:, None] + own @ inner.T
        value = float(np.mean(np.logaddexp(0, logits) - y * logits))
        value += STIFFNESS * float((own**2).sum() + (shared**2).sum()) / 2
        gap = (1 / (1 + np.exp(-logits)) - y) / y.size
        slopes = [gap.sum(axis=1), gap @ inner + STIFFNESS * own, own.T @ gap @ x + STIFFNESS * shared]
        return value, np.concatenate([slope.ravel() for slope in slopes])

    start = 0.1 * np.random.default_rng(SEED).standard_normal(m + m * RANK + RANK * e)
    bias, own, shared = parts(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x)
    return sigmoid(bias[:, None] + own @ (new @ shared.T).T)


RIVALS: Mapping[str, Callable[[Cut], Array]] = {"kNN": knn, "SVM": svm, "matrix factorisation": factorised}


def two_models(cut: Cut, strong: int, weak: int) -> Array:
    """P(the strong model is needed), [q]: it is right where the weak one is wrong."""
    x, new = spaces(cut)
    y = outcomes(cut)
    needed = (y[strong] >= 0.5) & (y[weak] < 0.5)
    if needed.all() or not needed.any():
        return np.full(len(new), needed.mean())
    return np.asarray(LogisticRegression(C=0.01, max_iter=500).fit(x, needed).predict_proba(new)[:, 1])
