"""What is trained on: data sets, loaded onto a device."""
