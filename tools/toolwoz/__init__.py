"""ToolWOZ."""
