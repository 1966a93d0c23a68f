"""`python -m benchmarks [NAME …]`: run the benchmarks and print their figures."""

import sys

from benchmarks import (
    app,
    app_memory,
    context,
    cuda,
    embedded,
    finetune,
    options,
    pool,
    prefix,
    research,
    startup,
    store,
    streams,
    training_data,
    wire,
)
from benchmarks import eval as evaluation

ALL = {
    "embedded": embedded.run,
    "research": research.run,
    "prefix": prefix.run,
    "startup": startup.run,
    "app": app.run,
    "app_memory": app_memory.run,
    "context": context.run,
    "store": store.run,
    "streams": streams.run,
    "wire": wire.beside_llamacpp,
    "overhead": wire.overhead,
    "proxy": wire.beside_litellm,
    "pool": pool.killed,
    "affinity": pool.affinity,
    "options": options.run,
    "finetune": finetune.run,
    "training_data": training_data.run,
    "eval": evaluation.run,
    "cuda": cuda.run,
}


def main() -> None:
    """Run the named benchmarks, all of them without names."""
    for name in sys.argv[1:] or ALL:
        print(f"\n{name}", flush=True)
        for line in ALL[name]():
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
