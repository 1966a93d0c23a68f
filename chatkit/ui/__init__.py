"""The app in the browser, built on Panel."""
