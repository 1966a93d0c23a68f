"""Rows of messages and answers, sealed and opened."""

import json
from typing import Any

from chatkit.sealing import Seal
from chatkit.store.records import AnswerFacts, NodeRecord, message_from_text


def opened(row: Any, seal: Seal) -> NodeRecord:
    """Read a row of `with_facts`."""
    return NodeRecord(
        id=row.id,
        number=row.number,
        parent=row.parent,
        kind=row.kind,
        message=message_from_text(row.role, seal.open(row.sealed, f"node:{row.id}")),
        created=row.created,
        pinned=bool(row.pinned),
        facts=_facts(row, seal) if row.status is not None else None,
    )


def facts_to_row(id: str, facts: AnswerFacts, seal: Seal) -> dict[str, Any]:
    """Write how an answer came about as columns."""
    kind, sentence = facts.error or (None, None)
    return {
        "status": facts.status,
        "request_id": facts.request_id,
        "model": facts.model,
        "adapter": facts.adapter,
        "template_identity": facts.template_identity,
        "seed": facts.seed,
        "finish": facts.finish,
        "prompt_tokens": facts.prompt_tokens,
        "cached_tokens": facts.cached_tokens,
        "completion_tokens": facts.completion_tokens,
        "stage_seconds": json.dumps(dict(facts.stage_seconds)),
        "error_kind": kind,
        "sealed_error": seal.close(sentence, f"error:{id}") if sentence else None,
        "sealed_sampling": seal.close(json.dumps(dict(facts.sampling)), f"sampling:{id}"),
        "flushed": facts.flushed,
    }


def _facts(row: Any, seal: Seal) -> AnswerFacts:
    error = seal.open(row.sealed_error, f"error:{row.id}") if row.sealed_error else None
    sampling = row.sealed_sampling
    return AnswerFacts(
        status=row.status,
        model=row.model,
        request_id=row.request_id,
        adapter=row.adapter,
        template_identity=row.template_identity,
        seed=row.seed,
        finish=row.finish,
        prompt_tokens=row.prompt_tokens,
        cached_tokens=row.cached_tokens,
        completion_tokens=row.completion_tokens,
        stage_seconds=json.loads(row.stage_seconds or "{}"),
        error=(row.error_kind, error) if error is not None else None,
        flushed=row.flushed,
        sampling=json.loads(seal.open(sampling, f"sampling:{row.id}")) if sampling else {},
    )
