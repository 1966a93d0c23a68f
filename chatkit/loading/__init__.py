"""Getting a model's files onto this machine: pull, verify, write what an engine needs."""
