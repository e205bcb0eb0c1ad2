"""GitLab groups and projects, and the jobs at them."""
