"""The use cases behind the commands other than `optimize`."""
