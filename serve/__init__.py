"""The servers: the chat page, and engines over the wires of TGI and OpenAI."""
