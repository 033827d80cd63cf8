"""Fit what recognises a scan by its content, and set the limits of refusal.

    python -m benchmarks.evidence.rows ../shared/data DICOM rows.jsonl     # series unpacked in DICOM
    python -m benchmarks.evidence.recognition rows.jsonl

Weights come from the rows of the split ``fit``. Limits come from the same rows, each scored by weights that
no row of its data set took part in. Writes `medrestore/engine/models/recognition.json`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from benchmarks.evidence.rows import Row
from medrestore.engine.models import recognise
from medrestore.engine.models.recognise import FITTED, NEITHER, Fitted, expanded
from medrestore.plugin.spec import DOMAINS

CLASSES = (*DOMAINS, NEITHER)
RIDGE = 2e-3  # weight of the squares of the weights
REFUSED = 0.01  # of the rows of a domain, by weights that their source took no part in
SURE = 0.95
HERE = Path(recognise.__file__).with_name(FITTED)


def read_rows(path: Path, split: str) -> list[Row]:
    """Return the rows of a split."""
    rows = [Row(**json.loads(line)) for line in path.read_text().splitlines()]
    return [row for row in rows if row.split == split]


def matrix(rows: Sequence[Row], names: Sequence[str]) -> np.ndarray:
    """Return the features of rows, (N, F); NaN where a row has none."""
    return np.array([[row.features.get(name, np.nan) for name in names] for row in rows], dtype=np.float64)


def source_of(row: Row) -> str:
    """Return where a row comes from: people of one data set were scanned alike, and count as one."""
    for prefix, name in (("sub-", "ds002748"), ("patient", "open_ms"), ("computed body", "computed bodies")):
        if row.subject.startswith(prefix):
            return name
    return row.subject


def weights_of(rows: Sequence[Row]) -> np.ndarray:
    """Return a weight for each row: classes count alike, in them kinds, and of a kind sources."""
    kinds = defaultdict(set)
    for row in rows:
        kinds[row.truth].add(row.kind)
    each = Counter((row.truth, row.kind, source_of(row)) for row in rows)
    sources = Counter((truth, kind) for truth, kind, _ in each)
    found = [
        1 / len(kinds[row.truth]) / sources[row.truth, row.kind] / each[row.truth, row.kind, source_of(row)]
        for row in rows
    ]
    return np.array(found) / len(kinds)


def fit(rows: Sequence[Row]) -> Fitted:
    """Return the regression that rows make likeliest, its limits still open."""
    names = sorted({name for row in rows for name in row.features})
    values, weights = matrix(rows, names), weights_of(rows)
    known = ~np.isnan(values)
    share = known * weights[:, None]
    mean = np.nansum(values * share, axis=0) / share.sum(axis=0)
    deviation = np.sqrt(np.nansum((values - mean) ** 2 * share, axis=0) / share.sum(axis=0))
    deviation = np.maximum(deviation, 1e-3)
    given = np.hstack([expanded((values - mean) / deviation), np.ones((len(rows), 1))])
    truth = np.eye(len(CLASSES))[[CLASSES.index(row.truth) for row in rows]]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        table = flat.reshape(given.shape[1], len(CLASSES))
        logits = given @ table
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        slope = given.T @ (weights[:, None] * (np.exp(logs) - truth))
        slope[:-1] += RIDGE * table[:-1]
        return float(
            -(weights @ (logs * truth).sum(axis=1)) + RIDGE / 2 * (table[:-1] ** 2).sum()
        ), slope.ravel()

    start = np.zeros(given.shape[1] * len(CLASSES))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    table = found.x.reshape(given.shape[1], len(CLASSES))
    return Fitted(tuple(names), mean, deviation, table, CLASSES, SURE, dict.fromkeys(DOMAINS, 0.0))


def log_odds(model: Fitted, rows: Sequence[Row], domain: str) -> np.ndarray:
    """Return for each row the logarithm of the odds that it is of a domain."""
    shares = np.array([model.shares(row.features)[domain] for row in rows])
    return np.log(np.clip(shares, 1e-12, 1)) - np.log(np.clip(1 - shares, 1e-12, 1))


def left_out(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Return the log odds of each domain for all rows, each by weights that its source took no part in."""
    sources = [source_of(row) for row in rows]
    found = {domain: np.full(len(rows), np.nan) for domain in DOMAINS}
    for source in sorted(set(sources)):
        inside = np.array([one == source for one in sources])
        model = fit([row for row, mine in zip(rows, inside, strict=True) if not mine])
        mine = [row for row, own in zip(rows, inside, strict=True) if own]
        for domain in DOMAINS:
            found[domain][inside] = log_odds(model, mine, domain)
    return found


def limits(rows: Sequence[Row], scores: dict[str, np.ndarray]) -> dict[str, float]:
    """Return for each domain the probability below which it is refused; sources count alike."""
    found, weights = {}, weights_of(rows)
    for domain in DOMAINS:
        inside = np.array([row.truth == domain for row in rows])
        order = np.argsort(scores[domain][inside])
        below = np.cumsum(weights[inside][order]) / weights[inside].sum()
        least = scores[domain][inside][order][np.searchsorted(below, REFUSED)]
        found[domain] = float(1 / (1 + np.exp(-min(least, 0.0))))
    return found


def main(path: Path, target: Path = HERE) -> None:
    """Fit, set limits, and write."""
    rows = read_rows(path, "fit")
    scores = left_out(rows)
    model = replace(fit(rows), least=limits(rows, scores))
    subjects = sorted({row.subject for row in rows if row.truth != NEITHER})
    stated = {
        "made by": "python -m benchmarks.evidence.recognition",
        "subjects": subjects,
        "rows": dict(Counter(row.truth for row in rows)),
        "refused at most": REFUSED,
        "features": list(model.features),
        "classes": list(model.classes),
        "sure": model.sure,
        "least": {name: round(value, 6) for name, value in model.least.items()},
        **{name: np.round(getattr(model, name), 5).tolist() for name in ("mean", "deviation", "weights")},
    }
    target.write_text(json.dumps(stated, indent=1) + "\n")
    print(json.dumps({"rows": stated["rows"], "least": stated["least"]}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
