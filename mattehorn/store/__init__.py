"""Where results are kept: a folder or a bucket behind one interface; which key a result gets, and its record."""
