import pytest
import torch
from fastreid.modeling.meta_arch import build_model

from builders import R18, batch, images, reference_files, tiny_config, tiny_model
from switchablecompat.engine import SwitchableTrainer
from switchablecompat.errors import InputError
from switchablecompat.modeling.calibration import calibrate_bn

INFLUENCE = ("MODEL.LOSSES.NAME", "('CompatibleLoss', 'InfluenceLoss')")
ASYMMETRIC = ("MODEL.LOSSES.NAME", "('CompatibleLoss', 'AsymmetricLoss')")
NARROW = ("MODEL.SWITCHABLE.ONLY_WIDTH", 0.25)
LARGEST = ("MODEL.SWITCHABLE.ONLY_WIDTH", 1.0)


def student(files, *opts, loss=INFLUENCE):
    model = tiny_model(*NARROW, *loss, *files, *opts).train()
    model.prepare_training()
    return model


def reference_of(model):
    return model.teachers.reference(model.device)


@pytest.mark.parametrize(
    ("opts", "config_file"),
    [
        (LARGEST, "configs/quick/sfsc_tiny.yml"),
        (("MODEL.SWITCHABLE.ONLY_WIDTH", 0.5), "configs/quick/sfsc_tiny.yml"),
        ((), "configs/quick/sfsc_tiny.yml"),
        (("MODEL.BACKBONE.DEPTH", "18x"), "configs/quick/sfsc_tiny.yml"),
        ((), R18),
    ],
    ids=["largest", "another width", "full model of a switchable one", "another depth", "another backbone"],
)
def test_its_features_are_those_of_the_run(tmp_path, opts, config_file):
    trained, files = reference_files(tmp_path, *opts, config_file=config_file)
    model = student(files)
    x = images(3, 64, 32)
    expected = trained.eval()({"images": x}).detach()
    features = reference_of(model).features(model.preprocess_image(x))
    assert torch.equal(features, expected)
    assert not features.requires_grad
    assert torch.equal(reference_of(model).classifier, trained.heads.weight)


def test_a_plain_fastreid_model_is_a_reference(tmp_path):
    cfg = tiny_config(config_file=R18).clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME = "Baseline", "EmbeddingHead"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    plain = build_model(cfg).eval()
    (tmp_path / "config.yaml").write_text(cfg.dump())
    torch.save({"model": plain.state_dict()}, tmp_path / "m.pth")
    model = student(
        ["MODEL.REFERENCE.CONFIG_FILE", tmp_path / "config.yaml", "MODEL.REFERENCE.WEIGHTS", tmp_path / "m.pth"]
    )
    x = images(2, 64, 32)
    assert torch.equal(reference_of(model).features(model.preprocess_image(x)), plain({"images": x.clone()}))
    assert (reference_of(model).cosine, reference_of(model).scale) == (True, 64)  # CircleSoftmax


def test_nothing_moves_it_and_it_is_no_part_of_the_model(tmp_path):
    _, files = reference_files(tmp_path, *LARGEST)
    model = student(files)
    reference = reference_of(model)
    before = {key: value.clone() for key, value in reference.state_dict().items()}
    optimizer, _ = SwitchableTrainer.build_optimizer(tiny_config(), model)
    for _ in range(3):
        model.train()
        reference.train()
        sum(model(batch()).values()).backward()
        optimizer.step()
    calibrate_bn(model, [batch()])
    assert all(torch.equal(value, before[key]) for key, value in reference.state_dict().items())
    assert not any(module.training for module in reference.modules())
    assert not any(p.requires_grad or p.grad is not None for p in reference.parameters())
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in reference.parameters()}
    assert set(model.state_dict()) == set(tiny_model(*NARROW).state_dict())
    assert not set(map(id, reference.modules())) & set(map(id, model.modules()))


def test_it_follows_the_model_to_another_dtype_and_sees_each_batch_once(tmp_path, monkeypatch):
    _, files = reference_files(tmp_path, *LARGEST)
    model = tiny_model(*ASYMMETRIC, *files).train()  # four widths, one reference
    seen = []
    reference = reference_of(model)
    monkeypatch.setattr(type(reference), "features", lambda self, x: seen.append(x) or torch.randn(len(x), 128))
    losses = model(batch())
    assert {f"loss_asymmetric_{name}" for name in model.switch.names} < set(losses)
    assert len(seen) == 1
    model.double()
    assert reference.classifier.dtype == torch.float64


def test_loading_it_does_not_shift_the_random_numbers_of_the_run(tmp_path):
    _, files = reference_files(tmp_path, *LARGEST)
    model = tiny_model(*NARROW, *INFLUENCE, *files)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    model.prepare_training()
    assert torch.equal(torch.rand(1), expected)


def test_evaluation_needs_no_reference():
    gone = ("MODEL.REFERENCE.CONFIG_FILE", "gone.yml", "MODEL.REFERENCE.WEIGHTS", "gone.pth")
    model = tiny_model(*NARROW, *INFLUENCE, *gone).eval()
    assert model(images(2)).shape == (2, 128)
    with pytest.raises(
        InputError, match=r"^MODEL.REFERENCE.CONFIG_FILE: must be an existing yaml file, found gone.yml"
    ):
        model.prepare_training()


def test_what_does_not_fit_is_refused_with_the_reason(tmp_path):
    def folder(name, *opts, **kwargs):
        (tmp_path / name).mkdir()
        return reference_files(tmp_path / name, *opts, **kwargs)[1]

    good = folder("good", *LARGEST)
    cases = [
        (folder("classes", "MODEL.HEADS.NUM_CLASSES", 5), "must classify the 7 training identities", "5 identities"),
        (folder("dimension", "MODEL.HEADS.EMBEDDING_DIM", 64), "^dimension: must be the same to compare features",
         "128 in this config and 64 in MODEL.REFERENCE.WEIGHTS .*model_final"),
        (folder("pixels", "MODEL.PIXEL_MEAN", "[0.0, 0.0, 0.0]"), "^preprocessing.pixel_mean: must be the same",
         r"103.53\] in this config and \[0.0, 0.0, 0.0\] in MODEL.REFERENCE.WEIGHTS .*model_final"),
        ([*good[:3], tmp_path / "dimension" / "model_final.pth"], "must be a checkpoint of .*these tensors do not fit",
         "backbone.bn1.narrow"),
        ([*good[:3], "gone.pth"], "gone.pth: must be an existing checkpoint", ""),
        ([good[0], good[3], *good[2:]], "must be a valid config", ""),
    ]  # fmt: skip
    for files, rule, found in cases:
        with pytest.raises(InputError, match=f"{rule}.*{found}") as error:
            student(files)
        assert "MODEL.REFERENCE" in str(error.value) or "model_final" in str(error.value)
        assert "\n" not in str(error.value)


def test_the_asymmetric_loss_takes_a_reference_of_other_identities(tmp_path):
    _, files = reference_files(tmp_path, *LARGEST, "MODEL.HEADS.NUM_CLASSES", 5)
    losses = student(files, loss=ASYMMETRIC)(batch())
    assert set(losses) == {"loss_compat_w025", "loss_asymmetric_w025"}


def test_architectures_with_several_heads_are_refused(tmp_path):
    _, files = reference_files(tmp_path, *LARGEST)
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text().replace("META_ARCHITECTURE: SwitchableBaseline", "META_ARCHITECTURE: MGN"))
    with pytest.raises(InputError, match=r"one backbone and one head, .*found MGN"):
        student(files)
