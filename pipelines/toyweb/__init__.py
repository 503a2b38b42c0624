"""Make a small web whose truth is known: scenes, faults, a loopback server, a model pack."""
