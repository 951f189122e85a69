"""Where the bytes of blobs live: in the database's table, or as objects, behind one small protocol."""
