"""`python -m tod` runs the command `tod`, even if no launcher is on the path."""

from tod.cli.app import main

if __name__ == "__main__":
    main()
