"""`python -m client` is `nexa`."""

from client.cli import main

if __name__ == "__main__":
    main()
