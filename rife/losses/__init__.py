"""What training minimises: the paper's losses and those of later releases."""
