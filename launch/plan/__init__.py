"""What a compiled step costs on hardware that is not there: read by `hlo`, told by `report`."""
