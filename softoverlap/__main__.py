"""`python -m softoverlap` is the command `softoverlap`."""

from softoverlap.app.cli import main

if __name__ == "__main__":
    main()
