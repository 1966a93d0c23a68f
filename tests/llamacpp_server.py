"""llama.cpp's own HTTP server with the default model, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatkit.catalogue import find
from chatkit.loading.folder import require_pulled

SERVER = """
import sys
from xllamacpp import CommonParams, Server
parameters = CommonParams()
parameters.model.path, parameters.model_alias = sys.argv[1], {"smollm2"}
parameters.n_ctx, parameters.n_parallel, parameters.kv_unified = 8192, 4, True
parameters.cpuparams.n_threads, parameters.cpuparams_batch.n_threads = 1, 2
parameters.n_batch = parameters.n_ubatch = 256
parameters.port, parameters.ui, parameters.verbosity = 0, False, -1
server = Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def llamacpp_server() -> Iterator[str]:
    """Start it with the engine's own settings, and give its address."""
    gguf: Path = require_pulled(find("smollm2-135m"), "llamacpp").gguf
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(gguf)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout
        yield process.stdout.readline().strip().rstrip("/")
    finally:
        process.kill()
        process.communicate()
