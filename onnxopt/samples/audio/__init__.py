"""Sound as samples: files decoded one at a time, brought to one channel and to the model's rate."""
