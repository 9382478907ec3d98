"""Writers of questions and answers: those that ask a language model and one that needs none."""
