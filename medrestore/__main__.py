"""`python -m medrestore`: the command line where the console script is not on the path."""

from medrestore.cli import main

if __name__ == "__main__":
    main()
