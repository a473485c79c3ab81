from builders import tiny_config, tiny_model
from switchablecompat.provenance import family_digest, versions
from switchablecompat.settings import feature_settings

SETTINGS = feature_settings(tiny_config())


def test_the_digest_is_of_the_feature_space_and_of_nothing_else():
    model = tiny_model()
    digest = family_digest(model.state_dict(), SETTINGS)
    assert digest.startswith("sha256:")
    assert len(digest) == 71
    assert family_digest(dict(reversed(model.state_dict().items())), SETTINGS) == digest
    model.heads.weight.data += 1
    assert family_digest(model.state_dict(), SETTINGS) == digest, "features do not depend on the classifier"
    model.backbone.bn1.narrow["w025"].running_mean[0] += 1e-6
    assert family_digest(model.state_dict(), SETTINGS) != digest


def test_a_checkout_before_the_wheel_is_named(monkeypatch):
    import importlib.util
    from types import SimpleNamespace

    assert versions()["fastreid"] != "checkout"
    elsewhere = SimpleNamespace(origin="/home/someone/fast-reid/fastreid/__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: elsewhere)
    assert versions()["fastreid"] == "checkout"


def test_versions_name_what_a_result_depends_on():
    assert {"python", "torch", "fastreid", "switchablecompat"} <= set(versions())
