import torch
from torch import nn

from builders import images, tiny_model
from switchablecompat.layers import SwitchableNorm
from switchablecompat.modeling.calibration import average_statistics, calibrate_bn
from switchablecompat.modeling.convert import Conversion


def test_statistics_are_the_average_over_the_batches_at_every_width():
    model = tiny_model().train()
    batches = [images(6) for _ in range(3)]
    norm = model.backbone.bn1  # right behind the first convolution, so that its input is known
    modes = {module: module.training for module in model.modules()}
    assert calibrate_bn(model, ({"images": b.clone()} for b in batches)) == 3
    for index in range(4):
        with model.switch.use(index), torch.no_grad():
            inputs = [model.backbone.conv1(model.preprocess_image(b)) for b in batches]
        means = torch.stack([x.mean(dim=(0, 2, 3)) for x in inputs]).mean(dim=0)
        variances = torch.stack([x.var(dim=(0, 2, 3)) for x in inputs]).mean(dim=0)
        torch.testing.assert_close(norm.of(index).running_mean, means)
        torch.testing.assert_close(norm.of(index).running_var, variances)
    assert modes == {module: module.training for module in model.modules()}
    assert all(m.of(i).momentum == 0.1 for m in model.modules() if isinstance(m, SwitchableNorm) for i in range(4))


def test_only_the_chosen_widths_are_calibrated():
    model, batches = tiny_model().train(), [images(6), images(6)]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    calibrate_bn(model, batches, [0, 2])
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.split(".narrow.")[1].split(".")[0] for key in changed} == {"w025", "w075"}


def test_no_gradient_no_parameter_changes_and_no_batches_leave_all_alone():
    model = tiny_model().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert calibrate_bn(model, []) == 0
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    calibrate_bn(model, [images(6)])
    changed = {
        key.rpartition(".")[2] for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}
    assert all(p.grad is None for p in model.parameters())


def test_a_frozen_backbone_in_evaluation_mode_comes_back_in_it():
    model = tiny_model().train()
    model.backbone.eval()
    calibrate_bn(model, [images(6)])
    assert not model.backbone.bn1.training
    assert not model.backbone.bn1.narrow["w025"].training
    assert model.heads.training


def test_a_network_without_running_statistics_has_none_to_average():
    network, _ = Conversion([0.5, 1.0]).convert_network(nn.Sequential(nn.Conv2d(3, 8, 1)))
    average_statistics(network)
