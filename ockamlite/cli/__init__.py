"""The ``ockamlite`` command. Modules of commands are imported when their command is called."""
