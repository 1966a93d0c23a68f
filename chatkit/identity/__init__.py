"""Who somebody is: accounts and their roles, passwords, sessions, sign-in elsewhere."""
