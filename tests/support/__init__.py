"""What several tests lean on: schemas of the shapes that people have, and what fills them with rows."""
