"""Questions of the exercises and how an answer is checked."""
