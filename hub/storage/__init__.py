"""Where large blobs live beyond one machine: content-addressed objects behind one small protocol."""
