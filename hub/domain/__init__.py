"""What the hub does, whichever door it is asked through. Functions take the session and never commit; the edge does."""
