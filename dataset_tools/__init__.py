"""The workstation's side of data: any source of pictures -> a prepared dataset folder."""
