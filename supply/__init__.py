"""What MsgCore is made of and whether it is known to be broken: `make sbom`, `make audit`."""
