"""`python -m softoverlap` is the command `softoverlap`."""

from softoverlap.cli import main

if __name__ == "__main__":
    main()
