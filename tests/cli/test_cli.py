import pytest

from keras_psp.cli import SUBCOMMANDS, main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "none.pth"], "none.pth doesn't exist"),
        (["convert", "a.pth", "--output", "a.h5"], "the name must end in .keras"),
        (["convert", "a.keras"], "a.keras is a .keras file already"),
        (["fetch", "pspnet"], "there is no preset 'pspnet'"),
    ],
)
def test_errors_are_one_sentence(arguments, message, capsys):
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_help_lists_every_subcommand(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"\n    {name} " in printed for name in SUBCOMMANDS)
