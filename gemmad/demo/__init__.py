"""The bundled model: a tiny trained Gemma 3 with vision, in `checkpoint/`, laid out as on the hub."""
