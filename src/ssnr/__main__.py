"""`python -m ssnr`: the command line."""

from ssnr.cli.app import main

if __name__ == "__main__":
    main()
