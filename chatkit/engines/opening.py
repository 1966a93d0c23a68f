"""Opens the engine that a model's name asks for."""

import json
import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from chatkit.adapters.gguf import adapter_for_llamacpp
from chatkit.adapters.reading import Adapter, check_adapter, is_adapter, read_adapter
from chatkit.catalogue import Entry, entry_of, find
from chatkit.engine import NEUTRAL, Engine
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.llamacpp_server import EmbeddedOptions, Use
from chatkit.engines.pool.configuration import Server
from chatkit.engines.pool.engine import open_pool
from chatkit.engines.remote.opening import Local, open_openai, open_tgi
from chatkit.engines.scripted import ScriptedEngine, byte_tokenizer
from chatkit.engines.transformers import TransformersEngine
from chatkit.engines.weights import Quantize, load_weights
from chatkit.errors import InputError, ModelFileError, UnknownModel, Unsupported
from chatkit.hardware import probe
from chatkit.loading.bases import Base, checksum_of, find_base
from chatkit.loading.folder import folder_named, require_pulled, require_reference
from chatkit.loading.materialise import materialise_tokenizer
from chatkit.loading.progress import Silent
from chatkit.memory import DEFAULT_CONTEXT, Workload, estimate, fitting_context, load_of
from chatkit.naming import ModelName, parse_name
from chatkit.sampling import Sampling
from chatkit.template import ChatTemplate
from chatkit.tokenizer import read_tokenizer


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a model.

    Args:
        quantize: 8- or 4-bit weights in the transformers engine; None for the model's own.
        context: the window in tokens of the embedded engine; None takes the model's own, at most
            8,192 and no more than fits into a quarter of the free memory.
        force: load even when the estimate says that it does not fit.
        adapters: names and folders of LoRA adapters, of which a request may choose one.
        embedded: what the embedded engine does beside what it must.
        api_key: what is shown to a server; None takes the one of the environment.
        use: who asks the embedded engine: a chat page, one person's session in a notebook, a
            script or a terminal, or many at once, as on a server; it is quickest for that.
    """

    quantize: Quantize | None = None
    context: int | None = None
    force: bool = False
    adapters: tuple[tuple[str, Path], ...] = ()
    embedded: EmbeddedOptions = field(default_factory=EmbeddedOptions)
    api_key: str | None = field(default=None, repr=False)
    use: Use = "page"


SESSION = LoadOptions(use="session")
"""As one person's session in a notebook, a script or a terminal loads a model."""
MANY = LoadOptions(use="many")
"""As evaluations load a model, which ask it several questions at once."""


def open_engine(name: str, options: LoadOptions | None = None) -> Engine:
    """Load a model and give its engine; takes seconds, so call it on a thread.

    Args:
        name: see `chatkit.naming`.
        options: how to load it.

    Raises:
        UnknownModel: nothing has this name.
        NotPulled: its files are not on this machine.
        Unsupported: the engine cannot do what the options ask for.
        ModelFileError: its files are corrupt, or an adapter is of another base.
    """
    options, parsed = options or LoadOptions(), parse_name(name)
    match parsed.kind:
        case "scripted":
            return ScriptedEngine(name=name)
        case "tgi":
            _refuse_load_options(name, options)
            return open_tgi(parsed, options.api_key, _local)
        case "openai":
            _refuse_load_options(name, options)
            return open_openai(parsed, options.api_key, _local, NEUTRAL)
        case "pool":
            _refuse_load_options(name, options)
            return open_pool(name, parsed.path, _open_server)
        case "catalogue":
            return _open_entry(find(parsed.target), parsed, options)
        case "hub":
            _refuse_embedded(parsed)
            folder = require_reference(parsed.target)
            return _open_checkpoint(name, folder.checkpoint, folder.tokenizer, None, options)
        case "path":
            return _open_path(parsed, options)


def _open_server(server: Server) -> Engine:
    if parse_name(server.model).kind == "pool":
        raise InputError(f"The server {server.name} is a pool itself; name its servers instead.")
    key = server.api_key_env
    if key is not None and not os.environ.get(key):
        raise InputError(f"The server {server.name} needs a key; put it into {key}.")
    return open_engine(server.model, LoadOptions(api_key=os.environ.get(key) if key else None))


def _refuse_load_options(name: str, options: LoadOptions) -> None:
    loading = (options.quantize, options.context, options.adapters)
    if any(loading) or options.embedded != EmbeddedOptions():
        raise Unsupported(
            f"How {name} is loaded is the server's to say; leave quantize, context, adapters and "
            "the embedded engine's options out, or give them to the server."
        )


def _local(name: str) -> Local:
    """Read the template and the defaults of a model on this machine, not its weights."""
    parsed = parse_name(name)
    if parsed.kind == "catalogue":
        entry = find(parsed.target)
        folder = require_pulled(entry, parsed.engine or entry.engines[0])
        return Local(_template(folder.tokenizer, entry), _defaults(entry))
    if parsed.kind == "hub":
        if known := entry_of(parsed.target):
            return _local(known.name)
        folder = require_reference(parsed.target)
        return Local(_template(folder.tokenizer, None), _published_defaults(folder.checkpoint))
    if parsed.kind == "path" and (parsed.path / "tokenizer.json").exists():
        return Local(_template(parsed.path, None), _published_defaults(parsed.path))
    if parsed.kind == "scripted":
        return Local(ChatTemplate(byte_tokenizer()), NEUTRAL)
    raise UnknownModel(f"{name} has no tokenizer here; give a pulled model or a checkpoint folder.")


def _open_entry(entry: Entry, name: ModelName, options: LoadOptions) -> Engine:
    engine = name.engine or ("transformers" if options.quantize else entry.engines[0])
    if engine == "llamacpp":
        folder = require_pulled(entry, engine)
        return _open_gguf(name.text, folder.gguf, folder.tokenizer, entry, options)
    return _open_base(name.text, find_base(name.target), options)


def _open_base(
    name: str, base: Base, options: LoadOptions, adapter: Adapter | None = None
) -> Engine:
    return _open_checkpoint(name, base.checkpoint, base.tokenizer, base.entry, options, adapter)


def _open_path(name: ModelName, options: LoadOptions) -> Engine:
    path = name.path.resolve()
    if path.is_file():
        return _open_gguf_file(name, path, options)
    if is_adapter(path):
        return _open_adapter(name, read_adapter(path), options)
    _refuse_embedded(name)
    if not (path / "config.json").exists():
        raise ModelFileError(
            f"{path} holds neither a checkpoint (config.json) nor an adapter "
            "(adapter_config.json); give the folder of one."
        )
    return _open_checkpoint(name.text, path, path, None, options)


def _refuse_embedded(name: ModelName) -> None:
    if name.engine == "llamacpp":
        raise Unsupported(
            f"{name.target} is a checkpoint, which the embedded engine cannot run; leave "
            "@llamacpp out, or name a GGUF file."
        )


def _open_gguf_file(name: ModelName, path: Path, options: LoadOptions) -> Engine:
    if name.engine == "transformers":
        raise Unsupported(f"{path.name} is a GGUF file; open it with @llamacpp.")
    facts = path.stat()
    key = sha256(f"{path}:{facts.st_size}:{facts.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = folder_named(f"local--{path.stem}--{key}")
    folder.staging.mkdir(parents=True, exist_ok=True)
    materialise_tokenizer(path, folder.tokenizer, folder.staging, Silent())
    return _open_gguf(name.text, path, folder.tokenizer, None, options)


def _open_adapter(name: ModelName, adapter: Adapter, options: LoadOptions) -> Engine:
    base = parse_name(adapter.base)
    if "llamacpp" in (name.engine, base.engine):
        return _open_adapter_embedded(name, adapter, base, options)
    return _open_base(name.text, find_base(adapter.base), options, adapter)


def _open_adapter_embedded(
    name: ModelName, adapter: Adapter, base: ModelName, options: LoadOptions
) -> Engine:
    entry = entry_of(base.target) if base.kind == "hub" else None
    if base.kind == "catalogue":
        entry = find(base.target)
    if entry is None or "llamacpp" not in entry.engines:
        raise Unsupported(
            f"The base of {name.text} is {adapter.base}, of which there is no GGUF file here; open "
            "it with @transformers."
        )
    folder = require_pulled(entry, "llamacpp")
    return _open_gguf(name.text, folder.gguf, folder.tokenizer, entry, options, adapter)


def _read_adapters(options: LoadOptions) -> dict[str, Adapter]:
    return {name: read_adapter(folder) for name, folder in options.adapters}


def _open_gguf(
    name: str,
    gguf: Path,
    tokenizer: Path,
    entry: Entry | None,
    options: LoadOptions,
    adapter: Adapter | None = None,
) -> Engine:
    if options.quantize:
        raise Unsupported(
            f"quantize={options.quantize!r} is for @transformers; for the embedded engine choose a "
            "quantised entry such as smollm2-135m-q4."
        )
    adapters = {**_read_adapters(options), **({adapter.name: adapter} if adapter else {})}
    template = _template(tokenizer, entry)
    for one in adapters.values():
        check_adapter(one, name, str(template.identity))
    return LlamaCppEngine(
        name,
        gguf,
        template,
        _context(tokenizer, entry, options),
        _defaults(entry),
        {each: adapter_for_llamacpp(one, gguf) for each, one in adapters.items()},
        adapter.name if adapter else None,
        options=options.embedded,
        use=options.use,
    )


def _open_checkpoint(
    name: str,
    checkpoint: Path,
    tokenizer: Path,
    entry: Entry | None,
    options: LoadOptions,
    adapter: Adapter | None = None,
) -> Engine:
    if options.embedded != EmbeddedOptions():
        raise Unsupported(
            f"Speculation and the kinds of cache are the embedded engine's, and {name} runs on "
            "transformers; leave them out, or name @llamacpp."
        )
    if options.context is not None:
        raise Unsupported(
            f"The window of {name} is the model's own; only the embedded engine takes a context."
        )
    template = _template(tokenizer, entry)
    adapters = {**_read_adapters(options), **({adapter.name: adapter} if adapter else {})}
    for one in adapters.values():
        check_adapter(one, name, str(template.identity), checksum_of(checkpoint))
    folders = [one.folder for one in adapters.values()]
    model = load_weights(checkpoint, options.quantize, folders)
    defaults = _defaults(entry) if entry else _published_defaults(checkpoint)
    default = adapter.name if adapter else None
    return TransformersEngine(name, model, template, defaults, tuple(adapters), default)


def _template(tokenizer: Path, entry: Entry | None) -> ChatTemplate:
    return ChatTemplate(read_tokenizer(tokenizer), entry.template.jinja if entry else None)


def _context(tokenizer: Path, entry: Entry | None, options: LoadOptions) -> int:
    config = json.loads((tokenizer / "tokenizer_config.json").read_text("utf-8"))
    most = entry.context if entry else int(config["model_max_length"])
    if options.context is None:
        return (
            fitting_context(entry, min(most, DEFAULT_CONTEXT))
            if entry
            else min(most, DEFAULT_CONTEXT)
        )
    if not 1 <= options.context <= most:
        raise InputError(f"The context is {options.context} tokens; this model takes 1 to {most}.")
    return options.context


def _defaults(entry: Entry | None) -> Sampling:
    if entry is None:
        return NEUTRAL
    return Sampling(**entry.sampling.model_dump()).over(NEUTRAL)


def _published_defaults(checkpoint: Path) -> Sampling:
    """Take the sampling that a checkpoint's publisher put into generation_config.json."""
    path = checkpoint / "generation_config.json"
    config = json.loads(path.read_text("utf-8")) if path.exists() else {}
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    if not config.get("do_sample"):
        return NEUTRAL
    return Sampling(**{name: config[name] for name in names if config.get(name)}).over(NEUTRAL)


def memory_needed(name: str, options: LoadOptions) -> int:
    """Estimate the bytes that loading a model will take.

    Raises:
        UnknownModel: nothing has this name.
    """
    parsed = parse_name(name)
    if parsed.kind == "catalogue":
        entry = find(parsed.target)
        engine = parsed.engine or ("transformers" if options.quantize else entry.engines[0])
        workload = Workload(options.quantize, options.context, engine=engine)
        parts = estimate(entry, load_of(entry, workload, probe().kind))
        return parts.total - parts.overhead
    if parsed.kind == "hub":
        return _weights_on_disk(require_reference(parsed.target).checkpoint)
    return _weights_on_disk(parsed.path) if parsed.kind == "path" else 0


def _weights_on_disk(path: Path) -> int:
    """Add up the weight files: without architecture numbers they are the best estimate."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))
