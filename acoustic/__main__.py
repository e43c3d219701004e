"""`python -m acoustic` is the same as the installed command `acoustic`."""

from acoustic.cli.main import main

if __name__ == "__main__":
    main()
