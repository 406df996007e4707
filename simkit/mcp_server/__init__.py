"""simkit as an MCP server: the runs of a store, or the tools of a world, for other people's agents."""
