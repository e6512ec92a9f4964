"""Recognition rates of embeddings, such as of faces: identification among distractors, nearest identity, verification.

Images are compared by the cosine similarity of their embeddings, in float32 or, if given so, float64. A tie counts as
wrong. It is one of computed similarities: those of equal images can differ by a rounding.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from repmlp.config import positive

CHUNK = 4096
"""Images compared with as many others at a time: 64 MiB of similarities."""


@torch.no_grad()
def identification(probes: Tensor, identities: Tensor, distractors: Tensor, chunk: int = CHUNK) -> float:
    """Return the rank-1 identification rate of MegaFace's challenge 1 (arXiv 1512.00596) in percent.

    Each ordered pair (probe, mate) of two images of one person is a trial, in which the mate is hidden among the
    distractors. It is right if the probe is more similar to the mate than to every distractor.

    Args:
        probes: embeddings `(N, D)`.
        identities: integers `(N,)`, the person on each; a person with one image makes no trial.
        distractors: embeddings `(M, D)` of other people.
        chunk: number of images compared with as many others at a time, which bounds the memory.

    Raises:
        ValueError: if the shapes do not fit, no identity has two images, there is no distractor, an embedding is not
            finite, or `chunk` is not positive.
    """
    positive(chunk, "chunk")
    probes, distractors = directions(probes, distractors)
    check_lengths("identities", identities, probes)
    if not len(distractors):
        raise ValueError("distractors is empty; give the embedding of at least one image of another person.")
    if len(identities.unique()) == len(identities):
        raise ValueError(f"none of the {len(identities)} identities has two images; a trial is a pair of one person's.")
    rival = probes.new_full((len(probes),), -torch.inf)
    for rows, _, similarity in blocks(probes, distractors, chunk):
        rival[rows] = torch.maximum(rival[rows], similarity.amax(1))
    index = torch.arange(len(probes), device=probes.device)
    right = trials = index.new_zeros(())
    for rows, columns, similarity in blocks(probes, probes, chunk):
        mates = (identities[rows, None] == identities[columns]) & (index[rows, None] != index[columns])
        trials = trials + mates.sum()
        right = right + (mates & (similarity > rival[rows, None])).sum()
    return 100 * int(right) / int(trials)


@torch.no_grad()
def nearest_identity(probes: Tensor, probe_identities: Tensor, gallery: Tensor, gallery_identities: Tensor) -> float:
    """Return the closed-set rank-1 rate in percent: of probes whose nearest gallery image is of the same person.

    Args:
        probes: embeddings `(N, D)`, of images that are not in the gallery.
        probe_identities: integers `(N,)`, all at least 0 and in the gallery.
        gallery: embeddings `(M, D)`.
        gallery_identities: integers `(M,)`, the person on each; -1 for distractors, who are nobody's match.

    Raises:
        ValueError: if the shapes do not fit, there is no probe, a probe's identity is not in the gallery, or an
            embedding is not finite.
    """
    probes, gallery = directions(probes, gallery)
    check_lengths("probe_identities", probe_identities, probes)
    check_lengths("gallery_identities", gallery_identities, gallery)
    if not len(probes):
        raise ValueError("probes is empty; give the embedding of at least one image.")
    missing = probe_identities[~torch.isin(probe_identities, gallery_identities) | (probe_identities < 0)]
    if len(missing):
        raise ValueError(
            f"probe identity {int(missing[0])} has no image in the gallery; in a closed set each probe's identity has "
            "one, and is at least 0."
        )
    own, rival = probes.new_full((2, len(probes)), -torch.inf)
    for rows, columns, similarity in blocks(probes, gallery, CHUNK):
        same = probe_identities[rows, None] == gallery_identities[columns]
        own[rows] = torch.maximum(own[rows], similarity.where(same, -torch.inf).amax(1))
        rival[rows] = torch.maximum(rival[rows], similarity.where(~same, -torch.inf).amax(1))
    return 100 * int((own > rival).sum()) / len(probes)


@torch.no_grad()
def verification(first: Tensor, second: Tensor, same: Tensor, folds: int = 10) -> float:
    """Return the percentage of pairs rightly told to be of one person or of two, by the protocol of LFW (view 2).

    A pair is told to be of one person if its similarity is above a threshold, which each fold of consecutive pairs
    takes from the pairs of all other folds: the one that is right for most of them, midway between two neighbouring
    similarities (infinite below and above all), and the lowest such. A pair right on the threshold counts as wrong.

    Args:
        first: embeddings `(N, D)`.
        second: embeddings `(N, D)`, each paired with its row of `first`.
        same: booleans `(N,)`, whether a pair is of one person.
        folds: number of folds, at least 2; where it does not divide N, the first are one pair longer.

    Raises:
        ValueError: if the shapes do not fit, there are fewer than 2 folds or fewer pairs than folds, or an embedding is
            not finite.
    """
    first, second = directions(first, second)
    check_lengths("second", second, first)
    check_lengths("same", same, first)
    if not 2 <= folds <= len(first):
        raise ValueError(f"{len(first)} pairs cannot make folds={folds}; use at least 2 folds and a pair for each.")
    same = same.bool()
    similarity = (first * second).sum(1)
    right = 0
    for fold in torch.arange(len(first), device=first.device).tensor_split(folds):
        others = torch.ones_like(same).index_fill(0, fold, False)
        threshold = best_threshold(similarity[others], same[others])
        decided = torch.where(same[fold], similarity[fold] > threshold, similarity[fold] < threshold)
        right += int(decided.sum())
    return 100 * right / len(first)


def best_threshold(similarity: Tensor, same: Tensor) -> Tensor:
    """Return the lowest of the thresholds that are right for most pairs: scalar, for `(N,)` similarities and labels.

    Thresholds lie midway between neighbouring different similarities, or are infinite.
    """
    similarity, order = similarity.sort()
    edges = F.pad(similarity, (1, 0), value=-torch.inf), F.pad(similarity, (0, 1), value=torch.inf)
    different_below = F.pad((~same[order]).cumsum(0), (1, 0))
    same_above = same.sum() - F.pad(same[order].cumsum(0), (1, 0))
    right = (different_below + same_above).where(edges[0] < edges[1], -1)
    cut = right.argmax()
    return (edges[0][cut] + edges[1][cut]) / 2


def blocks(rows: Tensor, columns: Tensor, chunk: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield row and column ranges, each of at most `chunk`, with the products of their vectors."""
    for i in range(0, len(rows), chunk):
        for j in range(0, len(columns), chunk):
            yield slice(i, i + chunk), slice(j, j + chunk), rows[i : i + chunk] @ columns[j : j + chunk].T


def directions(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return embeddings `(N, D)` and `(M, D)` scaled to length 1; zero stays zero.

    Raises:
        ValueError: if the shapes are others, or a value is not finite.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"embeddings of shapes {tuple(first.shape)} and {tuple(second.shape)} must be (N, D) and (M, D), one row "
            "an image."
        )
    if not (first.isfinite().all() and second.isfinite().all()):
        raise ValueError("embeddings hold a value that is not finite; give those of a network that did not diverge.")
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    return F.normalize(first.to(dtype)), F.normalize(second.to(dtype))


def check_lengths(name: str, values: Tensor, embeddings: Tensor) -> None:
    if len(values) != len(embeddings):
        raise ValueError(f"{name} has {len(values)} entries for {len(embeddings)} embeddings; give one for each.")
