"""`viable repl`: a program written in turns, by the user and the model, in a terminal."""
