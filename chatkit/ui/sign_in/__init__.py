"""The door of the app: sign-in, one's own account, and who is in front of a page."""
