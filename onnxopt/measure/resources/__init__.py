"""What a model needs beside time: memory and energy."""
