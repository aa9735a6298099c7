"""scikit-learn's forest beside the project's own; needs scikit-learn, and only tests need it.

    python reference.py nsl-kdd TRAIN.csv.gz TEST.csv.gz
        accuracy on KDDTest+ of five seeds over the 38 numeric columns, with the settings of
        netml-agent/src/train/reference_tests.rs; one JSON object.
    python reference.py table features.csv.gz FEATURES
        one forest per group left out over these columns (a comma between two): the share of attack
        flows found, as mean over group and kind, at 0.5 % and 1 % of the benign flows, captures of a
        group alike and groups of under 100 flows pooled; one JSON object. Groups that only train
        (`lab`) are in every training part.
"""

import csv
import gzip
import json
import sys

import numpy
from sklearn.ensemble import RandomForestClassifier

TRAINING_ONLY = {"lab"}
CATEGORICAL = {"protocol_type", "service", "flag"}

# As netml-agent/src/train/classes.rs has them: kinds to classes, and how often a class is drawn.
CLASSES = {
    "scan": ("port_scan", "vuln_scan", "iot_malware_scan", "host_scan"),
    "syn_flood": ("syn_flood",),
    "flood": ("udp_flood", "icmp_flood", "reflection_amp"),
    "http_dos": ("http_flood", "slow_http_dos"),
    "brute_force": ("brute_force",),
    "botnet": ("c2_botnet", "c2_framework", "spam_bot"),
    "dns_tunnel": ("dns_tunnel",),
    "intrusion": ("exploit_kit", "exploit_zerologon", "lateral_movement"),
}
CLASS_OF = {kind: name for name, kinds in CLASSES.items() for kind in kinds}
WEIGHTS = dict(scan=4.0, syn_flood=4.0, flood=4.0, http_dos=0.5, brute_force=0.5)
WEIGHTS |= dict(botnet=0.1, dns_tunnel=0.1, intrusion=0.1)


def forest(seed, trees=100, rows=4000):
    # A depth of 14 in the trainer is 13 levels of splits.
    return RandomForestClassifier(
        n_estimators=trees,
        max_depth=13,
        min_samples_leaf=8,
        min_samples_split=16,
        max_features=8,
        max_samples=rows,
        class_weight="balanced",
        n_jobs=-1,
        random_state=seed,
    )


def read(path):
    with gzip.open(path, "rt") as file:
        lines = (line for line in file if not line.startswith("#"))
        yield from csv.DictReader(lines)


def nsl_kdd(train, test):
    def load(path):
        rows, labels = [], []
        for row in read(path):
            left_out = CATEGORICAL | {"label", "attack", "difficulty"}
            rows.append([float(v) for k, v in row.items() if k not in left_out])
            labels.append(row["label"] != "normal")
        return numpy.array(rows, dtype=numpy.float32), numpy.array(labels)

    (x, y), (x_test, y_test) = load(train), load(test)
    accuracies = []
    for seed in range(1, 6):
        share = forest(seed).fit(x, y).predict_proba(x_test)[:, 1]
        accuracies.append(float(((share >= 0.5) == y_test).mean()))
    return {"columns": x.shape[1], "accuracies": accuracies}


def table(path, features):
    rows = list(read(path))
    x = numpy.array([[float(r[f]) for f in features] for r in rows], dtype=numpy.float32)
    attack = numpy.array([r["attack"] == "1" for r in rows])
    fit = numpy.array([r["fit"] == "1" for r in rows])
    group = numpy.array([r["group"] for r in rows])
    kind = numpy.array([r["kind"] for r in rows])
    cells = {}
    for at in numpy.flatnonzero(fit):
        cells.setdefault((attack[at], group[at], kind[at]), []).append(at)
    scores = numpy.zeros(len(rows))
    for left_out in sorted(set(group) - TRAINING_ONLY):
        train = fit & (group != left_out)
        # Attack and benign weigh alike, classes as they are drawn, the groups and kinds of a class alike.
        weight = numpy.zeros(len(rows))
        shown = {}
        for key in cells:
            if key[1] != left_out:
                name = CLASS_OF.get(key[2], key[2]) if key[0] else "normal"
                shown.setdefault(name, []).append(key)
        of_attacks = sum(WEIGHTS.get(name, 1.0) for name in shown if name != "normal")
        for name, keys in shown.items():
            share = 1.0 if name == "normal" else WEIGHTS.get(name, 1.0) / of_attacks
            for key in keys:
                weight[cells[key]] = share / len(keys) / len(cells[key])
        model = forest(1, trees=30)
        model.set_params(class_weight=None)
        # Sampling by weight, since a forest's bootstrap knows none.
        random = numpy.random.default_rng(1)
        places = numpy.flatnonzero(train)
        p = weight[places] / weight[places].sum()
        drawn = random.choice(places, size=30 * 4000, p=p)
        model.set_params(max_samples=4000)
        model.fit(x[drawn], attack[drawn])
        judged = group == left_out
        scores[judged] = model.predict_proba(x[judged])[:, 1]
    flows = {}
    for at, row in enumerate(rows):
        if row["group"] not in TRAINING_ONLY and row["quality"] != "C":
            key = (row["capture"], row["flow"], row["attack"])
            best = flows.get(key)
            if best is None or scores[at] > best[0]:
                flows[key] = (scores[at], row)
    counts = {}
    for _, row in flows.values():
        if row["attack"] == "0":
            counts[row["group"]] = counts.get(row["group"], 0) + 1
    benign, found = {}, {}
    for score, row in flows.values():
        weight = float(row["stands_for"])
        if row["attack"] == "0":
            unit = row["group"] if counts[row["group"]] >= 100 else ""
            benign.setdefault(unit, {}).setdefault(row["capture"], []).append((score, weight))
        else:
            found.setdefault((row["group"], row["kind"]), []).append((score, weight))
    weighed = []
    for captures in benign.values():
        for of_capture in captures.values():
            whole = sum(w for _, w in of_capture) * len(captures) * len(benign)
            weighed += [(score, w / whole) for score, w in of_capture]
    weighed.sort(reverse=True)

    def recall(rate):
        total, cut = 0.0, 1.0
        for score, weight in weighed:
            total += weight
            if total > rate:
                break
            cut = score
        shares = [
            sum(w for s, w in cell if s >= cut) / sum(w for _, w in cell) for cell in found.values()
        ]
        return float(numpy.mean(shares))

    return {"recall_at_0.005": recall(0.005), "recall_at_0.01": recall(0.01)}


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("nsl-kdd", "table"):
        sys.exit(__doc__)
    if sys.argv[1] == "nsl-kdd":
        print(json.dumps(nsl_kdd(sys.argv[2], sys.argv[3])))
    else:
        print(json.dumps(table(sys.argv[2], sys.argv[3].split(","))))
