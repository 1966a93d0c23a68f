"""LoRA adapters: what their folders say, and their form for llama.cpp."""
