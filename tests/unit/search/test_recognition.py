import math
from collections.abc import Callable
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from search.training.recognition import best_threshold, identification, nearest_identity, verification

EXACT = [scale * torch.tensor(v) for scale in (0.5, 1.0, 4.0) for v in product((-1.0, 1.0), repeat=4)] + [
    *2 * torch.eye(4),
    torch.zeros(4),
]
"""Vectors whose cosine similarities are multiples of 1/4, without rounding: ties are exact, and frequent."""


def vectors(minimum: int, maximum: int) -> st.SearchStrategy[Tensor]:
    return st.lists(st.sampled_from(EXACT), min_size=minimum, max_size=maximum).map(torch.stack)


def angles(*degrees: float) -> Tensor:
    """Embeddings in the plane by their direction, of lengths that must not matter."""
    return torch.tensor(
        [[r * math.cos(math.radians(a)), r * math.sin(math.radians(a))] for r, a in enumerate(degrees, 1)]
    )


def cosine(a: Tensor, b: Tensor) -> float:
    lengths = math.hypot(*a.tolist()) * math.hypot(*b.tolist())
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)) / lengths if lengths else 0.0


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_identification_is_that_of_a_loop_over_trials(data: st.DataObject) -> None:
    probes, distractors = data.draw(vectors(2, 8)), data.draw(vectors(1, 6))
    people = data.draw(st.lists(st.integers(0, 3), min_size=len(probes), max_size=len(probes)))
    people[-1] = people[0]
    trials = [
        all(cosine(probes[i], probes[j]) > cosine(probes[i], d) for d in distractors)
        for i, j in product(range(len(probes)), repeat=2)
        if i != j and people[i] == people[j]
    ]
    rate = identification(probes, torch.tensor(people), distractors, chunk=data.draw(st.integers(1, 9)))
    assert rate == pytest.approx(100 * sum(trials) / len(trials))


def test_identification_worked_out_by_hand() -> None:
    """Person 7 at 0, 10 and 60 degrees, person 8 at 90 and 130, person 9 alone; distractors at 35 and 165.

    From the probe, the nearest distractor is 35 from 0, 25 from 10 and 60, 55 from 90 and 35 from 130 degrees. So right
    are 0-10 and 10-0 (10 apart) and 90-130 (40), and wrong are 0-60, 60-0, 10-60, 60-10 and 130-90.
    """
    people = torch.tensor([7, 8, 7, 9, 8, 7])
    rate = identification(angles(0, 90, 10, 36, 130, 60), people, angles(35, 165))
    assert rate == pytest.approx(100 * 3 / 8)


def test_a_distractor_as_near_as_the_mate_makes_the_trial_wrong() -> None:
    people, distractor = torch.tensor([0, 0]), torch.tensor([[1.0, -1.0, 1.0, 1.0]])
    probes = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, -2.0]])
    assert identification(probes, people, distractor) == 50.0  # 1/2 and 1/2, 1/2 and 0


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_the_nearest_identity_is_that_of_a_loop_over_images(data: st.DataObject) -> None:
    gallery = data.draw(vectors(1, 8))
    people = [0, *data.draw(st.lists(st.integers(-1, 3), min_size=len(gallery) - 1, max_size=len(gallery) - 1))]
    probes = data.draw(vectors(1, 6))
    known = st.sampled_from([p for p in people if p >= 0])
    of_probes = data.draw(st.lists(known, min_size=len(probes), max_size=len(probes)))
    right = 0
    for probe, person in zip(probes, of_probes, strict=True):
        similarities = [cosine(probe, image) for image in gallery]
        nearest = {p for p, s in zip(people, similarities, strict=True) if s == max(similarities)}
        right += nearest == {person}
    rate = nearest_identity(probes, torch.tensor(of_probes), gallery, torch.tensor(people))
    assert rate == pytest.approx(100 * right / len(probes))


def test_the_nearest_identity_worked_out_by_hand() -> None:
    """The probe at 0 is nearest to its own image at 5, that at 20 to the distractor at 22, that at 88 to person 1."""
    gallery, people = angles(5, 90, 22, 50), torch.tensor([0, 1, -1, 0])
    assert nearest_identity(angles(0, 20, 88, 300), torch.tensor([0, 0, 1, 0]), gallery, people) == 75.0


def test_the_nearest_identity_over_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    probes, gallery = torch.randn(50, 3), torch.randn(70, 3)
    people = torch.arange(70) % 5
    expected = nearest_identity(probes, people[:50], gallery, people)
    assert 0 < expected < 100
    monkeypatch.setattr("search.training.recognition.CHUNK", 16)
    assert nearest_identity(probes, people[:50], gallery, people) == expected


def accuracy(similarity: list[float], same: list[bool], threshold: float) -> int:
    """Pairs decided rightly; a similarity equal to the threshold is not."""
    return sum(s > threshold if label else s < threshold for s, label in zip(similarity, same, strict=True))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_verification_is_that_of_a_loop_over_thresholds(data: st.DataObject) -> None:
    first = data.draw(vectors(2, 12))
    n = len(first)
    second = data.draw(vectors(n, n))
    same = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    folds = data.draw(st.integers(2, n))
    similarity = [cosine(a, b) for a, b in zip(first, second, strict=True)]
    sizes = [n // folds + (i < n % folds) for i in range(folds)]
    right = 0
    for i in range(folds):
        fold = range(sum(sizes[:i]), sum(sizes[: i + 1]))
        others = [k for k in range(n) if k not in fold]
        values = sorted({similarity[k] for k in others})
        thresholds = [-math.inf, *((a + b) / 2 for a, b in pairwise(values)), math.inf]
        best = max(
            thresholds, key=lambda t: accuracy([similarity[k] for k in others], [same[k] for k in others], t)
        )  # the first, hence the lowest, of the best
        right += accuracy([similarity[k] for k in fold], [same[k] for k in fold], best)
    assert verification(first, second, torch.tensor(same), folds) == pytest.approx(100 * right / n)


@pytest.mark.parametrize(
    ("similarity", "same", "threshold"),
    [
        ([0.25, 0.75], [False, True], 0.5),
        ([0.75, 0.25], [False, True], -math.inf),  # as good as above both, and lower
        ([0.25, 0.5, 0.5, 1.0], [False, True, True, False], 0.375),
        ([0.5, 0.5, 0.5], [False, True, False], math.inf),  # not between equal similarities
        ([0.5, 0.5], [False, True], -math.inf),
        ([0.1], [True], -math.inf),
    ],
)
def test_the_best_threshold_worked_out_by_hand(similarity: list[float], same: list[bool], threshold: float) -> None:
    assert float(best_threshold(torch.tensor(similarity), torch.tensor(same))) == pytest.approx(threshold)


def test_verification_takes_the_threshold_from_the_other_folds() -> None:
    """Two folds that a threshold each parts, 80 and 20 degrees; each has the other's, which is wrong for half of it."""
    apart, same = torch.tensor([90.0, 70, 90, 70, 30, 10, 30, 10]), torch.tensor([False, True] * 4)
    first, second = angles(*[0] * 8), angles(*apart.tolist())
    assert verification(first, second, same, folds=2) == 50.0
    mixed = torch.tensor([0, 1, 4, 5, 2, 3, 6, 7])
    assert verification(first[mixed], second[mixed], same[mixed], folds=2) == 75.0


@pytest.mark.parametrize("label", [True, False])
def test_a_pair_on_the_threshold_is_wrong_whatever_it_is(label: bool) -> None:
    """Similarities 1 and 0 in one fold put the threshold of the other on 1/2, which its pairs have.

    They, being of one kind, put that of the first below or above all, which is right for one of its two pairs.
    """
    x, y, half = torch.eye(4)[0], torch.eye(4)[1], torch.ones(4)
    first, second = torch.stack([x, x, x, x]), torch.stack([x, y, half, half])
    assert verification(first, second, torch.tensor([True, False, label, label]), folds=2) == 25.0


def test_pairs_that_a_threshold_parts_are_verified_whole() -> None:
    torch.manual_seed(0)
    same = torch.rand(600) < 0.5
    first = torch.randn(600, 16)
    second = torch.where(same[:, None], first + 0.01 * torch.randn(600, 16), -first)
    assert verification(first, second, same) == 100.0
    assert verification(first, second, ~same) < 55.0


def test_half_precision_is_compared_in_float32() -> None:
    """In bfloat16 all similarities would round to 1."""
    probes = torch.tensor([[1.0, 0.0], [1.0, 0.01]], dtype=torch.bfloat16)
    assert identification(probes, torch.tensor([0, 0]), torch.tensor([[1.0, 0.03125]], dtype=torch.bfloat16)) == 100.0


X = torch.eye(4)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: identification(X, torch.arange(4), X), "two images"),
        (lambda: identification(X[:0], torch.arange(0), X), "two images"),
        (lambda: identification(X, torch.zeros(4), X[:0]), "distractors is empty"),
        (lambda: identification(X, torch.zeros(4), X, chunk=-1), "chunk=-1"),
        (lambda: identification(X, torch.zeros(3), X), "identities has 3 entries for 4"),
        (lambda: identification(X, torch.zeros(4), X[:, :1]), r"\(4, 4\) and \(4, 1\)"),
        (lambda: identification(X / 0, torch.zeros(4), X), "not finite"),
        (lambda: identification(X, torch.zeros(4), X / 0), "not finite"),
        (lambda: nearest_identity(X, torch.arange(4), X, torch.arange(4) % 3), "probe identity 3"),
        (lambda: nearest_identity(X, -torch.ones(4), X, -torch.ones(4)), "probe identity -1"),
        (lambda: nearest_identity(X, torch.arange(4), X[:0], torch.arange(0)), "probe identity 0"),
        (lambda: nearest_identity(X[:0], torch.arange(0), X, torch.arange(4)), "probes is empty"),
        (lambda: nearest_identity(X, torch.arange(4), X, torch.arange(5)), "gallery_identities has 5"),
        (lambda: nearest_identity(X, torch.arange(3), X, torch.arange(4)), "probe_identities has 3"),
        (lambda: verification(X, X, torch.ones(4)), "4 pairs cannot make folds=10"),
        (lambda: verification(X, X, torch.ones(4), folds=1), "folds=1"),
        (lambda: verification(X, X[:3], torch.ones(4), folds=2), "second has 3"),
        (lambda: verification(X, X, torch.ones(5), folds=2), "same has 5"),
        (lambda: verification(X[0], X, torch.ones(4), folds=2), "shapes"),
    ],
)
def test_wrong_inputs_are_refused(measure: Callable[[], float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure()
