"""``python -m muxi_identity.cli``: the command ``muxi``."""

from muxi_identity.cli.main import main

if __name__ == "__main__":
    main()
