import pytest
import torch
from torch import nn

from repmlp import CifarNet, RepMLP, RepMLPBlock, Stage, build
from repmlp.networks.repmlpnet import RepMLPNet, RepMLPNetStage
from repmlp.penalty import distance_norms, distance_penalty, distances, range_penalty
from tests.blocks import lived_in


def block(out_channels: int = 6, size: tuple[int, int] = (3, 8), **fields: object) -> RepMLP:
    spec = RepMLPBlock(**{"partition": (3, 4), "groups": 2, "kernels": (1, 3, "1x1-3x3"), **fields})
    return lived_in(RepMLP(4, out_channels, size, spec))


def written_out(block: RepMLP) -> float:
    """The penalty by loops over output and input positions, in float64."""
    kernel = block.merged_fc3()[0].detach()
    (h, w), energy = block.partition, {}
    for o in range(block.out_channels):
        for y in range(h):
            for x in range(w):
                row = kernel[(o * h + y) * w + x]
                for i in range(block.in_channels // block.spec.groups):
                    for v in range(h):
                        for u in range(w):
                            d = max(abs(y - v), abs(x - u))
                            energy[d] = energy.get(d, 0.0) + float(row[(i * h + v) * w + u]) ** 2
    return sum(d * e**0.5 for d, e in energy.items())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kernels": ()},
        {"partition": (1, 4), "kernels": ((1, 3), "identity"), "groups": 1, "out_channels": 4},
        {"partition": 3, "groups": 1},
    ],
)
def test_the_penalty_is_that_of_loops_over_positions(fields: dict) -> None:
    torch.manual_seed(0)
    one = block(**fields)
    penalty = distance_penalty(one).detach()
    assert penalty.dtype == torch.float32
    assert penalty.shape == ()
    assert float(penalty) == pytest.approx(written_out(one), rel=1e-6)


def test_a_penalty_worked_out_by_hand() -> None:
    one = RepMLP(1, 1, (1, 3), RepMLPBlock(partition=(1, 3), kernels=()), deploy=True)
    one.fc3.weight.data = torch.tensor([[9.0, 1.0, 12.0], [2.0, 9.0, 2.0], [5.0, 4.0, 9.0]])
    # Distance 1: 1, 2, 2, 4, norm 5. Distance 2: 12 and 5, norm 13.
    assert float(distance_penalty(one).detach()) == 1 * 5 + 2 * 13


def test_distances_in_a_map_worked_out_by_hand() -> None:
    assert distances((3, 2))[:3].tolist() == [[0, 1, 1, 1, 2, 2], [1, 0, 1, 1, 2, 2], [1, 1, 0, 1, 1, 1]]


@pytest.mark.parametrize("seed", range(3))
def test_its_gradient_is_the_finite_difference(seed: int) -> None:
    torch.manual_seed(seed)
    one = block().double()
    weights = dict(one.named_parameters())
    penalised = [n for n in weights if not n.endswith("bias") and not n.startswith(("fc1", "fc2", "pool_bn"))]

    def exact() -> torch.Tensor:
        norms = distance_norms(one)
        return (torch.arange(len(norms)) * norms).sum()

    gradients = torch.autograd.grad(exact(), [weights[n] for n in penalised])
    for name, gradient in zip(penalised, gradients):
        direction = torch.randn_like(gradient)
        values = []
        with torch.no_grad():
            for step in (1e-5, -2e-5):
                weights[name] += step * direction
                values.append(exact())
            weights[name] += 1e-5 * direction
        torch.testing.assert_close((values[0] - values[1]) / 2e-5, (gradient * direction).sum(), rtol=1e-6, atol=1e-6)
        assert (gradient.abs().max() > 0) == (not name.startswith("local.1x1.")), name  # which spans no distance
    from_float32 = torch.autograd.grad(distance_penalty(one), [weights[n] for n in penalised])
    for a, b in zip(gradients, from_float32):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_steps_on_the_penalty_lower_far_weights_more_than_near_ones() -> None:
    torch.manual_seed(0)
    one = block(size=(4, 4), partition=4, kernels=(1, 3))
    optimizer = torch.optim.SGD(one.parameters(), lr=0.01)
    before = distance_norms(one).detach()
    for _ in range(20):
        optimizer.zero_grad()
        distance_penalty(one).backward()
        optimizer.step()
    kept = distance_norms(one).detach() / before
    assert kept.tolist() == sorted(kept, reverse=True)
    assert kept[3] < 0.7 * kept[0]


def test_the_penalties_of_all_blocks_add_up() -> None:
    spec = RepMLPBlock(partition=4, groups=2, kernels=(1, 3))
    model = lived_in(build(CifarNet(stages=(Stage(channels=4, block=spec), Stage(channels=8, block=spec)), size=8)))
    blocks = [m for m in model.modules() if isinstance(m, RepMLP)]
    assert len(blocks) == 4
    assert float(distance_penalty(model).detach()) == pytest.approx(sum(written_out(b) for b in blocks), rel=1e-6)


def test_only_fc3_kernels_are_penalised() -> None:
    conv = lived_in(RepMLP(4, 4, (6, 6), RepMLPBlock(partition=3, fc3_conv=3, kernels=(1,))))
    for model in (conv, nn.Linear(3, 3), RepMLP(4, 4, (2, 2), RepMLPBlock(partition=1, kernels=(1,)))):
        penalty = distance_penalty(model).detach()
        assert penalty.dtype == torch.float32
        assert float(penalty) == 0


def test_zero_weights_have_a_gradient_of_zero() -> None:
    one = block(kernels=())
    nn.init.zeros_(one.fc3.weight)
    penalty = distance_penalty(one)
    penalty.backward()
    assert penalty.item() == 0
    assert float(one.fc3.weight.grad.abs().max()) == 0


def test_the_range_penalty_is_the_mean_over_blocks_of_its_definition() -> None:
    small, large = block(), block(out_channels=4, partition=3, groups=1)
    expected = []
    for each in (small, large):
        rows = each.merged_fc3()[0].detach()
        expected.append(float((rows.abs().amax(1) / rows.square().mean(1).sqrt()).log().mean()))
    penalty = range_penalty(nn.ModuleList([small, large])).detach()
    assert float(penalty) == pytest.approx(sum(expected) / 2, rel=1e-6)
    assert float(range_penalty(nn.Conv2d(1, 1, 3))) == float(range_penalty(block(fc3_conv=5, kernels=(1, 3)))) == 0


def test_descending_the_range_penalty_levels_the_rows_of_every_kind_of_block() -> None:
    shared = build(
        RepMLPNet(stages=(RepMLPNetStage(channels=8, blocks=1, partition=(4, 4), share_sets=2),), size=(16, 16))
    )
    for each in (block(), shared):
        before = range_penalty(each)
        before.backward()
        with torch.no_grad():
            for parameter in each.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad
        assert float(range_penalty(each).detach()) < float(before.detach())
