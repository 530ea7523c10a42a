"""The training entry point that SageMaker calls: the same program as `wrn train`, with the same flags."""

import sys

from wrn.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
