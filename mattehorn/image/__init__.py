"""Bytes to pixels and back: limits, modes, EXIF, ICC profiles, dpi; png, webp, jpg, avif and zip."""
