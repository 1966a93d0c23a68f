"""How one answer comes about: what the model is given, what it says, and that nothing is lost."""
