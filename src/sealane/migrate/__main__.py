"""Run ``python -m sealane.migrate``."""

import sys

from sealane.migrate.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
