"""The wall: who contributed how much, from accepted replicas and their payments, and shown only as far as each person chose."""
