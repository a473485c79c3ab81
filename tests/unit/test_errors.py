import pickle

import pytest

from switchablecompat.errors import InputError, exit_on_input_error, name_some


def test_one_line_with_subject_rule_and_value():
    assert str(InputError("KEY", "must be small", 9)) == "KEY: must be small, found 9"
    assert str(InputError("file.csv", "must exist")) == "file.csv: must exist"


def test_it_survives_a_process_boundary():
    error = pickle.loads(pickle.dumps(InputError("KEY", "must be small", 9)))
    assert type(error) is InputError
    assert str(error) == "KEY: must be small, found 9"


def test_exit_codes(capsys):
    for main, code in ((lambda: None, 0), (lambda: 3, 3)):
        with pytest.raises(SystemExit) as stop:
            exit_on_input_error(main)
        assert stop.value.code == code

    def bad():
        raise InputError("KEY", "must be small", 9)

    with pytest.raises(SystemExit) as stop:
        exit_on_input_error(bad)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: KEY: must be small, found 9\n"


def test_some_names_and_how_many_more():
    assert name_some(["a", "b", "c", "d"]) == "a, b, c and 1 more"
    assert name_some(("a", 2), limit=2) == "a, 2"
    assert name_some([]) == ""
