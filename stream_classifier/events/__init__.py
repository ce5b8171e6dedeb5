"""What an event is: reading the text out of it, writing the result into it, or putting it aside with a reason."""
