"""To which GitLab the token of an account may go."""
