"""Conversations on their way in and out: chatkit's own files, ChatGPT's export, ShareGPT."""
