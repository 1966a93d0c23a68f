"""The command line for fine-tuning; the library is `chatkit.finetuning`."""
