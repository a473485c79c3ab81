"""The tables show the profile's numbers; the profile itself is checked in tests/integration/test_profile_tool.py."""

from switchablecompat.deploy.profiles.submodels import render_profile


def test_tables_show_these_numbers():
    timings = {"low": 1.0, "median": 2.0, "high": 3.0}
    entries = [
        {
            "width": width,
            "parameters": parameters,
            "macs": 10 * parameters,
            "checkpoint_bytes": 4 * parameters,
            "onnx_bytes": 5 * parameters,
            "latency_ms": {name: {"8": {**timings, "relative": ratio}} for name in ("pytorch", "onnxruntime")},
        }
        for width, parameters, ratio in ((0.5, 250, 0.125), (1.0, 1000, 1.0))
    ]
    versions = {"python": "3", "torch": "2", "onnxruntime": "1", "switchablecompat": "0"}
    text = render_profile(
        {"submodels": entries, "batches": [8], "input_size": [64, 32], "repeats": 7, "threads": 1,
         "versions": versions, "hardware": {"cpu": "A", "cores": 2}}
    )  # fmt: skip
    assert "| w050 | 250 | 0.250 | 2,500 | 0.250 | 1,000 | 0.250 | 1,250 | 0.250 |" in text
    assert "| onnxruntime | 8 | w050 | 2.000 | 1.000 to 3.000 | 0.250 | 0.125 |" in text
    assert "Images of 64x32" in text
    assert "7 repeats in turns, 1 thread(s) on 2 cores of A; python 3" in text
