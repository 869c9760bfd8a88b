"""Use cases: what the API, the CLI and later the dashboard and MCP all call."""
