"""Statistics of the narrow widths before the first step."""

from types import SimpleNamespace

import pytest
import torch

from builders import images, tiny_model
from switchablecompat.engine.hooks import StartCalibration


class Loader:
    """Batches without an end, counted, as FastReID's training loader gives them."""

    def __init__(self, batches):
        self.batches, self.given, self.open = batches, 0, True

    def __iter__(self):
        while True:
            self.given += 1
            yield {"images": self.batches[self.given % len(self.batches)].clone()}

    def shutdown(self):
        self.open = False


def hook_of(model, loader, epoch=0, num_iter=2):
    hook = StartCalibration(model, lambda: loader, num_iter)
    hook.trainer = SimpleNamespace(start_iter=epoch)
    return hook


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def changed(model, before):
    return {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}


def test_narrow_widths_get_the_statistics_of_the_batches_and_the_full_model_keeps_its_own():
    model = tiny_model().train()
    batches = [images(6), images(6)]
    loader, before = Loader(batches), state(model)
    hook_of(model, loader).before_train()
    assert (loader.given, loader.open) == (2, False)
    keys = changed(model, before)
    assert all(".narrow." in key for key in keys)
    assert {key.rpartition(".")[2] for key in keys} == {"running_mean", "running_var", "num_batches_tracked"}
    for index in range(3):
        with model.switch.use(index), torch.no_grad():
            inputs = [model.backbone.conv1(model.preprocess_image(batch)) for batch in batches]
        expected = torch.stack([x.mean(dim=(0, 2, 3)) for x in inputs]).mean(dim=0)
        torch.testing.assert_close(model.backbone.bn1.of(index).running_mean, expected)  # float32 sums of other order


@pytest.mark.parametrize(("opts", "epoch"), [((), 1), (("MODEL.SWITCHABLE.ONLY_WIDTH", 1.0), 0)])
def test_a_resumed_run_and_a_full_model_are_left_alone(opts, epoch):
    model = tiny_model(*opts).train()
    before = state(model)
    hook_of(model, None, epoch).before_train()
    assert changed(model, before) == set()


def test_a_separate_narrow_network_is_calibrated_like_the_sub_model_of_its_width():
    model = tiny_model("MODEL.SWITCHABLE.ONLY_WIDTH", 0.5).train()
    before = state(model)
    hook_of(model, Loader([images(6)])).before_train()
    assert "backbone.bn1.running_mean" in changed(model, before)
