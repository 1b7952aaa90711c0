"""torchrun that ends with the process that started it, even if that was killed.

python -P -m caloforge.models.training.agent --standalone --nproc-per-node=2 --module caloforge train ...
"""

from __future__ import annotations

import os

from torch.distributed.run import main as torchrun

from caloforge.runner import RUNNER, end_with_runner


def main() -> None:
    """Start the processes; they are told to end by torchrun, which would replace one that ends by itself."""
    end_with_runner()
    os.environ.pop(RUNNER, None)
    # By default (torch 2.13) processes that are started anew meet in the store of those before, may
    # read addresses of the dead there, and then wait for them for half an hour.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    torchrun()


if __name__ == "__main__":
    main()
