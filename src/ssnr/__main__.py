"""`python -m ssnr`: the command line."""

from ssnr.cli import main

if __name__ == "__main__":
    main()
