"""To which GitLab the token of an account may go, and the jobs that are held because theirs is another."""
