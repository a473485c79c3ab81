#!/usr/bin/env python
"""First steps in Python: convert a network, train two widths, read the grid, extract a sub-model.

python examples/first_steps.py            # takes a minute on a CPU, and writes to outputs/first_steps
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import nn

from switchablecompat import extract_submodel  # before anything of FastReID
from switchablecompat.engine import SwitchableTrainer, setup
from switchablecompat.evaluation.grid import CompatibilityGrid
from switchablecompat.evaluation.grid_files import render_summary
from switchablecompat.modeling.convert import Conversion

# 1. Any network of ordinary layers becomes switchable: its sub-models are its leading channels.
plain = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1, bias=False),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1, bias=False),
    nn.BatchNorm2d(32),
).eval()
images = torch.rand(2, 3, 64, 32)
expected = plain(images)
network, _ = Conversion([0.5, 1.0]).convert_network(plain)
print("full width computes what the network did:", torch.equal(network(images), expected))
with network.switch.use(0):
    print("half width gives", tuple(network(images).shape), "of", tuple(expected.shape))

# 2. Train two widths with FastReID's pipeline on sixteen generated pedestrians. The config is a file in configs/.
#    On a command line, `python tools/train_net.py --config-file configs/quick/sfsc_tiny.yml ...` does the same.
output = sys.argv[1] if len(sys.argv) > 1 else "outputs/first_steps"
options = ["MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]", "OUTPUT_DIR", output]
cfg = setup(argparse.Namespace(config_file="quick/sfsc_tiny.yml", opts=options, resume=False, eval_only=False))
trainer = SwitchableTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()

# 3. The grid: every sub-model searches the gallery of every other. A cross-test passes if it beats the weaker
#    self-test. Two epochs are too few for that.
grid = CompatibilityGrid.from_dict(json.loads(Path(output, "grid.json").read_text()))
print(render_summary(grid))

# 4. One sub-model as an ordinary FastReID model, for example for a camera. Its features are the same, bit for bit.
model = trainer.model.eval()
camera = extract_submodel(model, width=0.5)
batch = 255 * images
with torch.no_grad(), model.switch.use(0):
    print("the same features, bit for bit:", torch.equal(camera(batch.clone()), model(batch.clone())))
sizes = [sum(p.numel() for p in one.parameters()) for one in (camera, extract_submodel(model, width=1.0))]
print("parameters: half width {:,}, full width {:,}".format(*sizes))
