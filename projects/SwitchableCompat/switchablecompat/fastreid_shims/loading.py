"""Data loading: loaders on the CPU, errors instead of hangs, unreadable images by name, ``RandomAffine``."""

import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from fastreid.data import build, common, data_utils
from fastreid.data.transforms import build as transform_builder
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from ..errors import InputError
from .base import shim

_cpu_loader: bool | None = None


def use_cpu_loader(flag: bool | None) -> None:
    """Say where the loaders built from now on deliver their batches. (FastReID's loader does not see the config.)

    Args:
        flag: True for plain loaders that leave batches on the CPU, False for FastReID's loader with its CUDA stream,
            None (the state at import) for plain loaders exactly where CUDA is not available.
    """
    global _cpu_loader
    _cpu_loader = flag


def cpu_loader_in_use() -> bool:
    """Whether a loader built now leaves its batches on the CPU."""
    return not torch.cuda.is_available() if _cpu_loader is None else _cpu_loader


class DeviceAwareLoader(data_utils.DataLoaderX):
    """FastReID's ``DataLoaderX`` where batches go to a GPU, a plain ``DataLoader`` otherwise."""

    def __init__(self, local_rank: int, **kwargs: Any) -> None:
        self.on_cpu = cpu_loader_in_use()
        if self.on_cpu:
            # Pinning needs a CUDA context, and there is no copy to the GPU that it could speed up.
            DataLoader.__init__(self, **{**kwargs, "pin_memory": False})
        else:
            super().__init__(local_rank, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        return DataLoader.__iter__(self) if self.on_cpu else super().__iter__()

    def __next__(self) -> Any:
        """The batch that was copied meanwhile; its memory is not used anew before this stream is done with it.

        FastReID copies on a stream of its own and does not say who reads the copy. A step that never waits for the
        device would then be overtaken by the copy of a later batch into the same memory.
        """
        batch = super().__next__()
        for value in batch.values():
            if isinstance(value, torch.Tensor) and value.is_cuda:
                value.record_stream(torch.cuda.current_stream(value.device))
        return batch

    def shutdown(self) -> None:
        """End the background thread, if there is one."""
        if not self.on_cpu:
            super().shutdown()


@shim("loader-on-cpu", needed=lambda: build.DataLoaderX is not DeviceAwareLoader)
def _patch_loader() -> None:
    """fastreid/data/data_utils.py:151 ``DataLoaderX`` opens a CUDA stream whatever ``MODEL.DEVICE`` says.

    Without a GPU: ``RuntimeError: Found no NVIDIA driver on your system``. With one and ``MODEL.DEVICE cpu``, batches
    land on ``cuda:0`` all the same.
    """
    build.DataLoaderX = data_utils.DataLoaderX = DeviceAwareLoader


class _Failure(NamedTuple):
    """An exception of the background thread on its way through the queue."""

    error: BaseException


class ForwardingGenerator(data_utils.BackgroundGenerator):
    """FastReID's ``BackgroundGenerator``; what fails in its thread is raised by ``next``."""

    def run(self) -> None:
        try:
            super().run()
        except BaseException as error:  # whatever it is, the reader must not wait for a batch that never comes
            self.queue.put(_Failure(error))
            self.queue.put(None)  # the end of the data for a reader that goes on, e.g. shutdown()

    def next(self) -> Any:
        item = super().next()
        if not isinstance(item, _Failure):
            return item
        if self.exit_event.is_set():  # shutdown() only drains the queue: nobody is left to tell
            raise StopIteration
        raise item.error


@shim("loader-errors", needed=lambda: data_utils.BackgroundGenerator is not ForwardingGenerator)
def _patch_background_generator() -> None:
    """fastreid/data/data_utils.py:122 ``BackgroundGenerator.run`` has no error path.

    On CUDA a corrupt image ends the background thread with a traceback, and the main thread waits for ever.
    """
    data_utils.BackgroundGenerator = ForwardingGenerator


READ_RIGHT = ("RGB", "L", "1")  # of Pillow's modes


_read_image = common.read_image  # FastReID's own


def read_image(file_name: str, format: str | None = None) -> Any:
    """FastReID's ``read_image`` with the file's name in every error, and nothing misread."""
    try:
        if format is None:
            with Image.open(file_name) as image:  # the header only
                mode = image.mode
            if mode not in READ_RIGHT:
                raise InputError(file_name, "must be an RGB or greyscale image; convert it", f"mode {mode}")
            format = "RGB" if mode == "1" else None  # FastReID would make an image of truth values
        return _read_image(file_name, format)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow's plug-ins raise OSError, SyntaxError, ValueError, struct.error and more
        found = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(file_name, "must be a readable image", found) from error


def _unreadable_image_unnamed() -> bool:
    try:
        common.read_image("")
    except InputError:
        return False
    except OSError:
        pass
    return True


@shim("unreadable-image", needed=_unreadable_image_unnamed)
def _patch_read_image() -> None:
    """fastreid/data/common.py:40 reads an image without saying which, and takes it for RGB or greyscale.

    A truncated file ends training with ``OSError: image file is truncated (3 bytes not processed)`` and no path; one
    with an alpha channel with ``The size of tensor a (4) must match the size of tensor b (3)``. The numbers of a
    palette are read as brightness, and those of other colour spaces as red, green and blue, without a word. One with
    one bit per pixel ends in ``TypeError: Cannot handle this data type: (1, 1, 3), |b1``; here it is black and white.
    """
    common.read_image = read_image


class RandomAffine(transforms.RandomAffine):
    """torchvision's ``RandomAffine`` that also takes the argument names of torchvision < 0.13."""

    def __init__(self, *args: Any, resample: Any = None, fillcolor: Any = None, **kwargs: Any) -> None:
        if resample:  # False and 0 mean nearest, which is the default
            kwargs["interpolation"] = resample
        if fillcolor is not None:
            kwargs["fill"] = fillcolor
        super().__init__(*args, **kwargs)


def _affine_fails() -> bool:
    try:
        transform_builder.T.RandomAffine(degrees=10, resample=False, fillcolor=0)
    except TypeError:
        return True
    return False


@shim("random-affine", needed=_affine_fails)
def _patch_affine() -> None:
    """fastreid/data/transforms/build.py:81 passes ``resample`` and ``fillcolor``, which torchvision 0.15 removed.

    ``INPUT.AFFINE.ENABLED True``: ``TypeError: RandomAffine.__init__() got an unexpected keyword argument 'resample'``.
    FastReID gets a copy of the module's names with this one class exchanged; torchvision itself stays as it is.
    """
    namespace = types.ModuleType(transforms.__name__, transforms.__doc__)
    namespace.__dict__.update(vars(transform_builder.T), RandomAffine=RandomAffine)
    transform_builder.T = namespace
