//! Which lists merge, and by which key.
