"""Run by test_fastreid_shims.py in a clean interpreter: every symptom before and after its shim, as one JSON line.

Each function below provokes one symptom of FastReID and returns what it saw; ``OK`` means none. An exception is
reported by its type and message.
"""

import importlib
import io
import json
import sys
import threading
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import nn

OK = "ok"
SYMPTOMS: dict[str, Callable[[Path], str]] = {}


def symptom(name: str) -> Callable[[Callable[[Path], str]], Callable[[Path], str]]:
    def register(function: Callable[[Path], str]) -> Callable[[Path], str]:
        SYMPTOMS[name] = function
        return function

    return register


def first_warning(action: Callable[[], object]) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return str(caught[0].message) if caught else OK


@symptom("collections.Mapping")
def import_mapping(_: Path) -> str:
    exec("from collections import Mapping", {})
    return OK


@symptom("torch._six")
def import_six(_: Path) -> str:
    exec("from torch._six import string_classes", {})
    return OK


@symptom("loader-on-cpu")
def cpu_loader(_: Path) -> str:
    from fastreid.data import build

    loader = build.DataLoaderX(0, dataset=[1, 2, 3], pin_memory=True)
    assert [int(batch) for batch in loader] == [1, 2, 3]
    loader.shutdown()
    return OK


@symptom("loader-errors")
def error_in_background(_: Path) -> str:
    from fastreid.data import data_utils

    torch.cuda.set_device = lambda rank: None  # stands for a GPU
    threading.excepthook = lambda args: None
    seen = ["hangs"]

    def read() -> None:
        try:
            next(data_utils.BackgroundGenerator(iter(lambda: 1 // 0, None), 0))
        except ZeroDivisionError:
            seen[0] = OK

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(timeout=2)
    return seen[0]


@symptom("unreadable-image")
def truncated_image(folder: Path) -> str:
    from fastreid.data import CommDataset

    file = io.BytesIO()
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (64, 32, 3), dtype=np.uint8)).save(file, "jpeg")
    path = folder / "truncated.jpg"
    path.write_bytes(file.getvalue()[:-200])
    try:
        CommDataset([(str(path), 0, 0)])[0]
    except Exception as error:
        return OK if str(path) in str(error) else f"{type(error).__name__}: {error}"
    return "read"


@symptom("random-affine")
def affine(_: Path) -> str:
    from fastreid.config import get_cfg
    from fastreid.data.transforms import build_transforms

    cfg = get_cfg()
    cfg.INPUT.AFFINE.ENABLED = True
    assert build_transforms(cfg)(Image.new("RGB", (32, 64))).shape == (3, *cfg.INPUT.SIZE_TRAIN)
    return OK


@symptom("numpy-in-checkpoint")
def numpy_checkpoint(folder: Path) -> str:
    from fastreid.utils.checkpoint import Checkpointer

    model = nn.Linear(1, 1)
    path = folder / "converted.pth"
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    torch.save({"model": weights, "metric": np.float32(0.5)}, path)
    assert Checkpointer(model).load(str(path))["metric"] == 0.5
    return OK


@symptom("regnet-recipes")
def regnet_after_regnet(_: Path) -> str:
    from fastreid.config import get_cfg
    from fastreid.modeling.backbones import build_regnet_backbone

    cfg = get_cfg()
    for depth in ("200y", "200x"):
        cfg.MODEL.BACKBONE.DEPTH = depth
        network = build_regnet_backbone(cfg)
    return "a RegNetX with SE" if any(name.endswith(".se") for name, _ in network.named_modules()) else OK


@symptom("launch-on-cpu")
def worker(_: Path) -> str:
    import fastreid.engine
    from fastreid.utils import comm

    module = sys.modules[fastreid.engine.launch.__module__]
    seen = []
    url = f"tcp://127.0.0.1:{module._find_free_port()}"
    try:
        module._distributed_worker(0, lambda: seen.append(comm.get_local_rank()), 1, 1, 0, url, ())
    finally:
        comm._LOCAL_PROCESS_GROUP = None
    assert seen == [0]
    return OK


@symptom("data-parallel-on-cpu")
def data_parallel(_: Path) -> str:
    from fastreid.engine import defaults

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        return first_warning(
            lambda: defaults.DistributedDataParallel(nn.Linear(1, 1), device_ids=[0], broadcast_buffers=False)
        )
    finally:
        dist.destroy_process_group()


@symptom("byte-storage")
def tensor_of_image(_: Path) -> str:
    from fastreid.data.transforms import ToTensor

    torch.storage._reset_warn_typed_storage_removal()  # torch warns once per process, also for the feature test
    seen = first_warning(lambda: ToTensor()(Image.new("RGB", (2, 3))))
    torch.storage._reset_warn_typed_storage_removal()
    return seen


@symptom("amp-scaler")
def amp_trainer(_: Path) -> str:
    from fastreid.engine import defaults

    return first_warning(lambda: defaults.AMPTrainer(nn.Linear(1, 1), [], None, None))


def observe(name: str, folder: Path) -> str:
    try:
        return SYMPTOMS[name](folder)
    except BaseException as error:  # SystemExit is one of the symptoms
        return f"{type(error).__name__}: {error}"


def main(package: Path, folder: Path) -> None:
    # The package without its __init__, which would apply every shim at once.
    stub = types.ModuleType("switchablecompat")
    stub.__path__ = [str(package)]
    sys.modules["switchablecompat"] = stub
    shims = importlib.import_module("switchablecompat.fastreid_shims")
    report = {}
    for shim in shims.shims():
        entry = {"before": observe(shim.name, folder)}
        entry["needed"] = shim.needed()
        entry["patched"] = shim.apply()
        entry["needed_after"] = shim.needed()
        entry["patched_again"] = shim.apply()
        entry["after"] = observe(shim.name, folder)
        report[shim.name] = entry
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
