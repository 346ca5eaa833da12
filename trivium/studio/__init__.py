"""The studio: a web app to watch a run, to talk to its models, to vote, and to start the next round.

It trains nothing: it starts the command line as a process of its own, and reads the run folder.
"""
