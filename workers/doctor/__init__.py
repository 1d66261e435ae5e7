"""`nexa doctor`: is this machine fit to work, and if not, what is to be done? One function a check, one file for what a check looks at."""
