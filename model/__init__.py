"""The workstation's side: a torch network -> the three graphs of a .tod file."""
