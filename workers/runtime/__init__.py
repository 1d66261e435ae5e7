"""How a host runs one container: the interface, and the engines behind it."""
