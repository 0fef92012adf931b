"""``ockamlite demo``: a web service behind two gateways and a relay, all on this machine."""
