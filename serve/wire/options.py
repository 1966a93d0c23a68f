"""What the wire server allows, as TGI's launcher names it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WireOptions:
    """Limits and behaviour of a server.

    Args:
        model_id: the name under which the model is shown.
        max_input_tokens: the longest prompt.
        max_total_tokens: the longest prompt and answer together.
        api_key: what callers must show as a bearer; None lets everyone in.
        tgi_compat: behave as TGI also where we find that wrong; see docs/serving.md.
        max_concurrent_requests: how many are worked on at once; the next one is refused.
        max_best_of: how many answers one request may draw.
        max_stop_sequences: how many stop strings one request may have.
        max_top_n_tokens: how many likely tokens it may ask for beside each written one.
        max_client_batch_size: how many prompts one completion request may hold.
        payload_limit: the largest body in bytes.
        grammar: whether answers may be bound to a JSON schema or a regular expression.
        keep_alive_seconds: after so long a silence a stream says that it is alive.
        patience_seconds: how long a client may take to send its head, and again its body.
        drain_seconds: how long running answers may go on after the server was told to end.
    """

    model_id: str
    max_input_tokens: int
    max_total_tokens: int
    api_key: str | None = None
    tgi_compat: bool = False
    max_concurrent_requests: int = 128
    max_best_of: int = 2
    max_stop_sequences: int = 4
    max_top_n_tokens: int = 5
    max_client_batch_size: int = 4
    payload_limit: int = 2_000_000
    grammar: bool = True
    keep_alive_seconds: float = 15.0
    patience_seconds: float = 10.0
    drain_seconds: int = 90

    def __repr__(self) -> str:
        return f"<WireOptions {self.model_id}>"
