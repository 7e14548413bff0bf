"""Others' contracts over the native path: remove.bg, rembg, the source articles."""
