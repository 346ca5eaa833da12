"""Muon against a slow reference, and who moves whom."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trivium.config import OptimizerConfig
from trivium.model.heads import add_reward_head
from trivium.model.transformer import Transformer
from trivium.train.optimizer import Muon, build_optimizers, orthogonalise

SHAPES = [(8, 8), (8, 8), (16, 8), (8, 24), (8, 24), (3, 16)]


def matrices(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def slow_newton_schulz(matrix: Tensor) -> Tensor:
    """Jordan et al. 2024, one matrix at a time, in float32, as it is written there."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / matrix.norm()
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def slow_muon(
    weights: list[Tensor], gradients: list[list[Tensor]], lr: float, momentum: float, decay: float
) -> list[Tensor]:
    """Weights after a step for each list of gradients."""
    held = [torch.zeros_like(weight) for weight in weights]
    for step in gradients:
        for i, gradient in enumerate(step):
            held[i] = momentum * held[i] + (1 - momentum) * gradient
            ahead = momentum * held[i] + (1 - momentum) * gradient  # Nesterov
            rows, columns = gradient.shape
            update = slow_newton_schulz(ahead) * max(1, rows / columns) ** 0.5
            weights[i] = weights[i] * (1 - lr * decay) - lr * update
    return weights


def test_muon_is_what_its_paper_says_one_matrix_at_a_time() -> None:
    parameters = [nn.Parameter(matrix) for matrix in matrices(0)]
    gradients = [matrices(seed) for seed in (1, 2, 3)]
    expected = slow_muon([p.detach().clone() for p in parameters], gradients, lr=0.02, momentum=0.9, decay=0.1)
    before = [p.detach().clone() for p in parameters]
    muon = Muon(parameters, lr=0.02, momentum=0.9, weight_decay=0.1)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        muon.step()
    for parameter, weight, start in zip(parameters, expected, before, strict=True):
        moved, wanted = parameter.detach() - start, weight - start
        # bfloat16 holds three digits, and the iteration doubles an error a few times
        assert (moved - wanted).norm() < 0.06 * wanted.norm()


def test_blocks_move_as_matrices_of_their_own_do() -> None:
    """But for the scale of columns, which counts all inputs of the matrix."""
    whole, gradient = matrices(0)[3], matrices(1)[3]  # 8 rows, 24 columns
    for columns, parts in ((False, whole.split(4)), (True, whole.split(8, dim=1))):
        together, apart = [nn.Parameter(whole.clone())], [nn.Parameter(part.clone()) for part in parts]
        together[0].grad = gradient
        for parameter, part in zip(apart, gradient.split(4) if not columns else gradient.split(8, dim=1), strict=True):
            parameter.grad = part.contiguous()
        chosen = {"momentum": 0.9, "weight_decay": 0.0}
        Muon([{"params": together, "columns": columns}], lr=0.1, neurons=8 if columns else 4, **chosen).step()
        Muon(apart, lr=0.1 / (3**0.5 if columns else 1), **chosen).step()
        joined = torch.cat([p.detach() for p in apart], dim=int(columns))
        torch.testing.assert_close(together[0].detach(), joined, atol=2e-3, rtol=0)


@pytest.mark.parametrize("shape", [(24, 24), (48, 12), (12, 48)])
def test_the_update_is_nearly_orthogonal(shape: tuple[int, int]) -> None:
    stack = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalise(stack))
    assert singular.shape == (3, min(shape))
    assert singular.max() < 1.3
    tall = max(shape) / min(shape) > 1
    assert singular.min() > (0.6 if tall else 0.05)  # a random square matrix has directions that are almost nothing
    assert singular.median() > 0.65


def test_the_update_does_not_depend_on_the_size_of_the_gradient() -> None:
    stack = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalise(stack * 2**-10), orthogonalise(stack), atol=1e-3, rtol=0)


def test_a_gradient_of_nothing_moves_nothing() -> None:
    parameter = nn.Parameter(torch.ones(4, 4))
    parameter.grad = torch.zeros(4, 4)
    Muon([parameter], lr=0.1, momentum=0.9, weight_decay=0.0).step()
    assert torch.equal(parameter, torch.ones(4, 4))


def test_a_parameter_without_gradient_stays() -> None:
    with_one, without = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    with_one.grad = torch.eye(4)
    Muon([with_one, without], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    assert torch.equal(without, torch.ones(4, 4))
    assert not torch.equal(with_one, torch.ones(4, 4))


def names(model: nn.Module, optimizer: torch.optim.Optimizer) -> set[str]:
    mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in mine}


@pytest.mark.parametrize("tied", [True, False])
def test_muon_moves_the_matrices_of_the_layers_and_adamw_all_else(
    tied: bool, small_model: Callable[..., Transformer]
) -> None:
    for model in (small_model(tie_embeddings=tied), add_reward_head(small_model(tie_embeddings=tied), 0)):
        adamw, muon = build_optimizers(model, OptimizerConfig())
        every = {name for name, _ in model.named_parameters()}
        layers = {name for name in every if "layers." in name and name.endswith("proj.weight")}
        assert names(model, muon) == layers
        assert names(model, adamw) == every - layers
        assert any("embed_tokens" in name for name in names(model, adamw))


def test_each_group_remembers_its_peak(small_model: Callable[..., Transformer]) -> None:
    settings = OptimizerConfig(learning_rate=3e-3, matrix_learning_rate=0.05)
    adamw, muon = build_optimizers(small_model(), settings)
    assert [group["peak"] for optimizer in (adamw, muon) for group in optimizer.param_groups] == [3e-3, 0.05, 0.05]


def test_every_setting_of_the_optimizers_is_used(small_model: Callable[..., Transformer]) -> None:
    """A setting that changes no weight is one that is silently ignored."""

    def weights_after(**changed: float) -> Tensor:
        model = small_model()
        optimizers = build_optimizers(model, OptimizerConfig.model_validate({"weight_decay": 0.1, **changed}))
        for seed in (1, 2):
            generator = torch.Generator().manual_seed(seed)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            for optimizer in optimizers:
                optimizer.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    plain = weights_after()
    for setting in ("learning_rate", "matrix_learning_rate", "weight_decay", "momentum", "beta1", "beta2"):
        assert not torch.equal(weights_after(**{setting: 0.5}), plain), setting
