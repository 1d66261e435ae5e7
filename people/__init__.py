"""People: users, their roles and their API tokens. Who may do what; not what they own."""
