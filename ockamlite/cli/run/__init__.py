"""What the commands do: imported when a command is called, because it needs the whole of ockamlite."""
