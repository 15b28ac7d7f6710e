"""What a compiled step costs on hardware that is not there: hlo -> cost -> roofline -> report."""
