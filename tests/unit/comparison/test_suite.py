"""What a suite file may say; every mistake is named by file and key."""

from pathlib import Path

import pytest
import yaml

from builders import TINY
from switchablecompat.comparison.runs import plan
from switchablecompat.comparison.suite import load_suite, parse_suite
from switchablecompat.errors import InputError

SUITES = sorted(Path("configs/suites").glob("*.yml"))


def content(**changes):
    methods = [
        {"name": "sfsc", "title": "SFSC", "kind": "switchable", "config": TINY, "opts": {"SOLVER.MAX_EPOCH": 3}},
        {"name": "unified", "kind": "separate", "config": TINY},
        {"name": "bct", "kind": "separate", "config": TINY, "reference": "unified"},
    ]
    return {"name": "toy", "seeds": [0, 1], "methods": methods, **changes}


def with_method(number, **changes):
    value = content()
    value["methods"][number].update(changes)
    return value


def test_a_whole_suite():
    suite = parse_suite(content(opts={"SOLVER.BASE_LR": 0.1, "MODEL.DEVICE": "cpu"}), "toy.yml")
    assert suite.opts == ("SOLVER.BASE_LR", "0.1", "MODEL.DEVICE", "cpu")
    assert suite.method("sfsc").opts == ("SOLVER.MAX_EPOCH", "3")
    assert [method.title for method in suite.methods] == ["SFSC", "unified", "bct"]
    assert (suite.ours, suite.independent) == ("sfsc", "unified")
    with pytest.raises(InputError, match=r"method: must be one of \['sfsc', 'unified', 'bct'\], found 'x'"):
        suite.method("x")


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_of_the_repository_is_valid(path):
    suite = load_suite(str(path))
    assert suite.name == path.stem
    assert suite.dataset
    assert len(plan(suite, "jobs", suite.seeds[:1])) == len(suite.methods)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ([], "toy.yml: must map keys"),
        (content(seed=0), "toy.yml: may have the keys .* found seed"),
        ({"name": "toy", "seeds": [0]}, "toy.yml: methods: must be given"),
        (content(name="../up"), "toy.yml: name: must be of letters"),
        (content(seeds=[0, 0]), r"toy.yml: seeds: must be a list of different .* found \[0, 0\]"),
        (content(test_per_train=-1), r"toy.yml: test_per_train: must be a number of at least 0, found -1"),
        (content(test_per_train=True), r"toy.yml: test_per_train: must be a number of at least 0, found True"),
        (content(seeds=[True]), "toy.yml: seeds: "),
        (content(seeds=0), "toy.yml: seeds: "),
        (content(ours="x"), "toy.yml: ours: must be one of .* found 'x'"),
        (content(methods=[]), "toy.yml: methods: must be a list of methods"),
        (content(opts=[1]), "toy.yml: opts: must map config keys to values"),
        (content(opts={"SEED": 1}), "toy.yml: opts: must not set what the comparison sets itself, found SEED"),
        (with_method(0, kind="joint"), r"methods\[0\].kind: must be one of .* found 'joint'"),
        (with_method(0, config="none.yml"), r"methods\[0\].config: must be an existing yaml file, found 'none.yml'"),
        (with_method(0, reference="unified"), r"methods\[0\].reference: needs kind separate"),
        (with_method(1, name="sfsc"), r"methods\[1\].name: must not be given twice, found sfsc"),
        (with_method(2, reference="sfsc"), r"methods\[2\].reference: must be a separate method .* found 'sfsc'"),
        (with_method(2, opts={"OUTPUT_DIR": "x"}), r"methods\[2\].opts: must not set .* found OUTPUT_DIR"),
        (with_method(2, weights="x"), r"methods\[2\]: may have the keys .* found weights"),
    ],
)
def test_mistakes_are_named(value, match):
    with pytest.raises(InputError, match=match):
        parse_suite(value, "toy.yml")


def test_files_that_are_no_suite(tmp_path):
    path = tmp_path / "toy.yml"
    with pytest.raises(InputError, match="--suite: must be an existing yaml file"):
        load_suite(str(path))
    path.write_text("name: [")
    with pytest.raises(InputError, match=r"toy.yml: must be valid yaml") as error:
        load_suite(str(path))
    assert "\n" not in str(error.value)
    path.write_text(yaml.safe_dump(content()))
    assert load_suite(str(path)).name == "toy"


def test_a_suite_takes_from_its_base_what_it_does_not_say(tmp_path):
    method = {"name": "a", "kind": "switchable", "config": TINY}
    base = {"name": "base", "seeds": [0], "methods": [method], "opts": {"SOLVER.MAX_EPOCH": 9, "SOLVER.BASE_LR": 0.1}}
    (tmp_path / "base.yml").write_text(yaml.dump(base))
    own = {"_BASE_": "base.yml", "name": "own", "seeds": [3, 4], "opts": {"SOLVER.BASE_LR": 0.2}}
    (tmp_path / "own.yml").write_text(yaml.dump(own))
    suite = load_suite(str(tmp_path / "own.yml"))
    assert (suite.name, suite.seeds, suite.methods[0].name) == ("own", (3, 4), "a")
    assert dict(zip(suite.opts[::2], suite.opts[1::2], strict=True)) == {
        "SOLVER.MAX_EPOCH": "9",
        "SOLVER.BASE_LR": "0.2",
    }
    for text, rule in (("_BASE_: no.yml", "_BASE_ must be an existing"), ("_BASE_: bad.yml", "must not be its own")):
        (tmp_path / "bad.yml").write_text(text)
        with pytest.raises(InputError, match=rf"bad.yml: {rule}"):
            load_suite(str(tmp_path / "bad.yml"))
