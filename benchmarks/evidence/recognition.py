"""Fit what recognises a scan by its content, and set the limits of refusal.

    python -m benchmarks.evidence.rows ../shared/data UNPACKED rows.jsonl
    python -m benchmarks.evidence.recognition rows.jsonl

Weights come from the rows of the split ``fit``. Limits come from the same rows, each scored by weights that
no row of its data set took part in. Writes `medrestore/engine/models/recognition.safetensors`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.ensemble import ExtraTreesClassifier

from benchmarks.evidence.domain import log_odds, read_rows
from benchmarks.evidence.rows import Row, source_of
from medrestore.engine.models import recognise
from medrestore.engine.models.recognise import FITTED, NEITHER, Fitted
from medrestore.plugin.spec import DOMAINS

CLASSES = (*DOMAINS, NEITHER)
TREES, LEAF, TRIED, SEED = 150, 4, 0.5, 0  # their number, least rows of a leaf, part of the features tried
TYPES = {"feature": np.int16, "threshold": np.float32, "beyond": np.int32, "shares": np.float16}
REFUSED = 0.01  # of the rows of a domain, by weights that their source took no part in
SURE = 0.95
HERE = Path(recognise.__file__).with_name(FITTED)


def matrix(rows: Sequence[Row], names: Sequence[str]) -> np.ndarray:
    """Return the features of rows, (N, F); NaN where a row has none."""
    return np.array([[row.features.get(name, np.nan) for name in names] for row in rows], dtype=np.float64)


def weights_of(rows: Sequence[Row]) -> np.ndarray:
    """Return a weight for each row: classes count alike, in them kinds, and of a kind sources."""
    kinds = defaultdict(set)
    for row in rows:
        kinds[row.truth].add(row.kind)
    each = Counter((row.truth, row.kind, source_of(row.subject)) for row in rows)
    sources = Counter((truth, kind) for truth, kind, _ in each)
    found = [
        1
        / len(kinds[row.truth])
        / sources[row.truth, row.kind]
        / each[row.truth, row.kind, source_of(row.subject)]
        for row in rows
    ]
    return np.array(found) / len(kinds)


def fit(rows: Sequence[Row]) -> Fitted:
    """Return the trees that rows make, their limits still open."""
    names = sorted({name for row in rows for name in row.features})
    values, weights = matrix(rows, names), weights_of(rows)
    missing = np.float32(np.nanmean(values, axis=0))
    values = np.where(np.isnan(values), missing, values).astype(np.float32)
    truth = [CLASSES.index(row.truth) for row in rows]
    forest = ExtraTreesClassifier(
        TREES, min_samples_leaf=LEAF, max_features=TRIED, n_jobs=1, random_state=SEED
    ).fit(values, truth, sample_weight=weights / weights.mean())
    parts = [one.tree_ for one in forest.estimators_]
    roots = np.cumsum([0, *(part.node_count for part in parts[:-1])]).astype(np.int32)
    joined = {
        "feature": [np.where(part.children_left < 0, -1, part.feature) for part in parts],
        "threshold": [part.threshold for part in parts],
        "beyond": [part.children_right + root for part, root in zip(parts, roots, strict=True)],
        "shares": [part.value[:, 0] / part.value[:, 0].sum(axis=1, keepdims=True) for part in parts],
    }
    arrays = {name: np.concatenate(of_trees).astype(TYPES[name]) for name, of_trees in joined.items()}
    return Fitted(
        features=tuple(names),
        missing=missing,
        roots=roots,
        classes=CLASSES,
        sure=SURE,
        least=dict.fromkeys(DOMAINS, 0.0),
        **arrays,
    )


def left_out(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Return the log odds of each domain for all rows, each by weights that its source took no part in."""
    sources = [source_of(row.subject) for row in rows]
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
    }
    arrays = {name: getattr(model, name) for name in ("missing", "roots", *TYPES)}
    save_file(arrays, target, metadata={"fitted": json.dumps(stated)})
    print(json.dumps({"rows": stated["rows"], "least": stated["least"]}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
