"""What every adapter needs to reach the outside: guarded connections, files, markdown."""
