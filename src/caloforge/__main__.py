"""Run the command line as ``python -m caloforge``."""

from caloforge.cli import main

if __name__ == "__main__":
    main()
