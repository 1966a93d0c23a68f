"""The live logs of running answers: written by one, followed by many, in one process or several."""
