import pytest
import torch

from builders import CLASSES, batch, tiny_model
from switchablecompat.errors import InputError
from switchablecompat.modeling.simplex import regular_simplex

SIMPLEX = ("MODEL.SWITCHABLE.CLASSIFIER", "simplex")


@pytest.mark.parametrize(("classes", "dimension"), [(2, 1), (3, 2), (7, 128), (129, 128), (751, 1024)])
def test_all_vertices_are_equally_far_apart(classes, dimension):
    vertices = regular_simplex(classes, dimension).double()
    assert vertices.shape == (classes, dimension)
    expected = torch.full((classes, classes), -1 / (classes - 1), dtype=torch.float64).fill_diagonal_(1)
    torch.testing.assert_close(vertices @ vertices.T, expected, atol=1e-6, rtol=0)  # float32 vertices


@pytest.mark.parametrize(("classes", "dimension"), [(1, 4), (4, 2)])
def test_what_has_no_simplex_is_refused(classes, dimension):
    with pytest.raises(ValueError, match=f"a regular simplex of {classes} vertices needs {classes - 1} dimensions"):
        regular_simplex(classes, dimension)


def test_nobody_trains_a_simplex_classifier():
    model = tiny_model(*SIMPLEX).train()
    torch.testing.assert_close(model.heads.weight, regular_simplex(CLASSES, model.heads.weight.shape[1]))
    sum(model(batch()).values()).backward()
    assert model.heads.weight.grad is None
    idle = {name for name, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0}
    assert idle == set()


def test_too_few_dimensions_are_refused_by_key():
    with pytest.raises(InputError, match=r"^MODEL.HEADS.EMBEDDING_DIM: must be at least 6 for a simplex of 7"):
        tiny_model(*SIMPLEX, "MODEL.HEADS.EMBEDDING_DIM", 5)


def test_three_vertices_by_hand():
    # contrasts (1, -1, 0)/sqrt 2 and (1, 1, -2)/sqrt 6, rows scaled by sqrt(3/2)
    a, b = 3**0.5 / 2, 0.5
    torch.testing.assert_close(regular_simplex(3, 2), torch.tensor([[a, b], [-a, b], [0.0, -1.0]]))


def test_loading_another_models_weights_leaves_it_alone():
    model, learned = tiny_model(*SIMPLEX), tiny_model()
    fixed = model.heads.weight.clone()
    model.load_state_dict(learned.state_dict())
    assert torch.equal(model.heads.weight, fixed)
    assert torch.equal(model.backbone.conv1.weight, learned.backbone.conv1.weight)
