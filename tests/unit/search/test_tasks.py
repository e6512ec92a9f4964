import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from search.data.face_folder import GALLERY, PROBE, UNSEEN
from search.data.segments import IGNORED
from search.training.tasks import AUXILIARY, Classification, FaceMeter, MeanIoU, Recognition, Segmentation, Top1


def log_softmax(logits: Tensor, dim: int = 1) -> Tensor:
    return logits - logits.exp().sum(dim, keepdim=True).log()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classification_is_cross_entropy_with_smoothed_labels(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 5), torch.randint(5, (6,))
    shares = torch.eye(5)[labels] * (1 - smoothing) + smoothing / 5
    expected = -(shares * log_softmax(logits)).sum(1).mean()
    torch.testing.assert_close(Classification(smoothing).loss(logits, labels), expected)


def test_classification_takes_shares_of_two_labels_after_mixup() -> None:
    torch.manual_seed(0)
    logits, labels, others = torch.randn(6, 5), torch.randint(5, (6,)), torch.randint(5, (6,))
    task = Classification()
    found = task.loss(logits, 0.7 * torch.eye(5)[labels] + 0.3 * torch.eye(5)[others])
    torch.testing.assert_close(found, 0.7 * task.loss(logits, labels) + 0.3 * task.loss(logits, others))


def test_top_1_worked_out_by_hand() -> None:
    meter = Top1()
    meter.update(torch.tensor([[1.0, 2.0, 0.0], [5.0, 4.0, 3.0]]), torch.tensor([1, 2]))
    meter.update(torch.tensor([[-1.0, -2.0, -3.0]]), torch.tensor([0]))
    assert meter.compute() == {"accuracy": pytest.approx(200 / 3)}


def am_softmax(embeddings: Tensor, centres: Tensor, labels: Tensor, m: float, s: float) -> float:
    """AM-Softmax, Eq. 6: -log of e^(s (cos y - m)) over itself and the others' e^(s cos j), by loops in Python."""
    total = 0.0
    for x, label in zip(embeddings.double().tolist(), labels.tolist()):
        cosines = []
        for w in centres.double().T.tolist():
            product = sum(a * b for a, b in zip(x, w))
            cosines.append(product / math.sqrt(sum(a * a for a in x)) / math.sqrt(sum(b * b for b in w)))
        own = math.exp(s * (cosines[label] - m))
        others = sum(math.exp(s * c) for j, c in enumerate(cosines) if j != label)
        total -= math.log(own / (own + others))
    return total / len(labels)


@pytest.mark.parametrize(("margin", "scale"), [(0.35, 30.0), (0.2, 64.0), (0.0, 1.0)])
def test_recognition_is_am_softmax(margin: float, scale: float) -> None:
    torch.manual_seed(0)
    task = Recognition(7, 12, margin, scale)
    embeddings, labels = torch.randn(9, 12) * 3, torch.randint(7, (9,))
    expected = am_softmax(embeddings, task.am_softmax.W.detach(), labels, margin, scale)
    assert task.loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-5)
    assert [tuple(p.shape) for p in task.parameters()] == [(12, 7)]


def test_am_softmax_is_in_float32_also_under_autocast() -> None:
    torch.manual_seed(0)
    task = Recognition(50, 64, 0.35, 30.0)
    embeddings, labels = torch.randn(8, 64).bfloat16(), torch.randint(50, (8,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss(embeddings, labels)
    assert torch.equal(loss, task.loss(embeddings.float(), labels))
    assert loss.dtype == torch.float32


def angle(degrees: float) -> list[float]:
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


def test_scores_of_faces_worked_out_by_hand() -> None:
    """Embeddings in the plane, by their angle. Persons 0 and 1 are known, 2 to 6 are not."""
    pictures = [
        (0, 0, GALLERY),
        (90, 1, GALLERY),
        (5, 0, PROBE),  # nearest: person 0
        (30, 0, PROBE),  # nearest: stranger 2
        (85, 1, PROBE),  # nearest: person 1
        (98, 1, PROBE),  # nearest: person 1
        *(
            (start + i, person, UNSEEN)
            for person, start in ((2, 22), (3, 180), (4, 230), (5, 280), (6, 330))
            for i in (0, 1)
        ),
    ]
    meter = FaceMeter()
    for part in (pictures[::2], pictures[1::2]):
        meter.update(
            torch.tensor([angle(degrees) for degrees, *_ in part]), torch.tensor([target for _, *target in part])
        )
    # Mates: 5 and 30 degrees are 25 apart, and strangers nearer to both. 85 and 98 are 13 apart, strangers further.
    # Pairs of one stranger are 1 degree apart, those of two at least 49.
    assert meter.compute() == {"accuracy": 75, "megaface": 50, "verification": 100}


def perfect_faces(seed: int) -> tuple[Tensor, Tensor]:
    """Embeddings that differ by person and hardly within, in random order; 10 known people and 12 strangers."""
    torch.manual_seed(seed)
    targets = [(p, role) for p in range(10) for role in (GALLERY, GALLERY, PROBE, PROBE)]
    targets += [(10 + p, UNSEEN) for p in range(12) for _ in range(4)]
    labels = torch.tensor(targets)[torch.randperm(len(targets))]
    return torch.randn(22, 64)[labels[:, 0]] + 0.05 * torch.randn(len(labels), 64), labels


@pytest.mark.parametrize("seed", range(3))
def test_perfect_embeddings_score_100_and_those_of_nobody_score_by_chance(seed: int) -> None:
    embeddings, labels = perfect_faces(seed)
    perfect, chance = FaceMeter(), FaceMeter()
    for part in range(0, len(labels), 9):
        perfect.update(embeddings[part : part + 9].bfloat16(), labels[part : part + 9])
        chance.update(torch.randn_like(embeddings[part : part + 9]), labels[part : part + 9])
    assert perfect.compute() == {"accuracy": 100, "megaface": 100, "verification": 100}
    scores = chance.compute()
    assert scores["accuracy"] < 25
    assert scores["megaface"] < 25
    assert 25 < scores["verification"] < 75


def test_strangers_are_nobodys_match() -> None:
    embeddings, labels = perfect_faces(0)
    probes = (labels[:, 0] == 3) & (labels[:, 1] == PROBE)
    stranger = int((labels[:, 0] == 15).nonzero()[0])
    embeddings[stranger] = embeddings[probes].sum(0)
    meter = FaceMeter()
    meter.update(embeddings, labels)
    scores = meter.compute()
    assert scores["accuracy"] == 90  # both probes of one person in ten
    assert scores["megaface"] == 90


def test_segmentation_is_cross_entropy_of_the_pixels_that_count() -> None:
    torch.manual_seed(0)
    maps, auxiliary = torch.randn(2, 2, 4, 5, 6)
    labels = torch.randint(4, (2, 5, 6))
    labels[torch.rand(2, 5, 6) < 0.3] = IGNORED

    def mean(logits: Tensor) -> Tensor:
        found = [
            -log_softmax(logits)[n, labels[n, y, x], y, x]
            for n in range(2)
            for y in range(5)
            for x in range(6)
            if labels[n, y, x] != IGNORED
        ]
        return torch.stack(found).mean()

    task = Segmentation(4, ())
    torch.testing.assert_close(task.loss(maps, labels), mean(maps))
    torch.testing.assert_close(task.loss((maps, auxiliary), labels), mean(maps) + 0.4 * mean(auxiliary))
    assert AUXILIARY == 0.4


def brute_force(predicted: Tensor, labels: Tensor, classes: int) -> dict[int, float]:
    """IoU of each class that occurs, counted pixel by pixel."""
    counts = [p for p in zip(predicted.flatten().tolist(), labels.flatten().tolist()) if p[1] != IGNORED]
    found = {}
    for c in range(classes):
        if any(label == c for _, label in counts):
            both = sum(guess == label == c for guess, label in counts)
            found[c] = 100 * both / sum(c in pair for pair in counts)
    return found


@given(
    st.integers(2, 6),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sets(st.integers(0, 5), max_size=3),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.integers(0, 999),
)
@settings(deadline=None)
def test_miou_is_that_of_counting_pixel_by_pixel(
    classes: int, batches: list[int], absent: set[int], ignored: float, seed: int
) -> None:
    torch.manual_seed(seed)
    present = torch.tensor([c for c in range(classes) if c not in absent] or [0])
    names = [f"class {c}" for c in range(classes)]
    meter = Segmentation(classes, names).meter()
    guesses, labels = [], []
    for n in batches:
        target = present[torch.randint(len(present), (n, 4, 5))]
        target[torch.rand(n, 4, 5) < ignored] = IGNORED
        target[0, 0, 0] = present[0]
        maps = torch.randn(n, classes, 4, 5)
        meter.update(maps, target)
        guesses.append(maps.argmax(1))
        labels.append(target)
    expected = brute_force(torch.cat(guesses), torch.cat(labels), classes)
    scores = meter.compute()
    assert scores.pop("accuracy") == pytest.approx(sum(expected.values()) / len(expected), abs=1e-6)
    assert scores == {f"iou {names[c]}": pytest.approx(v, abs=1e-6) for c, v in expected.items()}


def test_miou_worked_out_by_hand() -> None:
    meter = MeanIoU(4, ())
    guesses = torch.tensor([[[0, 0, 1, 1], [2, 2, 1, 3]]])
    labels = torch.tensor([[[0, 0, 0, 1], [2, 255, 2, 255]]])
    meter.update(torch.nn.functional.one_hot(guesses, 4).permute(0, 3, 1, 2).float(), labels)
    # 0: 2 of 3. 1: 1 of 3. 2: 1 of 2. 3 does not occur, and its guess does not count.
    scores = meter.compute()
    assert scores == {
        "accuracy": pytest.approx(50),
        "iou 0": pytest.approx(200 / 3),
        "iou 1": pytest.approx(100 / 3),
        "iou 2": pytest.approx(50),
    }


def test_each_evaluation_has_its_own_meter() -> None:
    task = Segmentation(2, ())
    maps, labels = torch.randn(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.int64)
    task.meter().update(maps, labels)
    other = task.meter()
    other.update(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3), labels)
    assert other.compute()["accuracy"] == 100
