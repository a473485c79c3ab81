"""The benchmark's command line, on networks that take no time."""

import json
import sys

import pytest
import torch

import benchmark
from builders import TINY
from switchablecompat.errors import exit_on_input_error


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            exit_on_input_error(benchmark.main)
        return stop.value.code, capsys.readouterr()

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)


def test_aggregation_writes_its_table(tmp_path, run):
    options = ("--repeats", 2, "--threads", 1, "--widths", "2", "--output", tmp_path)
    code, output = run("aggregation", "--config-file", TINY, *options)
    assert code == 0, output.err
    content = json.loads((tmp_path / "aggregation.json").read_text())
    assert [row["peer"] for row in content["rows"]] == ["TorchJD's PCGrad", "flatten-and-copy loop", "TorchJD's PCGrad"]
    assert content["settings"]["threads"] == 1
    for row in content["rows"]:
        assert f"**{row['ratio']:.3f}**" in output.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "command line: the following arguments are required: COMMAND (see --help)"),
        (("step", "--repeats", "0"), "command line: --repeats must be at least 1 (see --help)"),
        (("aggregation", "--widths", "1"), "--widths: must be numbers of at least 2, such as 2,4,8, found 1"),
        (("step", "--config-file", "nowhere.yml"), "--config-file: must be an existing yaml file, found nowhere.yml"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments, message, run):
    code, output = run(*arguments)
    assert code == 2
    assert output.err.splitlines()[-1] == f"error: {message}"
