"""`python -m tod` is the command `tod`, also where no launcher is on the path."""

from tod.cli.app import main

if __name__ == "__main__":
    main()
