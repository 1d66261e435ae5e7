"""Invitations to the portal: who is asked to sign up where not everybody may."""
