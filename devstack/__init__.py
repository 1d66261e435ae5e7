"""The development stack: what `make demo`, `make up` and the tests start on one machine, and the images that they need.

Nothing here runs in production and nothing else imports it.
"""
