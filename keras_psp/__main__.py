"""`python -m keras_psp` is the command `keras-psp`."""

from keras_psp.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
