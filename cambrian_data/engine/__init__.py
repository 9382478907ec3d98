"""The data engine: topics, search, pages, figures, pictures, questions; a stage a module."""
