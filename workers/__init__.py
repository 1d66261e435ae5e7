"""How jobs are computed: everything that runs on a contributor's host, and the protocol it shares with the server.

Nothing in here imports Django, and the server imports nothing of it but `workers.protocol`.
"""
