"""Where the subject goes on the canvas: the options, the plan (pure geometry), and the pixels moved by it."""
