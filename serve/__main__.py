"""`python -m serve`: the command `serve` where it is not installed."""

from serve.cli import main

if __name__ == "__main__":
    main(prog_name="serve")
