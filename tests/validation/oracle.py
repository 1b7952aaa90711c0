"""The metrics of CaloChallenge as they are written down: plain, slow and obviously right.

Definitions: Krause et al. (2024, arXiv:2410.21611); Kansal et al. (2023, arXiv:2211.10295); Kynkaanniemi
et al. (2019, arXiv:1904.06991); Naeem et al. (2020, arXiv:2002.09797). Each is transcribed with NumPy, layer
by layer, batch by batch and with whole matrices of distances. Tests compare the package with it, and
`benchmarks/validation.py` measures against it.

Showers are (N, voxels) in MeV, layers anything with ``id``, ``r_edges`` in mm and ``n_alpha``.
"""

import numpy as np
from scipy.linalg import sqrtm
from scipy.optimize import curve_fit

THRESHOLDS = {
    "dataset_1_photons": 1.0,
    "dataset_1_pions": 1.0,
    "dataset_2": 0.5e-3 / 0.033,
    "dataset_3": 0.5e-3 / 0.033,
}


def cut(showers, threshold):
    showers = showers.astype(np.float64)
    showers[showers < threshold] = 0.0
    return showers


# --- High-level features -------------------------------------------------------------------------------


def observables(energies, showers, layers):
    """Return the high-level observables of showers after the cut: lists with one (N,) array for each layer."""
    found = {name: [] for name in ("E", "sparsity", "EC_r", "W_r", "EC_eta", "EC_phi", "W_eta", "W_phi")}
    start = 0
    for layer in layers:
        n_r = len(layer.r_edges) - 1
        if n_r < 1:
            continue
        voxels = showers[:, start : start + layer.n_alpha * n_r].reshape(len(showers), layer.n_alpha, n_r)
        start += layer.n_alpha * n_r
        r = np.asarray([(a + b) / 2 for a, b in zip(layer.r_edges[:-1], layer.r_edges[1:], strict=True)])
        edges = np.linspace(-np.pi, np.pi, layer.n_alpha + 1)
        alpha = (edges[1:] + edges[:-1]) / 2
        found["E"].append(voxels.sum(axis=(1, 2)))
        found["sparsity"].append(1 - (voxels > 0).mean(axis=(1, 2)))
        axes = {"r": np.ones(layer.n_alpha)[:, None] * r}
        if layer.n_alpha > 1:
            axes["eta"] = np.cos(alpha)[:, None] * r
            axes["phi"] = np.sin(alpha)[:, None] * r
        for name, x in axes.items():
            total = voxels.sum(axis=(1, 2)) + 1e-16
            mean = (x * voxels).sum(axis=(1, 2)) / total
            square = (x**2 * voxels).sum(axis=(1, 2)) / total
            found[f"EC_{name}"].append(mean)
            found[f"W_{name}"].append(np.sqrt(np.maximum(0, square - mean**2)))
    return {"E_inc": energies, "E_tot": showers.sum(axis=1), **found}


def features(o):
    """Return the feature vectors of observables, (N, 30), (N, 46) or (N, 362) for the challenge's datasets."""
    columns = [np.log10(o["E_inc"])]
    columns += [np.log10(e + 1e-8) for e in o["E"]]
    for name in ("EC_eta", "EC_phi", "W_eta", "W_phi"):
        columns += [x / 100 for x in o[name]]
    columns += [np.log10(o["E_tot"] + 1e-8)]
    columns += o["sparsity"]
    columns += [x / 100 for x in o["EC_r"]]
    columns += [x / 100 for x in o["W_r"]]
    return np.stack(columns, axis=1)


# --- Separation power ----------------------------------------------------------------------------------


def separation(x, y, edges):
    """Densities, times the width, scaled to 1."""
    h1, h2 = (np.histogram(v, bins=edges, density=True)[0] * np.diff(edges) for v in (x, y))
    h1, h2 = h1 / h1.sum(), h2 / h2.sum()
    return 0.5 * ((h1 - h2) ** 2 / (h1 + h2 + 1e-16)).sum()


def edges_of(name, layer_id, dataset):
    """Return the fixed binning of an observable in a layer of a dataset."""
    regular, far, wide = dataset in ("dataset_2", "dataset_3"), layer_id in (12, 13), layer_id in (12, 13, 14)
    if name in ("EC_eta", "EC_phi"):
        end = 30 if regular else 500 if far else 100
        return np.linspace(-end, end, 101)
    if name in ("W_eta", "W_phi"):
        return np.linspace(0, 30 if regular else 400 if far else 100, 101)
    if name == "sparsity":
        return np.linspace(0, 1, 21)
    if name == "EC_r":
        return np.linspace(0, 42 if regular else 1500 if wide else 500, 101)
    return np.linspace(0, 20 if regular else 1500 if wide else 500, 101)


def separations(reference, generated, layers, dataset):
    """Return the separation powers of two pairs (observables, showers after the cut), a list where by layer."""
    (x, showers_x), (y, showers_y) = reference, generated
    threshold = THRESHOLDS[dataset]
    layers = [layer for layer in layers if len(layer.r_edges) > 1]
    ratio_x, ratio_y = x["E_tot"] / x["E_inc"], y["E_tot"] / y["E_inc"]
    found = {"response": separation(ratio_x, ratio_y, np.linspace(0.5, 1.5, 101))}
    found["layer_energy"] = [
        separation(a, b, np.logspace(np.log10(threshold), np.log10(a.max()), 40))
        for a, b in zip(x["E"], y["E"], strict=True)
    ]
    names = {"EC": "centre", "W": "width", "sparsity": "sparsity"}
    for key in ("EC_eta", "EC_phi", "W_eta", "W_phi", "sparsity", "EC_r", "W_r"):
        kind, _, axis = key.partition("_")
        ids = [layer.id for layer in layers if layer.n_alpha > 1 or axis in ("", "r")]
        found["_".join(filter(None, (names[kind], axis)))] = [
            separation(a, b, edges_of(key, i, dataset)) for a, b, i in zip(x[key], y[key], ids, strict=True)
        ]
    hottest = showers_x.max()
    spectrum = np.logspace(np.log10(threshold), np.log10(hottest), 50)
    found["voxel_energy"] = separation(showers_x.ravel(), showers_y.ravel(), spectrum)
    if dataset.startswith("dataset_1"):
        found["response_by_energy"] = []
        for i in range(15):
            here_x, here_y = ((o["E_inc"] >= 2 ** (8 + i)) & (o["E_inc"] < 2 ** (9 + i)) for o in (x, y))
            narrow = dataset == "dataset_1_photons" and i >= 4
            edges = np.linspace(0.9, 1.1, 21) if narrow else np.linspace(0.4, 1.4, 21)
            found["response_by_energy"].append(separation(ratio_x[here_x], ratio_y[here_y], edges))
    return found


# --- Distances in feature space ------------------------------------------------------------------------


def normalised(x, y):
    scale = np.abs(x).max(axis=0)
    scale[scale == 0] = 1
    return x / scale, y / scale


def frechet(m1, c1, m2, c2):
    root = sqrtm(c1 @ c2)
    if not np.isfinite(root).all():
        offset = 1e-6 * np.eye(len(c1))
        root = sqrtm((c1 + offset) @ (c2 + offset))
    return (m1 - m2) @ (m1 - m2) + np.trace(c1) + np.trace(c2) - 2 * np.trace(root).real


def fpd(x, y, seed=42, n_draws=20):
    """Return FPD and its error with the sampling of jetnet: sizes 10,000 to 50,000, 20 draws of each."""
    x, y = normalised(x, y)
    sizes = (1 / np.linspace(1 / 10_000, 1 / 50_000, 10)).astype("int32")
    rng = np.random.default_rng(seed)
    means = []
    for size in sizes:
        values = []
        for _ in range(n_draws):
            a, b = x[rng.choice(len(x), size=size)], y[rng.choice(len(y), size=size)]
            values.append(frechet(a.mean(axis=0), np.cov(a, rowvar=False), b.mean(axis=0), np.cov(b, rowvar=False)))
        means.append(np.mean(values))
    found, covariance = curve_fit(lambda x, a, b: a + b * x, 1 / sizes, means, bounds=([0, 0], [np.inf, np.inf]))
    return found[0], np.sqrt(covariance[0, 0])


def kpd(x, y, batch_size=10_000, seed=42, n_batches=10):
    """Return KPD and its error: 10 batches with replacement, every pair of each, one matrix after the other."""
    x, y = normalised(x, y)
    values = []
    for i in range(n_batches):
        rng = np.random.default_rng(seed + 1000 * i)
        a, b = x[rng.choice(len(x), size=batch_size)], y[rng.choice(len(y), size=batch_size)]
        d, m = x.shape[1], batch_size
        aa = (a @ a.T / d + 1) ** 4
        value = (aa.sum() - np.trace(aa)) / (m * (m - 1))
        del aa
        bb = (b @ b.T / d + 1) ** 4
        value += (bb.sum() - np.trace(bb)) / (m * (m - 1))
        del bb
        values.append(value - 2 * ((a @ b.T / d + 1) ** 4).mean())
    low, high = np.percentile(values, [16.275, 83.725])
    return np.median(values), (high - low) / 2


# --- Precision, recall, density, coverage --------------------------------------------------------------


def log_voxels(showers):
    """Return log10 of voxel energies in MeV after the cut; empty voxels count as 0.1 MeV."""
    showers = showers.astype(np.float64)
    showers[showers == 0] = 0.1
    return np.log10(showers)


def distances(a, b):
    return np.stack([np.sqrt(((row - b) ** 2).sum(axis=1)) for row in a])


def prdc(x, y, k=5):
    """Return the four, with all distances in one matrix."""
    radius_x, radius_y = (np.sort(distances(a, a), axis=1)[:, k] for a in (x, y))  # column 0 is the point itself
    between = distances(x, y)
    return {
        "precision": (between < radius_x[:, None]).any(axis=0).mean(),
        "recall": (between < radius_y[None, :]).any(axis=1).mean(),
        "density": (between < radius_x[:, None]).sum(axis=0).mean() / k,
        "coverage": (between.min(axis=1) < radius_x).mean(),
    }
