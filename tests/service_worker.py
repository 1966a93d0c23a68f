"""A process of its own that runs the service, for tests that kill it.

    service_worker.py answer COUNT                      asks in COUNT conversations, and watches
    service_worker.py append CONVERSATION PARENT COUNT  asks COUNT times after the same message

It writes what it knows as lines of JSON. SIGTERM ends it in good order.
"""

import asyncio
import json
import signal
import sys
import time
from typing import Any

from scripted_service import SCRIPTED, USER, ScriptedModels, slow_script

from chatkit.chat import ChatService
from chatkit.engines.scripted import ScriptedEngine
from chatkit.service import open_chat_service
from chatkit.settings import settings


def say(**facts: Any) -> None:
    """Write one line, at once."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


async def answer(service: ChatService, name: str) -> None:
    """Ask in a new conversation, and say what somebody who watches sees."""
    conversation = await service.begin(USER)
    turn = await service.send(USER, conversation, name, SCRIPTED, client_id=name)
    say(name=name, conversation=conversation, question=turn.question, answer=turn.answer)
    async for event in service.subscribe(USER, conversation, turn.answer):
        say(name=name, seq=event.seq, kind=event.kind, text=event.text, at=time.monotonic())


async def append(service: ChatService, conversation: str, parent: str, name: str) -> None:
    """Ask after a message that others ask after, too."""
    turn = await service.send(USER, conversation, name, SCRIPTED, parent=parent)
    say(name=name, conversation=conversation, question=turn.question, answer=turn.answer)


async def main(command: str, *arguments: str) -> None:
    """Do what the command line says, and wait for the signal to end."""
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    models = ScriptedModels(ScriptedEngine(slow_script()))
    service = await open_chat_service(settings(), models, titles=False)
    if command == "answer":
        (count,) = arguments
        work = [answer(service, f"question {number}") for number in range(int(count))]
    else:
        conversation, parent, count = arguments
        work = [append(service, conversation, parent, f"q{number}") for number in range(int(count))]
    asking = asyncio.gather(*work)
    say(ready=True)
    await end.wait()
    await service.close()
    await asking


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
