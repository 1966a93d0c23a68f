"""The trainers: TRL's, given our own token ids, and watched."""
