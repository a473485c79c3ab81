"""The graph that devices run, and its multiply-accumulates counted by hand."""

import torch
import torch.nn.functional as F
from fastreid.layers import Non_local, SELayer
from torch import nn

from builders import images, tiny_model
from switchablecompat import extract_submodel
from switchablecompat.deploy.files.graph import PixelsToFeatures, count_macs


def test_normalised_features_of_the_plain_model_and_the_batch_is_left_alone():
    model = extract_submodel(tiny_model().eval(), 0.5)
    batch = images(3)
    before = batch.clone()
    features = PixelsToFeatures(model)(batch)
    assert torch.equal(batch, before)
    with torch.no_grad():
        assert torch.equal(features, F.normalize(model(batch)))  # which changes the batch, so it comes last


def test_features_of_length_zero_stay_finite():
    model = extract_submodel(tiny_model().eval(), 0.5)
    nn.init.zeros_(model.heads.bottleneck[-1].weight)
    nn.init.zeros_(model.heads.bottleneck[-1].bias)
    assert torch.equal(PixelsToFeatures(model)(images(2)), torch.zeros(2, 128))


def test_macs_of_a_small_net_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 3, 5)
    )
    # each of 4 * 4 * 3 outputs has 3 * 3 * 3 inputs; each of 5 outputs has 48
    by_hand = 4 * 4 * 3 * 27 + 5 * 48
    assert count_macs(net.eval(), torch.zeros(1, 3, 8, 6)) == by_hand
    assert count_macs(net.eval(), torch.zeros(7, 3, 8, 6)) == 7 * by_hand


def test_macs_of_fastreids_composite_layers_by_hand():
    # squeeze and excitation of 32 channels with reduction 16: two linear layers
    assert count_macs(SELayer(32, 16).eval(), torch.zeros(1, 32, 4, 4)) == 32 * 2 + 2 * 32
    # non-local layer of 8 channels on 6 positions: three projections to its inner channels, two products over all pairs
    # of positions, one projection back
    layer = Non_local(8, "BN").eval()
    inner = layer.inter_channels
    assert count_macs(layer, torch.zeros(1, 8, 2, 3)) == 3 * 8 * inner * 6 + 2 * 6 * 6 * inner + inner * 8 * 6
